/* What answers are made of. */
#include "internal.h"

#include <stdlib.h>

char *serve_dump(const json_t *value)
{
    return value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | answer_digits(value, true)) : NULL;
}

json_t *serve_vector(const float *x, size_t d)
{
    json_t *list = json_array();
    for (size_t i = 0; i < d; i++) json_array_append_new(list, answer_score(x[i]));
    return list;
}

void serve_note_missing(serve_request *r, const reco_bank *bank)
{
    const char *name;
    for (size_t i = 0; (name = reco_bank_missing_shard(bank, i)) != NULL; i++) {
        if (!r->missing) r->missing = json_object();
        json_object_set_new(r->missing, name, json_true());
    }
}

char *serve_missing(const serve_request *r)
{
    char *list = NULL, *longer;
    const char *name;
    json_t *is;
    json_object_foreach(r->missing, name, is)
    {
        if (asprintf(&longer, "%s%s%s", list ? list : "", list ? ", " : "", name) < 0) break;
        free(list);
        list = longer;
    }
    return list;
}

void serve_reply_found(serve *s, serve_request *r, const reco_bank *bank, int status, json_t *value)
{
    serve_note_missing(r, bank);
    if (!r->ask.only_rows)
        json_object_set_new(value, "recall", json_real(answer_recall(bank, r->ask.recall)));
    if (s->opts->open.partial && reco_bank_is_server(r->bank->path)) {
        json_t *list = json_array(), *is;
        const char *name;
        json_object_foreach(r->missing, name, is) json_array_append_new(list, json_string(name));
        json_object_set_new(value, "missing_servers", list);
    }
    serve_reply(r, status, value);
}

void serve_fail_row(serve_request *r, int64_t id)
{
    serve_note_missing(r, r->bank->now);
    if (r->missing)
        serve_fail(r, 503, "row %lld may be on %s, which does not answer", (long long)id,
                   json_object_iter_key(json_object_iter(r->missing)));
    else
        serve_fail(r, 404, "the bank has no row %lld", (long long)id);
}

json_t *serve_row(reco_ctx *ctx, const serve_bank *bank, int64_t id)
{
    reco_pair pair;
    if (reco_bank_get(ctx, bank->now, id, &pair) != RECO_OK) return NULL;
    json_t *row = answer_row(&pair);
    reco_pair_free(&pair);
    return row;
}

reco_pair *serve_pairs(reco_ctx *ctx, const serve_bank *bank, const int64_t *ids, size_t n)
{
    reco_pair *pairs = calloc(n ? n : 1, sizeof *pairs);
    if (!pairs || reco_bank_get_many(ctx, bank->now, ids, n, pairs) == RECO_OK) return pairs;
    for (size_t i = 0; i < n; i++) /* one may be gone since it was found */
        if (reco_bank_get(ctx, bank->now, ids[i], &pairs[i]) != RECO_OK)
            pairs[i] = (reco_pair){.id = ids[i]};
    return pairs;
}

void serve_free_pairs(reco_pair *pairs, size_t n)
{
    for (size_t i = 0; pairs && i < n; i++) reco_pair_free(&pairs[i]);
    free(pairs);
}

void serve_rows(reco_ctx *ctx, const serve_bank *bank, const int64_t *ids, size_t n, json_t **rows)
{
    reco_pair *pairs = serve_pairs(ctx, bank, ids, n);
    for (size_t i = 0; i < n; i++) rows[i] = pairs && pairs[i].caption ? answer_row(&pairs[i]) : NULL;
    serve_free_pairs(pairs, n);
}

char *serve_picture_path(const reco_pair *pair)
{
    char *path = NULL;
    if (!pair->uri || strstr(pair->uri, "://")) return NULL;
    bool whole = *pair->uri == '/' || !pair->base;
    if (asprintf(&path, "%s%s%s", whole ? "" : pair->base, whole ? "" : "/", pair->uri) < 0) path = NULL;
    return path;
}
