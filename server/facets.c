/* GET /v1/facets: which values the user's columns have, and in how many rows, of the whole bank or of what a condition leaves. All rows are
 * read for that, so it has a thread and handles of banks of its own; answers are kept until the bank changes. */
#include "routes.h"

#include <stdlib.h>

enum { PAGE = 1024, COLUMNS = 100, VALUES = 1000, SHOWN = 50, LONGEST = 100 };

void serve_facets_parse(serve *s, serve_request *r)
{
    const char *where = serve_parameter(r, "where");
    r->ask.only_rows = true;
    if (!serve_put_bank(s, r, serve_parameter(r, "bank"))) return;
    r->where = where ? strdup(where) : NULL;
    if (where && !*where)
        serve_fail(r, 400, "\"where\" must not be empty");
    else if (where && !r->where)
        serve_fail(r, 503, "out of memory");
    else
        (void)serve_enqueue(s, &s->counts, r);
}

/* One more row with this value; a column has "more" values than are counted where it has too many, or long ones. */
static void count_value(json_t *columns, const char *name, const json_t *value)
{
    json_t *column = json_object_get(columns, name);
    if (!column) {
        if (json_object_size(columns) >= COLUMNS) return;
        column = json_pack("{s:I, s:b, s:{}}", "rows", (json_int_t)0, "more", 0, "values");
        if (json_object_set_new(columns, name, column) != 0) return;
    }
    json_t *rows = json_object_get(column, "rows"), *values = json_object_get(column, "values");
    json_integer_set(rows, json_integer_value(rows) + 1);
    bool simple = json_is_string(value) || json_is_number(value) || json_is_boolean(value);
    char *key = simple ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_t *n = key && strlen(key) <= LONGEST ? json_object_get(values, key) : NULL;
    if (n)
        json_integer_set(n, json_integer_value(n) + 1);
    else if (key && strlen(key) <= LONGEST && json_object_size(values) < VALUES)
        json_object_set_new(values, key, json_integer(1));
    else
        json_object_set_new(column, "more", json_true());
    free(key);
}

typedef struct counted {
    const char *key;
    json_int_t rows;
} counted;

/* Most rows first. */
static int by_row_count(const void *a, const void *b)
{
    const counted *x = a, *y = b;
    if (x->rows != y->rows) return x->rows > y->rows ? -1 : 1;
    return strcmp(x->key, y->key);
}

static json_t *list_values(json_t *values, bool *more)
{
    size_t n = 0;
    const char *key;
    json_t *rows, *list = json_array();
    counted *all = calloc(json_object_size(values) + 1, sizeof *all);
    json_object_foreach(values, key, rows)
    {
        if (all) all[n++] = (counted){key, json_integer_value(rows)};
    }
    if (n) qsort(all, n, sizeof *all, by_row_count);
    *more |= n > SHOWN;
    for (size_t i = 0; i < n && i < SHOWN; i++)
        json_array_append_new(list, json_pack("{s:o, s:I}", "value",
                                              json_loads(all[i].key, JSON_DECODE_ANY, NULL), "rows",
                                              all[i].rows));
    free(all);
    return list;
}

static json_t *list_columns(json_t *columns, json_int_t rows)
{
    const char *name;
    json_t *column, *list = json_array();
    json_object_foreach(columns, name, column)
    {
        bool more = json_is_true(json_object_get(column, "more"));
        json_t *values = list_values(json_object_get(column, "values"), &more);
        json_array_append_new(list,
                              json_pack("{s:s, s:O, s:b, s:o}", "column", name, "rows",
                                        json_object_get(column, "rows"), "more", more, "values", values));
    }
    return json_pack("{s:I, s:o}", "rows", rows, "facets", list);
}

/* The answer, or NULL where the request has failed. */
static json_t *count_all(serve *s, serve_request *r, reco_ctx *ctx, const reco_bank *bank)
{
    int64_t ids[PAGE], from = 0;
    reco_pair pairs[PAGE];
    json_int_t rows = 0;
    size_t n = PAGE;
    json_t *columns = json_object();
    reco_status status = RECO_OK;
    while (status == RECO_OK && n == PAGE && !r->status) {
        status = reco_bank_select(ctx, bank, r->where, from, PAGE, ids, &n);
        if (status == RECO_OK && n) status = reco_bank_get_many(ctx, bank, ids, n, pairs);
        for (size_t i = 0; i < n && status == RECO_OK; i++) {
            json_t *meta = pairs[i].meta ? json_loads(pairs[i].meta, 0, NULL) : NULL, *value;
            const char *name;
            json_object_foreach(meta, name, value) count_value(columns, name, value);
            json_decref(meta);
            reco_pair_free(&pairs[i]);
        }
        rows += (json_int_t)n;
        from = n ? ids[n - 1] + 1 : from;
        if (serve_now() - r->began > serve_patience(s))
            serve_fail(r, 503, "counting the rows of the bank took longer than the time limit");
        if (serve_is_gone(r)) serve_fail(r, 499, "the client disconnected");
    }
    if (status != RECO_OK) serve_fail_status(r, ctx, status);
    json_t *answer = r->status ? NULL : list_columns(columns, rows);
    json_decref(columns);
    return answer;
}

void serve_facets_free(serve_bank *bank)
{
    for (int i = 0; i < SERVE_FACETS; i++) {
        free(bank->facets[i].where);
        json_decref(bank->facets[i].answer);
        bank->facets[i] = (serve_facets){0};
    }
}

/* The counter's own view of the bank, as it is now. */
static reco_status refresh_counted(const serve *s, serve_bank *bank, reco_ctx *ctx)
{
    reco_bank *fresh = NULL;
    reco_status status = bank->counted ? reco_bank_refresh(ctx, bank->counted, &fresh)
                                       : reco_bank_open_with(ctx, &fresh, bank->path, &s->opts->open);
    if (status != RECO_OK || !fresh) return status;
    serve_facets_free(bank);
    reco_bank_close(bank->counted);
    bank->counted = fresh;
    return RECO_OK;
}

void serve_facets_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    static uint64_t clock; /* the counter's alone */
    serve_facets *kept = r->bank->facets;
    const char *where = r->where ? r->where : "";
    reco_status status = refresh_counted(s, r->bank, ctx);
    if (status != RECO_OK) {
        serve_fail_status(r, ctx, status);
        return;
    }
    for (int i = 0; i < SERVE_FACETS; i++) {
        serve_facets *f = &r->bank->facets[i];
        if (f->where && strcmp(f->where, where) == 0) {
            f->used = ++clock;
            serve_reply(r, 200, json_incref(f->answer));
            return;
        }
        if (f->used < kept->used) kept = f;
    }
    json_t *answer = count_all(s, r, ctx, r->bank->counted);
    if (!answer) return;
    serve_reply_found(s, r, r->bank->counted, 200, json_incref(answer));
    if (r->missing) {
        json_decref(answer);
        return;
    }
    free(kept->where);
    json_decref(kept->answer);
    *kept = (serve_facets){strdup(where), answer, ++clock};
}

void *serve_counter(void *user)
{
    serve *s = user;
    for (serve_request *r; (r = serve_dequeue(s, &s->counts));) {
        r->route->finish(s, r, s->counter_ctx);
        serve_resume(r);
    }
    return NULL;
}
