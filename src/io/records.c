#include "io/internal.h"
#include "io/window.h"

#include <strings.h>

#define MAX_LINES 100

struct reco_records {
    char *path;
    const reco_table_opts *opts;
    bool is_json;
    reco_io_table table;
    reco_window *window; /* of json */
    reco_io_json_text json;
    reco_records_counts counts;
    uint64_t number;
    bool warned; /* of rows that look swallowed */
    char bad[320];
};

/* Length of the name without the ending of a compressed file. */
static size_t plain_length(const char *path)
{
    static const char *const endings[] = {".gz", ".bz2", ".xz", ".zst"};
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (reco_path_ends(path, n, endings[i])) return n - strlen(endings[i]);
    return n;
}

/* Tables that pandas reads and this does not. */
static reco_status refuse_table(reco_ctx *ctx, const char *path, size_t n)
{
    static const char *const known[][2] = {{".parquet", "parquet"}, {".feather", "feather"},
                                           {".arrow", "feather"},   {".xlsx", "excel"},
                                           {".xls", "excel"},       {".ods", "excel"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (reco_path_ends(path, n, known[i][0]))
            return reco_fail(
                ctx, RECO_E_UNSUPPORTED,
                "%s: %s is a format that reco does not read; convert it: python3 -c \"import pandas; "
                "pandas.read_%s('%s').to_json('%.*s.jsonl', orient='records', lines=True)\"",
                path, known[i][0] + 1, known[i][1], path, (int)(n - strlen(known[i][0])), path);
    return reco_fail(ctx, RECO_E_UNSUPPORTED,
                     "%s: want a name that ends in .csv, .tsv, .jsonl, .ndjson or .json (and perhaps .gz, "
                     ".bz2, .xz or .zst)",
                     path);
}

static reco_status open_json(reco_ctx *ctx, reco_records *r)
{
    if (r->opts && r->opts->types)
        return reco_fail(ctx, RECO_E_ARG, "types: only for CSV and TSV; %s marks its numbers itself",
                         r->path);
    r->json.max_lines = r->opts && r->opts->max_lines ? r->opts->max_lines : MAX_LINES;
    return reco_window_open(ctx, &r->window, r->path, r->opts ? r->opts->encoding : NULL, false);
}

reco_status reco_records_open(reco_ctx *ctx, reco_records **out, const char *path,
                              const reco_table_opts *table)
{
    *out = NULL;
    reco_records *r = reco_alloc(ctx, 1, sizeof *r, "record reader");
    if (!r) return RECO_E_NOMEM;
    reco_status status = RECO_E_NOMEM;
    size_t n = plain_length(path);
    bool tabs = reco_path_ends(path, n, ".tsv") || reco_path_ends(path, n, ".tab") ||
                reco_path_ends(path, n, ".txt");
    bool bars = reco_path_ends(path, n, ".psv");
    r->opts = table;
    r->is_json = reco_path_ends(path, n, ".jsonl") || reco_path_ends(path, n, ".ndjson") ||
                 reco_path_ends(path, n, ".json");
    if (!(r->path = reco_strdup(ctx, path))) goto out;
    if (!r->is_json && !tabs && !bars && !reco_path_ends(path, n, ".csv"))
        RECO_GO(refuse_table(ctx, path, n));
    const char own = bars ? '|' : tabs ? '\t' : ',';
    RECO_GO(r->is_json ? open_json(ctx, r) : reco_io_table_open(ctx, &r->table, r->path, own, table));
    *out = r;
    r = NULL;
out:
    reco_records_close(r);
    return status;
}

bool reco_records_have_gap(const reco_records *r) { return r->json.gap || r->table.csv.gap; }

reco_records_counts reco_records_count(const reco_records *r) { return r->counts; }

void reco_records_close(reco_records *r)
{
    if (!r) return;
    reco_io_table_close(&r->table);
    reco_window_close(r->window);
    reco_free(r->path);
    reco_free(r);
}

RECO_PRINTF(3, 4) static void set_bad(reco_records *r, uint64_t line, const char *format, ...)
{
    int n = snprintf(r->bad, sizeof r->bad, "line %llu: ", (unsigned long long)line);
    va_list args;
    va_start(args, format);
    vsnprintf(r->bad + n, sizeof r->bad - (size_t)n, format, args);
    va_end(args);
}

/* ---- csv ---- */

/* Out NULL with a reason where the text won't do. */
static reco_status csv_text(reco_ctx *ctx, const char *text, size_t bytes, json_t **out,
                            const char **reason)
{
    *out = NULL;
    *reason = memchr(text, 0, bytes) ? "holds a NUL byte" : NULL;
    if (*reason || (*out = json_stringn(text, bytes))) return RECO_OK;
    if (reco_io_is_utf8(text, bytes)) return reco_fail_nomem(ctx, bytes, "csv field");
    *reason = "is not UTF-8 (give its encoding with --encoding, such as latin1)";
    return RECO_OK;
}

/* *out stays NULL where a row has no such value. */
static reco_status csv_value(reco_ctx *ctx, const reco_records *r, size_t i, json_t **out,
                             const char **reason)
{
    size_t bytes;
    const reco_io_type type = r->table.columns[i].type;
    const char *text = reco_io_csv_field(&r->table.csv, i, &bytes);
    bool quoted = r->table.csv.fields[i].quoted;
    *out = NULL;
    *reason = NULL;
    if (type != RECO_IO_TEXT && bytes == 0 && !(quoted && type == RECO_IO_SCALAR)) return RECO_OK;
    if (type == RECO_IO_NUMBER || type == RECO_IO_TOLD)
        *out = reco_io_number(text, bytes, type == RECO_IO_TOLD);
    else if (type == RECO_IO_SCALAR && !quoted) {
        *out = bytes == 4 && memcmp(text, "true", 4) == 0    ? json_true()
               : bytes == 5 && memcmp(text, "false", 5) == 0 ? json_false()
               : bytes == 4 && memcmp(text, "null", 4) == 0  ? json_null()
                                                             : reco_io_number(text, bytes, false);
    }
    return *out ? RECO_OK : csv_text(ctx, text, bytes, out, reason);
}

/* Does each line of the record look like a row of its own? Then a quote that was never meant as one has joined them. */
static void check_joined(reco_ctx *ctx, reco_records *r)
{
    const reco_io_table *t = &r->table;
    const reco_io_csv *csv = &t->csv;
    const char *text = t->window->data + t->window->start - csv->bytes;
    size_t separators = 0, lines = 0;
    if (r->warned || csv->lines < 3 || t->n < 2) return;
    for (size_t i = 0; i <= csv->bytes; i++) {
        bool end = i == csv->bytes || text[i] == '\n';
        if (i < csv->bytes && text[i] == csv->dialect.separator) separators++;
        if (!end) continue;
        if (separators != t->n - 1 && !(i == csv->bytes && separators == 0)) return;
        lines += separators == t->n - 1;
        separators = 0;
    }
    if (lines < csv->lines) return;
    r->warned = true;
    reco_log(ctx, RECO_LOG_WARN,
             "%s:%llu: a field in quotes spans %llu lines, each of which looks like a row of its own "
             "(--quote no reads them that way)",
             r->path, (unsigned long long)csv->line, (unsigned long long)csv->lines);
}

/* Row NULL and bad "": the end. */
static reco_status next_csv(reco_ctx *ctx, reco_records *r, json_t **out)
{
    reco_io_table *t = &r->table;
    reco_io_csv *csv = &t->csv;
    const char *reason;
    RECO_TRY(reco_io_csv_next(ctx, t->window, csv, &reason));
    if (csv->n == 0) return RECO_OK;
    if (!reason && reco_io_csv_filled(csv) > t->n) {
        set_bad(r, csv->line, "%zu field%s, want %zu", csv->n, reco_s(csv->n), t->n);
        return RECO_OK;
    }
    if (reason) {
        set_bad(r, csv->line, "field %zu: %s", csv->n, reason);
        return RECO_OK;
    }
    r->counts.joined += csv->lines - 1;
    check_joined(ctx, r);
    json_t *row = json_object();
    reco_status status = row ? RECO_OK : reco_fail_nomem(ctx, 0, "csv record");
    for (size_t i = 0; i < reco_min(csv->n, t->n) && status == RECO_OK; i++) {
        json_t *value;
        if (t->columns[i].skipped) continue;
        RECO_GO(csv_value(ctx, r, i, &value, &reason));
        if (value && json_object_set_new_nocheck(row, t->columns[i].name, value) != 0)
            RECO_GO(reco_fail_nomem(ctx, 0, "csv record"));
        if (!reason) continue;
        r->counts.dropped++;
        if (!t->columns[i].means) continue;
        r->counts.dropped--;
        set_bad(r, csv->line, "field \"%.100s\" %s", t->columns[i].name, reason);
        goto out;
    }
    *out = row;
    row = NULL;
out:
    json_decref(row);
    return status;
}

/* ---- json ---- */

/* Is one of what an image or a caption is told by not as it was written? */
static bool means_damaged(const reco_records *r, const json_t *row)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row, key, value)
    {
        if (!json_is_string(value) || !strstr(json_string_value(value), "\xef\xbf\xbd")) continue;
        for (int kind = 0; kind < RECO_COLUMNS; kind++) {
            const char *given = reco_column_given((reco_column)kind, r->opts);
            if (given ? reco_column_same(given, key) : reco_column_rank((reco_column)kind, key) >= 0)
                return true;
        }
    }
    return false;
}

static reco_status next_json(reco_ctx *ctx, reco_records *r, json_t **out)
{
    reco_io_json_text *json = &r->json;
    reco_io_json_error error;
    reco_io_json_losses losses;
    RECO_TRY(reco_io_json_next(ctx, r->window, json));
    if (!json->text) return RECO_OK;
    reco_status status = reco_io_json_read(out, json->text, json->bytes, &losses, &error);
    if (status == RECO_E_NOMEM) return reco_fail_nomem(ctx, json->bytes, "json record");
    if (status != RECO_OK)
        set_bad(r, json->line, "%s", error.reason);
    else if (!json_is_object(*out) || json->broken)
        set_bad(r, json->line, "want a JSON object");
    else if (losses.not_utf8 && means_damaged(r, *out))
        set_bad(r, json->line, "is not UTF-8 (give its encoding with --encoding, such as latin1)");
    if (!r->bad[0]) {
        r->counts.dropped += losses.dropped;
        r->counts.repaired += losses.repaired > 0 || losses.not_utf8;
        return RECO_OK;
    }
    json_decref(*out);
    *out = NULL;
    return RECO_OK;
}

reco_status reco_records_next(reco_ctx *ctx, reco_records *r, json_t **row, uint64_t *number,
                              const char **bad)
{
    *row = NULL;
    *bad = NULL;
    *number = r->number;
    r->bad[0] = 0;
    RECO_TRY(r->is_json ? next_json(ctx, r, row) : next_csv(ctx, r, row));
    if (r->bad[0]) *bad = r->bad;
    if (*row || *bad) r->number++;
    return RECO_OK;
}

/* ---- the columns that must be there ---- */

static const char *const kinds[] = {"images", "captions", "labels"};
static const char *const options[] = {"--image-column", "--text-column", "--label-column"};
static const char *const examples[] = {"image, filepath, file_name or url", "text, caption or title",
                                       "label, class or category"};

/* A name that is none, but the first row. */
static bool is_data(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png",  ".webp", ".gif",
                                          ".bmp", ".tif",  ".tiff", ".avif", ".heic"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (reco_path_ends(name, strlen(name), endings[i])) return true;
    return strncasecmp(name, "http://", 7) == 0 || strncasecmp(name, "https://", 8) == 0;
}

reco_status reco_records_need(reco_ctx *ctx, const reco_records *r, reco_column kind)
{
    const reco_io_table *t = &r->table;
    const char *given = reco_column_given(kind, r->opts), *near = NULL, *meant = NULL;
    char shown[512] = "";
    size_t at = 0;
    bool data = false;
    if (r->is_json) return RECO_OK;
    for (size_t i = 0; i < t->n; i++) {
        const char *name = t->columns[i].name;
        if (given ? reco_column_same(given, name) : reco_column_rank(kind, name) >= 0) return RECO_OK;
        if (at < sizeof shown - 1)
            at += (size_t)snprintf(shown + at, sizeof shown - at, "%s\"%.60s\"", i ? ", " : "", name);
        data |= is_data(name);
        if (!near && !given && (near = reco_column_near(kind, name))) meant = name;
    }
    if (data && !given)
        return reco_fail(
            ctx, RECO_E_FORMAT,
            "%s: has no header row: it begins with %s; put a row of names above it, such as image%stext",
            r->path, shown,
            t->csv.dialect.separator == '\t' ? "<tab>" : (const char[]){t->csv.dialect.separator, 0});
    if (given)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: no column \"%.100s\" in its header: %s", r->path, given,
                         shown);
    return reco_fail(ctx, RECO_E_FORMAT,
                     "%s: no column of %s (%s) in its header: %s%s%.60s%s%s%s; %s names it", r->path,
                     kinds[kind], examples[kind], shown, near ? "; is \"" : "", near ? meant : "",
                     near ? "\" meant as " : "", near ? near : "", near ? "?" : "", options[kind]);
}

uint64_t reco_records_line(const reco_records *r) { return r->is_json ? r->json.line : r->table.csv.line; }
