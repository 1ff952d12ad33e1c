#include "io/internal.h"
#include "io/window.h"

#include <stdlib.h>
#include <strings.h>

#define MAX_LINES 100
#define MAX_PREAMBLE ((size_t)1 << 20)

/* ---- names ---- */

/* How many of an image, a caption and a label the names give, and how many names there are. */
typedef struct sense {
    size_t kinds, fields;
} sense;

static bool is_meant(const reco_table_opts *opts, reco_column kind, const char *name)
{
    const char *given = reco_column_given(kind, opts);
    return given ? reco_column_same(given, name) : reco_column_rank(kind, name) >= 0;
}

static sense judge_header(const reco_io_table *t)
{
    sense s = {0, t->csv.n};
    for (int kind = 0; kind < RECO_COLUMNS; kind++) {
        bool found = false;
        for (size_t i = 0, bytes; i < t->csv.n && !found; i++)
            found = is_meant(t->opts, (reco_column)kind, reco_io_csv_field(&t->csv, i, &bytes));
        s.kinds += found;
    }
    return s;
}

/* The first line as a header with this separator; the window stays where it is. */
static reco_status try_header(reco_ctx *ctx, reco_io_table *t, char separator, sense *out)
{
    const char *bad;
    t->csv.dialect.separator = separator;
    RECO_TRY(reco_io_csv_look(ctx, t->window, &t->csv, &bad));
    *out = bad ? (sense){0} : judge_header(t);
    return RECO_OK;
}

static reco_status find_separator(reco_ctx *ctx, reco_io_table *t, sense *best)
{
    static const char candidates[] = ",;\t|";
    char separator = t->own;
    RECO_TRY(try_header(ctx, t, t->own, best));
    for (const char *c = candidates; *c && (best->kinds == 0 || best->fields < 2); c++) {
        sense s;
        if (*c == t->own) continue;
        RECO_TRY(try_header(ctx, t, *c, &s));
        if (s.fields < 2 || s.kinds < best->kinds || (s.kinds == best->kinds && s.fields <= best->fields))
            continue;
        *best = s;
        separator = *c;
    }
    t->csv.dialect.separator = separator;
    return RECO_OK;
}

/* ---- what stands above the header ---- */

static reco_status whole_line(reco_ctx *ctx, reco_window *w, size_t *bytes)
{
    for (*bytes = 0; *bytes < MAX_PREAMBLE; ++*bytes) {
        while (w->start + *bytes == w->end && !w->ended) RECO_TRY(reco_window_fill(ctx, w));
        if (w->start + *bytes == w->end || strchr("\r\n", w->data[w->start + *bytes])) break;
    }
    return RECO_OK;
}

/* "sep=;", as Excel writes and reads it; comments; the header itself may begin with "#". */
static reco_status pass_preamble(reco_ctx *ctx, reco_io_table *t, char *separator)
{
    reco_window *w = t->window;
    for (;;) {
        size_t bytes, passed;
        sense s = {0};
        RECO_TRY(whole_line(ctx, w, &bytes));
        const char *line = w->data + w->start;
        size_t blanks = 0;
        while (blanks < bytes && line[blanks] == ' ') blanks++;
        bool blank = blanks == bytes && w->start + bytes < w->end;
        bool told = bytes == 5 && strncasecmp(line, "sep=", 4) == 0;
        if (told && !*separator) *separator = line[4];
        if (!blank && !told && (bytes == 0 || *line != '#')) return RECO_OK;
        if (!blank && !told) {
            w->start++; /* would it be a header, but for the "#"? */
            RECO_TRY(find_separator(ctx, t, &s));
            if (s.kinds >= 2) return RECO_OK;
        }
        RECO_TRY(reco_io_skip_line(ctx, w, &passed));
    }
}

/* ---- the header ---- */

static reco_status add_column(reco_ctx *ctx, reco_io_table *t, size_t i)
{
    size_t bytes;
    reco_io_column *column = &t->columns[t->n];
    const char *text = reco_io_csv_field(&t->csv, i, &bytes);
    if (memchr(text, 0, bytes) || reco_utf8_errors(text, bytes))
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: header row: name of column %zu %s: give its encoding with --encoding "
                         "(latin1, cp1252, utf-16le)",
                         t->path, i + 1, memchr(text, 0, bytes) ? "holds a NUL byte" : "is not UTF-8");
    while (bytes && strchr(" \t", *text)) text++, bytes--;
    while (bytes && strchr(" \t", text[bytes - 1])) bytes--;
    column->name = bytes ? reco_format(ctx, "%.*s", (int)reco_min(bytes, 65536), text)
                         : reco_format(ctx, "Unnamed: %zu", i); /* as pandas names them */
    if (!column->name) return RECO_E_NOMEM;
    column->skipped = bytes == 0; /* unless the rows give a reason to keep it */
    bool need = strchr(column->name, t->csv.dialect.separator) || strpbrk(column->name, "\"\r\n");
    column->marked = t->csv.fields[i].quoted && !need;
    t->n++;
    for (int kind = 0; kind < RECO_COLUMNS; kind++)
        column->means |= is_meant(t->opts, (reco_column)kind, column->name);
    return RECO_OK;
}

/* Of two columns of one name the second becomes "name.1", as in pandas. */
static reco_status part_names(reco_ctx *ctx, reco_io_table *t)
{
    reco_status status = RECO_OK;
    json_t *seen = json_object();
    for (size_t i = 0; i < t->n; i++) {
        char *name = reco_strdup(ctx, t->columns[i].name);
        for (size_t k = 1; name && json_object_get(seen, name); k++) {
            reco_free(name);
            name = reco_format(ctx, "%s.%zu", t->columns[i].name, k);
        }
        if (!name) RECO_GO(RECO_E_NOMEM);
        reco_free(t->columns[i].name);
        t->columns[i].name = name;
        if (json_object_set_new(seen, name, json_true()) != 0)
            RECO_GO(reco_fail_nomem(ctx, 0, "csv header"));
    }
out:
    json_decref(seen);
    return status;
}

/* The column that images or captions are taken from is text whatever it holds; other columns of such names are like any. */
static void find_texts(reco_io_table *t)
{
    for (int kind = RECO_COLUMN_IMAGE; kind <= RECO_COLUMN_TEXT; kind++) {
        reco_io_column *best = NULL;
        int least = 0;
        for (size_t i = 0; i < t->n; i++) {
            reco_io_column *column = &t->columns[i];
            int rank = reco_column_rank((reco_column)kind, column->name);
            const char *own = kind == RECO_COLUMN_IMAGE ? "image_path" : "caption"; /* beside embeddings */
            column->text |= strcmp(column->name, own) == 0;
            if (reco_column_given((reco_column)kind, t->opts))
                rank = is_meant(t->opts, (reco_column)kind, column->name) ? 0 : -1;
            if (rank < 0 || (best && rank >= least)) continue;
            best = column;
            least = rank;
        }
        if (best) best->text = true;
    }
}

static reco_status make_columns(reco_ctx *ctx, reco_io_table *t)
{
    size_t quoted = 0, blanks = 0;
    t->columns = reco_alloc(ctx, t->csv.n, sizeof *t->columns, "csv header");
    if (!t->columns) return RECO_E_NOMEM;
    for (size_t i = 0; i < t->csv.n; i++) {
        RECO_TRY(add_column(ctx, t, i));
        size_t bytes;
        const char *text = reco_io_csv_field(&t->csv, i, &bytes);
        quoted += t->csv.fields[i].quoted;
        blanks += bytes && *text == ' ';
    }
    t->quoted_names = quoted;
    for (size_t i = 0; i < t->n; i++) t->columns[i].marked &= quoted < t->n;
    /* "a, b, c": then the values have that blank, too. */
    t->csv.dialect.trims = t->n > 1 && blanks >= t->n - 1;
    find_texts(t);
    return part_names(ctx, t);
}

/* "sku=text,price=number" */
static reco_status apply_types(reco_ctx *ctx, reco_io_table *t)
{
    const char *at = t->opts && t->opts->types ? t->opts->types : "";
    while (*at) {
        size_t n = strcspn(at, ","), i = 0;
        const char *equals = memchr(at, '=', n);
        char *name = reco_format(ctx, "%.*s", (int)(equals ? equals - at : 0), at);
        if (!name) return RECO_E_NOMEM;
        bool number = equals && n - (size_t)(equals - at) == 7 && memcmp(equals, "=number", 7) == 0;
        bool text = equals && n - (size_t)(equals - at) == 5 && memcmp(equals, "=text", 5) == 0;
        while (i < t->n && !reco_column_same(name, t->columns[i].name)) i++;
        reco_status status = RECO_OK;
        if (!number && !text)
            status = reco_fail(ctx, RECO_E_ARG, "types: \"%.*s\", want NAME=text or NAME=number",
                               (int)reco_min(n, 200), at);
        else if (i == t->n)
            status = reco_fail(ctx, RECO_E_ARG, "types: %s has no column \"%.100s\"", t->path, name);
        else
            t->columns[i].type = number ? RECO_IO_TOLD : RECO_IO_TEXT;
        reco_free(name);
        RECO_TRY(status);
        at += n + (at[n] == ',');
    }
    return RECO_OK;
}

static const char *separator_name(char c)
{
    return c == '\t'  ? "tabs"
           : c == ',' ? "commas"
           : c == ';' ? "semicolons"
           : c == '|' ? "bars"
                      : "the character given";
}

/* Window and header; the first time also what is known from the header alone. */
static reco_status begin_table(reco_ctx *ctx, reco_io_table *t, bool first)
{
    const char *bad, *encoding = t->opts ? t->opts->encoding : NULL;
    char separator = first ? (t->opts ? t->opts->separator : 0) : t->csv.dialect.separator;
    const reco_io_dialect told = t->csv.dialect;
    sense s;
    reco_window_close(t->window);
    t->window = NULL;
    t->csv.most = 0;
    RECO_TRY(reco_window_open(ctx, &t->window, t->path, encoding, true));
    t->csv.dialect.quotes =
        !t->opts || t->opts->quote != RECO_QUOTE_NO; /* a header has them, or has none */
    t->csv.dialect.escapes = t->csv.dialect.trims = false;
    RECO_TRY(pass_preamble(ctx, t, &separator));
    if (!separator) {
        RECO_TRY(find_separator(ctx, t, &s));
        separator = t->csv.dialect.separator;
        if (separator != t->own && s.kinds)
            reco_log(ctx, RECO_LOG_INFO, "%s: its columns are separated by %s, as the header shows",
                     t->path, separator_name(separator));
    }
    t->csv.dialect.separator = separator;
    RECO_TRY(reco_io_csv_next(ctx, t->window, &t->csv, &bad));
    if (bad) return reco_fail(ctx, RECO_E_FORMAT, "%s: header row: %s", t->path, bad);
    if (t->csv.n == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: is empty, want a header row", t->path);
    if (first) RECO_TRY(make_columns(ctx, t));
    if (!first) t->csv.dialect = told;
    t->csv.most = t->n;
    t->csv.gap = false;
    return RECO_OK;
}

reco_status reco_io_table_rewind(reco_ctx *ctx, reco_io_table *t) { return begin_table(ctx, t, false); }

reco_status reco_io_table_open(reco_ctx *ctx, reco_io_table *t, const char *path, char own,
                               const reco_table_opts *opts)
{
    *t = (reco_io_table){.path = path, .opts = opts, .own = own};
    t->csv.dialect.max_lines = opts && opts->max_lines ? opts->max_lines : MAX_LINES;
    RECO_TRY(begin_table(ctx, t, true));
    RECO_TRY(reco_io_table_scan(ctx, t));
    RECO_TRY(apply_types(ctx, t));
    return reco_io_table_rewind(ctx, t);
}

reco_status reco_io_table_name_rows(reco_ctx *ctx, reco_io_table *t)
{
    reco_io_column *columns = reco_alloc(ctx, t->n + 1, sizeof *columns, "csv header");
    char *name = columns ? reco_strdup(ctx, "Unnamed: 0") : NULL;
    if (!name) {
        reco_free(columns);
        return RECO_E_NOMEM;
    }
    columns[0] = (reco_io_column){.name = name, .skipped = true};
    memcpy(columns + 1, t->columns, t->n * sizeof *columns);
    reco_free(t->columns);
    t->columns = columns;
    t->n++;
    return RECO_OK;
}

void reco_io_table_close(reco_io_table *t)
{
    reco_window_close(t->window);
    reco_io_csv_free(&t->csv);
    for (size_t i = 0; i < t->n; i++) reco_free(t->columns[i].name);
    reco_free(t->columns);
    *t = (reco_io_table){0};
}
