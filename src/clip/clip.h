/* clip/clip.h: embeddings of texts with what the model reads of each, for query/ and pipeline/. */
#ifndef RECO_SRC_CLIP_H
#define RECO_SRC_CLIP_H

#include "reco/clip.h"

/* reco_model_embed_texts, and what the model reads of each text: hashes [n], of its tokens, equal where they are. */
reco_status reco_model_embed_hashed(reco_ctx *ctx, const reco_model *model, const char *const *texts,
                                    size_t n, float *out, unsigned char *cut, uint64_t *hashes);
/* That hash alone. */
reco_status reco_model_hash_tokens(reco_ctx *ctx, const reco_model *model, const char *text,
                                   uint64_t *hash);

#endif
