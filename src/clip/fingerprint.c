#include "clip/clip_internal.h"

#include <stdlib.h>

static int by_name(const void *a, const void *b)
{
    const reco_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* By name, so that shards and their order make no difference. */
reco_status reco_model_fingerprint(reco_ctx *ctx, const reco_model *model, char hex[33])
{
    reco_status status = RECO_OK;
    const reco_tensor **tensors = NULL;
    reco_hash *hash = NULL;
    size_t n = 0, total = 0;
    for (size_t f = 0; f < model->weights.n; f++) total += reco_safetensors_count(model->weights.files[f]);
    if (!(tensors = reco_alloc(ctx, total, sizeof *tensors, "tensor list"))) RECO_GO(RECO_E_NOMEM);
    for (size_t f = 0; f < model->weights.n; f++)
        for (size_t i = 0; i < reco_safetensors_count(model->weights.files[f]); i++)
            tensors[n++] = reco_safetensors_at(model->weights.files[f], i);
    qsort(tensors, n, sizeof *tensors, by_name);
    RECO_GO(reco_hash_new(ctx, &hash));
    for (size_t i = 0; i < n; i++) {
        const reco_tensor *t = tensors[i];
        uint64_t shape[10] = {(uint64_t)t->dtype, t->rank};
        for (size_t r = 0; r < t->rank; r++) shape[2 + r] = t->shape[r];
        reco_hash_update(hash, t->name, strlen(t->name) + 1);
        reco_hash_update(hash, shape, sizeof shape);
        reco_hash_update(hash, t->data, t->bytes);
    }
    reco_hash_hex(hash, hex);
out:
    reco_free(tensors);
    return status;
}
