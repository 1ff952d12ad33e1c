#include "pipeline/export.h"

/* Columns image and text come first; the user's of these names would be taken for them. */
static char *column_name(reco_ctx *ctx, const char *key)
{
    bool taken = strcmp(key, "image") == 0 || strcmp(key, "text") == 0;
    return taken ? reco_format(ctx, RECO_EXPORT_PREFIX "%s", key) : reco_strdup(ctx, key);
}

/* The picture as who reads the table will find it: as it was written, where that leads to the same file from the table's folder, else
 * its whole path. */
static char *image_name(reco_ctx *ctx, const reco_pair *pair, const char *dir)
{
    const char *uri = pair->uri ? pair->uri : "";
    if (!pair->base || !*uri) return reco_strdup(ctx, uri);
    char *want = reco_place_resolve(ctx, pair->base, uri), *have = reco_place_resolve(ctx, dir, uri);
    char *name = want && have && strcmp(want, have) == 0 ? reco_strdup(ctx, uri) : want;
    if (name != want) reco_free(want);
    reco_free(have);
    return name;
}

static reco_status make_record(reco_ctx *ctx, const reco_pair *pair, const char *dir, json_t **out)
{
    json_t *meta = NULL, *record = *out = json_object(), *value;
    const char *key;
    RECO_TRY(reco_export_meta(ctx, pair, &meta));
    char *image = image_name(ctx, pair, dir);
    int bad = !record || !image ||
              json_object_set_new(record, "image", reco_json_text(image, strlen(image))) ||
              json_object_set_new(record, "text", reco_json_text(pair->caption, strlen(pair->caption)));
    json_object_foreach(meta, key, value)
    {
        char *name = column_name(ctx, key);
        bad = bad || !name || json_object_set(record, name, value);
        reco_free(name);
    }
    json_decref(meta);
    reco_free(image);
    return bad ? reco_fail_nomem(ctx, 0, "JSON") : RECO_OK;
}

typedef reco_status (*row_fn)(reco_ctx *ctx, void *arg, json_t *record);

typedef struct visit {
    const char *dir;
    row_fn fn;
    void *arg;
} visit;

static reco_status visit_pair(reco_ctx *ctx, void *arg, size_t i, const reco_pair *pair)
{
    const visit *v = arg;
    json_t *record = NULL;
    (void)i;
    reco_status status = make_record(ctx, pair, v->dir, &record);
    if (status == RECO_OK) status = v->fn(ctx, v->arg, record);
    json_decref(record);
    return status;
}

static reco_status each(reco_ctx *ctx, const reco_bank *bank, const char *dir, const char *where, row_fn fn,
                        void *arg, uint64_t *rows)
{
    reco_export_rows page = {.bank = bank, .where = where};
    visit v = {dir, fn, arg};
    *rows = 0;
    do {
        RECO_TRY(reco_export_page(ctx, &page));
        RECO_TRY(reco_bank_each_pair(ctx, bank, page.ids, page.n, visit_pair, &v));
        *rows += page.n;
        RECO_TRY(reco_progress(ctx, "exporting", *rows, (uint64_t)reco_bank_get_info(bank)->rows));
    } while (page.n);
    return RECO_OK;
}

/* ---- csv ---- */

#define MAX_COLUMNS 4096 /* more is refused by who reads it */

/* What stands in a column. Who reads it takes it for numbers where every value is one, else for text. */
enum { NUMBERS = 1, LIKE_NUMBERS = 2, TEXTS = 4, EMPTY = 8, OTHERS = 16, ROW = 32 };

static int kind_of_value(const json_t *value)
{
    if (json_is_null(value)) return 0; /* as if it were not there */
    if (json_is_number(value)) return NUMBERS + ROW;
    if (json_is_object(value) || json_is_array(value)) return TEXTS + ROW;
    if (!json_is_string(value)) return OTHERS + ROW;
    const char *text = json_string_value(value);
    return ROW + (!*text ? EMPTY : reco_is_number(text, strlen(text)) ? LIKE_NUMBERS : TEXTS);
}

/* Columns by name: how many rows have a value, times ROW, and of which kinds. */
static reco_status gather_columns(reco_ctx *ctx, void *arg, json_t *record)
{
    json_t *columns = arg, *value;
    const char *key;
    json_object_foreach(record, key, value)
    {
        json_int_t old = json_integer_value(json_object_get(columns, key)), now = kind_of_value(value);
        now = (old / ROW + now / ROW) * ROW + ((old | now) % ROW);
        if ((now != old || !json_object_get(columns, key)) &&
            json_object_set_new(columns, key, json_integer(now)) != 0)
            return reco_fail_nomem(ctx, 0, "columns");
    }
    return json_object_size(columns) <= MAX_COLUMNS
               ? RECO_OK
               : reco_fail(ctx, RECO_E_UNSUPPORTED, "more than %d columns: export to .jsonl instead",
                           MAX_COLUMNS);
}

/* Would some of its values be read back as others? Then its name is in quotes, and so are its texts, but no number: a mark that
 * reco reads (docs/format.md), and others need not see. */
static bool is_marked(const char *name, json_int_t column, uint64_t rows)
{
    const int kinds = (int)(column % ROW);
    const bool absent = (uint64_t)(column / ROW) < rows;
    if (strpbrk(name, ",\"\r\n") || strcmp(name, "image") == 0 || strcmp(name, "text") == 0) return false;
    if (kinds & OTHERS) return true;
    if (kinds & NUMBERS) return kinds != NUMBERS;
    return kinds & LIKE_NUMBERS && !(kinds & TEXTS) ? true : absent;
}

static reco_status write_field(reco_ctx *ctx, reco_file *file, const char *text, bool first, bool quote)
{
    if (!first) RECO_TRY(reco_file_write(ctx, file, ",", 1));
    if (!quote && !strpbrk(text, ",\"\r\n")) return reco_file_write(ctx, file, text, strlen(text));
    RECO_TRY(reco_file_write(ctx, file, "\"", 1));
    for (const char *at; (at = strchr(text, '"')); text = at + 1) {
        RECO_TRY(reco_file_write(ctx, file, text, (size_t)(at - text)));
        RECO_TRY(reco_file_write(ctx, file, "\"\"", 2));
    }
    RECO_TRY(reco_file_write(ctx, file, text, strlen(text)));
    return reco_file_write(ctx, file, "\"", 1);
}

static reco_status write_value(reco_ctx *ctx, reco_file *file, const json_t *value, bool first, bool marked)
{
    if (!value || json_is_null(value)) return write_field(ctx, file, "", first, false);
    if (json_is_string(value)) return write_field(ctx, file, json_string_value(value), first, marked);
    char *text = reco_json_dump(ctx, value);
    if (!text) return RECO_E_NOMEM;
    reco_status status = write_field(ctx, file, text, first, false);
    reco_free(text);
    return status;
}

typedef struct table {
    reco_file *file;
    json_t *columns;
    uint64_t rows;
} table;

static reco_status write_line(reco_ctx *ctx, void *arg, json_t *record)
{
    table *t = arg;
    json_t *value;
    const char *key;
    bool first = true;
    json_object_foreach(t->columns, key, value)
    {
        bool marked = is_marked(key, json_integer_value(value), t->rows);
        RECO_TRY(write_value(ctx, t->file, json_object_get(record, key), first, marked));
        first = false;
    }
    return reco_file_write(ctx, t->file, "\n", 1);
}

static reco_status write_csv(reco_ctx *ctx, reco_file *file, const reco_bank *bank, const char *dir,
                             const char *where, uint64_t *rows)
{
    table t = {.file = file, .columns = json_object()};
    json_t *value;
    const char *key;
    bool first = true;
    reco_status status = RECO_OK;
    if (!t.columns || json_object_set_new(t.columns, "image", json_integer(0)) ||
        json_object_set_new(t.columns, "text", json_integer(0)))
        RECO_GO(reco_fail_nomem(ctx, 0, "columns"));
    RECO_GO(each(ctx, bank, dir, where, gather_columns, t.columns, &t.rows));
    json_object_foreach(t.columns, key, value)
    {
        RECO_GO(write_field(ctx, file, key, first, is_marked(key, json_integer_value(value), t.rows)));
        first = false;
    }
    RECO_GO(reco_file_write(ctx, file, "\n", 1));
    status = each(ctx, bank, dir, where, write_line, &t, rows);
out:
    json_decref(t.columns);
    return status;
}

/* ---- jsonl ---- */

static reco_status write_json(reco_ctx *ctx, void *file, json_t *record)
{
    return reco_write_json_line(ctx, file, json_incref(record));
}

reco_status reco_bank_export_pairs(reco_ctx *ctx, const reco_bank *bank, const char *out, const char *where,
                                   uint64_t *rows)
{
    bool csv = reco_path_ends(out, strlen(out), ".csv");
    uint64_t n = 0;
    reco_file *file;
    if (!csv && !reco_path_ends(out, strlen(out), ".jsonl"))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: want a name that ends in .csv or .jsonl", out);
    RECO_TRY(reco_file_begin(ctx, &file, out));
    char *dir = reco_path_dir(ctx, out);
    reco_status status = !dir  ? RECO_E_NOMEM
                         : csv ? write_csv(ctx, file, bank, dir, where, &n)
                               : each(ctx, bank, dir, where, write_json, file, &n);
    reco_free(dir);
    if (status != RECO_OK) {
        reco_file_abort(file);
        return status;
    }
    RECO_TRY(reco_file_commit(ctx, file));
    if (rows) *rows = n;
    return RECO_OK;
}
