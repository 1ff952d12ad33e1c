/* What answers are made of. */
#include "internal.h"

#include <stdlib.h>

json_t *serve_score(float score)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)score);
    return json_real(strtod(text, NULL));
}

/* Are 15 digits enough for every number? Of ours they always are; a user's may have more. */
static bool is_short(const json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;
    bool fine = true;
    if (json_is_real(value)) {
        char text[32];
        snprintf(text, sizeof text, "%.15g", json_real_value(value));
        return !(strtod(text, NULL) < json_real_value(value)) &&
               !(strtod(text, NULL) > json_real_value(value));
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member) fine &= is_short(member);
    json_array_foreach(value, i, member) fine &= is_short(member);
    return fine;
}

char *serve_dump(const json_t *value)
{
    if (!value) return NULL;
    return json_dumps(value,
                      JSON_COMPACT | JSON_ENCODE_ANY | (is_short(value) ? JSON_REAL_PRECISION(15) : 0));
}

json_t *serve_vector(const float *x, size_t d)
{
    json_t *list = json_array();
    for (size_t i = 0; i < d; i++) json_array_append_new(list, serve_score(x[i]));
    return list;
}

static json_t *row_of(const reco_pair *pair)
{
    json_t *meta = pair->meta ? json_loads(pair->meta, 0, NULL) : NULL;
    return json_pack("{s:I, s:s, s:s?, s:o}", "id", (json_int_t)pair->id, "caption", pair->caption, "uri",
                     pair->uri, "meta", meta ? meta : json_null());
}

json_t *serve_row(reco_ctx *ctx, const serve_bank *bank, int64_t id)
{
    reco_pair pair;
    if (reco_bank_get(ctx, bank->now, id, &pair) != RECO_OK) return NULL;
    json_t *row = row_of(&pair);
    reco_pair_free(&pair);
    return row;
}

void serve_rows(reco_ctx *ctx, const serve_bank *bank, const int64_t *ids, size_t n, json_t **rows)
{
    reco_pair *pairs = calloc(n, sizeof *pairs);
    bool all = pairs && reco_bank_get_many(ctx, bank->now, ids, n, pairs) == RECO_OK;
    for (size_t i = 0; i < n; i++) {
        rows[i] =
            all ? row_of(&pairs[i]) : serve_row(ctx, bank, ids[i]); /* one may be gone since it was found */
        if (all) reco_pair_free(&pairs[i]);
    }
    free(pairs);
}

/* The file of a row's picture on this machine; NULL where it is none. To be freed. */
char *serve_picture_path(reco_ctx *ctx, const serve_bank *bank, int64_t id)
{
    reco_pair pair;
    char *path = NULL;
    if (reco_bank_get(ctx, bank->now, id, &pair) != RECO_OK) return NULL;
    if (pair.uri && !strstr(pair.uri, "://")) {
        bool whole = *pair.uri == '/' || !pair.base;
        if (asprintf(&path, "%s%s%s", whole ? "" : pair.base, whole ? "" : "/", pair.uri) < 0) path = NULL;
    }
    reco_pair_free(&pair);
    return path;
}

unsigned char *serve_read_file(const char *path, size_t most, size_t *bytes)
{
    FILE *in = fopen(path, "rb");
    unsigned char *data = NULL;
    *bytes = 0;
    if (!in) return NULL;
    if (fseek(in, 0, SEEK_END) == 0) {
        long size = ftell(in);
        if (size > 0 && (size_t)size <= most && fseek(in, 0, SEEK_SET) == 0) data = malloc((size_t)size);
        if (data) *bytes = fread(data, 1, (size_t)size, in);
        if (data && *bytes != (size_t)size) {
            free(data);
            data = NULL;
        }
    }
    fclose(in);
    return data;
}
