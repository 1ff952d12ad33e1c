#include "clip/clip_internal.h"

/* By the model's own names, in their order, so that shards, the order of files and what training code put before the names
 * make no difference. */
reco_status reco_model_fingerprint(reco_ctx *ctx, const reco_model *model, char hex[33])
{
    reco_hash *hash = NULL;
    RECO_TRY(reco_hash_new(ctx, &hash));
    for (size_t i = 0; i < model->weights.count; i++) {
        const reco_named *named = &model->weights.named[i];
        const reco_tensor *t = named->tensor;
        uint64_t shape[10] = {(uint64_t)t->dtype, t->rank};
        for (size_t r = 0; r < t->rank; r++) shape[2 + r] = t->shape[r];
        reco_hash_update(hash, named->name, strlen(named->name) + 1);
        reco_hash_update(hash, shape, sizeof shape);
        reco_hash_update(hash, t->data, t->bytes);
    }
    reco_hash_hex(hash, hex);
    return RECO_OK;
}
