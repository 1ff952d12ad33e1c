#include "cli.h"

#include <string.h>

enum {
    KEY_IMAGE = 0x1100,
    KEY_TEXT,
    KEY_SEPARATOR,
    KEY_QUOTE,
    KEY_MAX_LINES,
    KEY_TYPES,
    KEY_ENCODING,
    KEY_LABEL
};

static char parse_separator(struct argp_state *state, const char *arg)
{
    if (strcmp(arg, "tab") == 0 || strcmp(arg, "\\t") == 0) return '\t';
    if (strlen(arg) != 1 || strchr("\"\\\r\n", *arg))
        argp_error(state, "--separator = %s, want one character, or tab", arg);
    return *arg;
}

static reco_quote parse_quote(struct argp_state *state, const char *arg)
{
    static const char *const names[] = {"auto", "yes", "no"};
    for (int i = 0; i < 3; i++)
        if (strcmp(arg, names[i]) == 0) return (reco_quote)i;
    argp_error(state, "--quote = %s, want yes, no or auto", arg);
    return RECO_QUOTE_AUTO;
}

static error_t parse_table_option(int key, char *arg, struct argp_state *state)
{
    reco_table_opts *table = &((cli *)state->input)->table;
    switch (key) {
    case KEY_IMAGE:
        table->image_column = arg;
        return 0;
    case KEY_TEXT:
        table->text_column = arg;
        return 0;
    case KEY_LABEL:
        table->label_column = arg;
        return 0;
    case KEY_SEPARATOR:
        table->separator = parse_separator(state, arg);
        return 0;
    case KEY_QUOTE:
        table->quote = parse_quote(state, arg);
        return 0;
    case KEY_MAX_LINES:
        table->max_lines = cli_size(state, "--max-lines", arg, 1, 1000000);
        return 0;
    case KEY_TYPES:
        table->types = arg;
        return 0;
    case KEY_ENCODING:
        table->encoding = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#define IMAGE                                                                                              \
    {                                                                                                      \
        "image-column", KEY_IMAGE, "NAME", 0,                                                              \
            "Column of the pictures (default: a known name, see docs/format.md)", 2                        \
    }
#define WRITING                                                                                            \
    {"separator",                                                                                          \
     KEY_SEPARATOR,                                                                                        \
     "C",                                                                                                  \
     0,                                                                                                    \
     "Separator of the columns of a CSV file: , ; | or tab (default: found from the header)",              \
     2},                                                                                                   \
        {"quote",                                                                                          \
         KEY_QUOTE,                                                                                        \
         "yes|no|auto",                                                                                    \
         0,                                                                                                \
         "Whether quotes around a field delimit it (default: yes in a CSV file; found from "               \
         "the content in a TSV file)",                                                                     \
         2},                                                                                               \
        {"max-lines", KEY_MAX_LINES, "N", 0, "Most lines that a record may span (default: 100)", 2},       \
    {                                                                                                      \
        "encoding", KEY_ENCODING, "NAME", 0,                                                               \
            "Character encoding of the file, such as latin1 (default: UTF-8, or UTF-16 if it has a byte "  \
            "order mark)",                                                                                 \
            2                                                                                              \
    }

static const struct argp_option pairs_options[] = {
    IMAGE,
    {"text-column", KEY_TEXT, "NAME", 0, "Column of the captions (default: a known name)", 2},
    {"types", KEY_TYPES, "NAME=text,NAME=number", 0,
     "Types of the columns of a CSV file (default: number if every value is one, else text)", 2},
    WRITING,
    {0},
};
static const struct argp_option labels_options[] = {
    IMAGE,
    {"label-column", KEY_LABEL, "NAME", 0, "Column of the labels (default: a known name)", 2},
    WRITING,
    {0},
};
const struct argp cli_table_options = {pairs_options, parse_table_option, NULL, NULL, NULL, NULL, NULL};
const struct argp cli_labels_options = {labels_options, parse_table_option, NULL, NULL, NULL, NULL, NULL};

void cli_table_result(cli *c, const reco_stream_result *r)
{
    if (!r->dropped) return;
    cli_clear_bar(c);
    fprintf(stderr,
            "reco: warning: %llu value%s of other columns could not be kept (NaN, or the same name twice); "
            "the pairs are\n",
            (unsigned long long)r->dropped, r->dropped == 1 ? "" : "s");
}
