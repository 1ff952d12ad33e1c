#include "clip/clip_internal.h"

/* Tokens in flight: enough to fill the products, few enough that activations of a large model stay small. */
#define CHUNK_TOKENS 4096

reco_status reco_model_embed_pixels(reco_ctx *ctx, const reco_model *model, const float *pixels, size_t n,
                                    float *out)
{
    size_t side = model->spec.image_size;
    RECO_TRY(reco_model_need(ctx, model, &model->spec.image));
    size_t chunk = reco_max(1, CHUNK_TOKENS / reco_image_tokens(&model->spec));
    for (size_t i = 0; i < n; i += chunk)
        RECO_TRY(reco_image_tower(ctx, model, pixels + i * 3 * side * side, reco_min(chunk, n - i),
                                  out + i * model->spec.d));
    return RECO_OK;
}

static uint64_t hash_ids(const int32_t *ids, size_t n) { return reco_hash64(ids, n * sizeof *ids, 2); }

reco_status reco_model_hash_tokens(reco_ctx *ctx, const reco_model *model, const char *text, uint64_t *hash)
{
    size_t n;
    reco_mark mark = reco_scratch_mark(ctx);
    int32_t *ids = reco_scratch(ctx, model->spec.context, sizeof *ids, "token ids");
    reco_status status = ids ? reco_model_tokens(ctx, model, text, strlen(text), ids, &n) : RECO_E_NOMEM;
    if (status == RECO_OK) *hash = hash_ids(ids, n);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_model_embed_texts(reco_ctx *ctx, const reco_model *model, const char *const *texts,
                                   size_t n, float *out, unsigned char *cut)
{
    return reco_model_embed_hashed(ctx, model, texts, n, out, cut, NULL);
}

reco_status reco_model_embed_hashed(reco_ctx *ctx, const reco_model *model, const char *const *texts,
                                    size_t n, float *out, unsigned char *cut, uint64_t *hashes)
{
    RECO_TRY(reco_model_need(ctx, model, &model->spec.text));
    size_t context = model->spec.context, most = reco_max(1, CHUNK_TOKENS / 4),
           room = CHUNK_TOKENS + context;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    int32_t *ids = reco_scratch(ctx, room, sizeof *ids, "token ids");
    size_t *starts = reco_scratch(ctx, most + 1, sizeof *starts, "starts");
    if (!ids || !starts) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0, first = 0, held = 0; i < n; i++) {
        size_t length;
        bool more;
        starts[0] = 0;
        RECO_GO(reco_model_ids(ctx, model, texts[i], strlen(texts[i]), ids + starts[held], &length, &more));
        if (cut) cut[i] = more;
        if (hashes) hashes[i] = hash_ids(ids + starts[held], length);
        if (model->spec.pad)
            for (; length < context; length++) ids[starts[held] + length] = reco_model_pad(model);
        starts[held + 1] = starts[held] + length;
        held++;
        if (i + 1 == n || held == most || starts[held] + context > CHUNK_TOKENS) {
            RECO_GO(reco_text_tower(ctx, model, ids, starts, held, out + first * model->spec.d));
            first = i + 1;
            held = 0;
        }
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* How many tokens of a row the model has to read: what stands behind the end token it does not see. */
static size_t length_of(const reco_model *model, const int32_t *ids)
{
    size_t context = model->spec.context, n = 0;
    if (model->spec.pad || !model->spec.causal) return context;
    int32_t eos = reco_tokenizer_get_info(model->tokenizer)->eos;
    while (n < context && ids[n] != eos) n++;
    return n < context ? n + 1 : context;
}

reco_status reco_model_embed_tokens(reco_ctx *ctx, const reco_model *model, const int32_t *ids, size_t n,
                                    float *out)
{
    RECO_TRY(reco_model_need(ctx, model, &model->spec.text));
    size_t context = model->spec.context, vocab = model->spec.vocab,
           most = reco_max(1, CHUNK_TOKENS / context);
    for (size_t i = 0; i < n * context; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= vocab)
            return reco_fail(ctx, RECO_E_ARG, "%s: token %d of text %zu, want 0..%zu", model->dir, ids[i],
                             i / context, vocab - 1);
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    int32_t *packed = reco_scratch(ctx, most * context, sizeof *packed, "token ids");
    size_t *starts = reco_scratch(ctx, most + 1, sizeof *starts, "starts");
    if (!packed || !starts) RECO_GO(RECO_E_NOMEM);
    for (size_t first = 0; first < n; first += most) {
        size_t m = reco_min(most, n - first);
        starts[0] = 0;
        for (size_t i = 0; i < m; i++) {
            const int32_t *row = ids + (first + i) * context;
            starts[i + 1] = starts[i] + length_of(model, row);
            memcpy(packed + starts[i], row, (starts[i + 1] - starts[i]) * sizeof *row);
        }
        RECO_GO(reco_text_tower(ctx, model, packed, starts, m, out + first * model->spec.d));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
