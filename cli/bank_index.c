#include "cli.h"

#include <string.h>

enum { KEY_SCAN = 1 };

typedef struct args {
    cli *common;
    reco_scan_kind kind;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        return 0;
    case KEY_SCAN:
        if (strcmp(arg, "int8") != 0 && strcmp(arg, "none") != 0)
            argp_error(state, "--scan: \"%s\", want int8 or none", arg);
        a->kind = strcmp(arg, "int8") == 0 ? RECO_SCAN_INT8 : RECO_SCAN_NONE;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"scan", KEY_SCAN, "KIND", 0, "int8: make the files (default); none: take them away", 1}, {0}};
static const struct argp_child children[] = {{&cli_bank, 0, NULL, 0}, {&cli_wait_option, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "BANK",
    "Make the files that make searches fast: codes of the vectors with bounds. "
    "Answers are the same with them and without. build and add make them by "
    "themselves from 10,000 rows on.\vExample:\n  reco bank index shop.bank",
    children,
    NULL,
    NULL};

int cmd_bank_index(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .kind = RECO_SCAN_INT8};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    size_t files = 0;
    reco_status status = reco_bank_index(c.ctx, c.bank, a.kind, &files);
    if (status == RECO_OK && c.json)
        cli_print(json_pack("{s:s, s:I}", "scan", a.kind == RECO_SCAN_INT8 ? "int8" : "none", "files",
                            (json_int_t)files));
    else if (status == RECO_OK && files == 0)
        cli_say("nothing to do: %s has %s", c.bank,
                a.kind == RECO_SCAN_INT8 ? "all of its scan files" : "no scan files");
    else if (status == RECO_OK)
        cli_say("%zu scan file%s %s in %s", files, cli_s(files),
                a.kind == RECO_SCAN_INT8 ? "made" : "removed", c.bank);
    return cli_end(&c, status);
}
