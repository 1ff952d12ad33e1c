#include "io/internal.h"

#include <strings.h>

struct reco_records {
    reco_lines *lines;
    bool is_json, gap;
    reco_io_csv header, row;
    uint64_t number;
    char bad[320];
};

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n > m && strcasecmp(path + n - m, ending) == 0;
}

/* *out NULL with a reason where the text won't do. */
static reco_status csv_text(reco_ctx *ctx, const reco_io_csv *csv, size_t i, json_t **out,
                            const char **reason)
{
    size_t bytes;
    const char *text = reco_io_csv_field(csv, i, &bytes);
    *out = NULL;
    *reason = memchr(text, 0, bytes) ? "holds a NUL byte" : NULL;
    if (*reason || (*out = json_stringn(text, bytes))) return RECO_OK;
    if (reco_io_is_utf8(text, bytes)) return reco_fail_nomem(ctx, bytes, "csv field");
    *reason = "is not UTF-8";
    return RECO_OK;
}

static reco_status read_csv_header(reco_ctx *ctx, reco_records *r)
{
    const char *path = reco_io_lines_path(r->lines), *reason;
    RECO_TRY(reco_io_csv_next(ctx, r->lines, &r->header, &reason));
    if (reason) return reco_fail(ctx, RECO_E_FORMAT, "%s: header row: %s", path, reason);
    if (r->header.n == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: is empty, want a header row", path);

    reco_status status = RECO_OK;
    json_t *seen = json_object();
    for (size_t i = 0; i < r->header.n; i++) {
        json_t *name;
        RECO_GO(csv_text(ctx, &r->header, i, &name, &reason));
        if (!name)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: header row: name of column %zu %s", path, i + 1,
                              reason));
        const char *key = json_string_value(name);
        bool twice = json_object_get(seen, key) != NULL;
        if (twice) reco_fail(ctx, RECO_E_FORMAT, "%s: column \"%.100s\" occurs twice", path, key);
        bool added = !twice && json_object_set(seen, key, name) == 0;
        json_decref(name);
        if (twice) RECO_GO(RECO_E_FORMAT);
        if (!added) RECO_GO(reco_fail_nomem(ctx, 0, "csv header"));
    }
out:
    json_decref(seen);
    return status;
}

reco_status reco_records_open(reco_ctx *ctx, reco_records **out, const char *path)
{
    *out = NULL;
    reco_records *r = reco_alloc(ctx, 1, sizeof *r, "record reader");
    if (!r) return RECO_E_NOMEM;
    reco_status status;
    r->is_json = ends_with(path, ".jsonl") || ends_with(path, ".ndjson");
    r->header.separator = r->row.separator = ends_with(path, ".tsv") ? '\t' : ',';
    if (!r->is_json && !ends_with(path, ".csv") && !ends_with(path, ".tsv"))
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED,
                          "%s: want a name that ends in .csv, .tsv, .jsonl or .ndjson", path));
    RECO_GO(reco_io_lines_open(ctx, &r->lines, path, RECO_IO_MAX_RECORD));
    if (!r->is_json) RECO_GO(read_csv_header(ctx, r));
    *out = r;
    r = NULL;
out:
    reco_records_close(r);
    return status;
}

bool reco_records_has(const reco_records *r, const char *column)
{
    for (size_t i = 0; i < r->header.n; i++) {
        size_t bytes;
        const char *name = reco_io_csv_field(&r->header, i, &bytes);
        if (bytes == strlen(column) && memcmp(name, column, bytes) == 0) return true;
    }
    return r->is_json;
}

bool reco_records_have_gap(const reco_records *r) { return r->gap || r->row.gap; }

void reco_records_close(reco_records *r)
{
    if (!r) return;
    reco_io_csv_free(&r->header);
    reco_io_csv_free(&r->row);
    reco_lines_close(r->lines);
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

/* Row NULL and bad "": the end. */
static reco_status next_csv(reco_ctx *ctx, reco_records *r, json_t **out)
{
    const char *reason;
    RECO_TRY(reco_io_csv_next(ctx, r->lines, &r->row, &reason));
    if (r->row.n == 0) return RECO_OK;
    if (!reason && r->row.n != r->header.n) {
        set_bad(r, r->row.line, "%zu fields, want %zu", r->row.n, r->header.n);
        return RECO_OK;
    }
    if (reason) {
        set_bad(r, r->row.line, "field %zu: %s", r->row.n, reason);
        return RECO_OK;
    }
    json_t *row = json_object();
    for (size_t i = 0; i < r->row.n; i++) {
        json_t *value;
        size_t bytes;
        const char *name = reco_io_csv_field(&r->header, i, &bytes);
        reco_status status = csv_text(ctx, &r->row, i, &value, &reason);
        if (status == RECO_OK && value && json_object_set_new_nocheck(row, name, value) != 0)
            status = reco_fail_nomem(ctx, 0, "csv record");
        if (reason) set_bad(r, r->row.line, "field \"%.100s\" %s", name, reason);
        if (status != RECO_OK || reason) {
            json_decref(row);
            return status;
        }
    }
    *out = row;
    return RECO_OK;
}

static reco_status next_jsonl(reco_ctx *ctx, reco_records *r, json_t **out)
{
    char *line;
    size_t bytes, end;
    RECO_TRY(reco_io_lines_filled(ctx, r->lines, true, &line, &bytes, &end, &r->gap));
    if (!line) return RECO_OK;

    uint64_t number = reco_io_lines_number(r->lines);
    reco_io_json_error error;
    reco_status status = reco_io_json_parse(out, line, bytes, &error);
    if (status == RECO_E_NOMEM) return reco_fail_nomem(ctx, bytes, "json record");
    if (status != RECO_OK)
        set_bad(r, number, "%s", error.reason);
    else if (!json_is_object(*out)) {
        set_bad(r, number, "want a JSON object");
        json_decref(*out);
        *out = NULL;
    }
    return RECO_OK;
}

reco_status reco_records_next(reco_ctx *ctx, reco_records *r, json_t **row, uint64_t *number,
                              const char **bad)
{
    *row = NULL;
    *bad = NULL;
    *number = r->number;
    r->bad[0] = 0;
    RECO_TRY(r->is_json ? next_jsonl(ctx, r, row) : next_csv(ctx, r, row));
    if (r->bad[0]) *bad = r->bad;
    if (*row || *bad) r->number++;
    return RECO_OK;
}
