/* clip/clip_internal.h: a model in memory. A family is a configuration reader (config_*.c) that fills reco_spec, a
 * preprocessing reader, and a table of tensor names (weights_*.c); towers and embedding are shared by all. */
#ifndef RECO_SRC_CLIP_INTERNAL_H
#define RECO_SRC_CLIP_INTERNAL_H

#include "io/io.h"
#include "kernels/kernels.h"
#include "reco/clip.h"

/* What a configuration says, whatever family it is of. */
typedef struct reco_tower_spec {
    size_t width, layers, heads, mlp;
    float eps;
    reco_act act;
} reco_tower_spec;

typedef struct reco_spec {
    reco_tower_spec image, text;
    size_t image_size, patch, context, vocab, d;
    int32_t eos; /* text is pooled at its first eos token ... */
    bool
        pool_max; /* ... or at its highest id, for configurations that older transformers wrote (eos_token_id 2) */
} reco_spec;

/* The weights file or its shards. */
typedef struct reco_weights {
    reco_safetensors **files;
    size_t n;
    char *path; /* for messages: the file, or the index of the shards */
} reco_weights;
reco_status reco_weights_open(reco_ctx *ctx, reco_weights *weights, const char *dir, const char *name);
void reco_weights_close(reco_weights *weights);
/* A tensor of exactly this shape, as finite f32, in memory of its own; NULL with the error recorded otherwise. */
float *reco_weights_load(reco_ctx *ctx, const reco_weights *weights, const char *name, size_t rank,
                         const size_t *shape);
bool reco_weights_have(const reco_weights *weights, const char *name);

/* A residual block, pre-norm. */
typedef struct reco_block {
    float *ln1_weight, *ln1_bias, *ln2_weight, *ln2_bias; /* [width] */
    reco_linear *qkv, *out, *fc1, *fc2;
} reco_block;

typedef struct reco_tower {
    reco_tower_spec spec;
    bool causal;
    reco_block *blocks; /* [layers] */
    float *ln_pre_weight, *ln_pre_bias, *ln_post_weight, *ln_post_bias;
    float *positions;        /* [image tokens or context][width] */
    float *embedding;        /* image: class token [width]; text: [vocab][width] */
    reco_linear *patches;    /* image: [width][3*patch*patch] */
    reco_linear *projection; /* [d][width] */
} reco_tower;

struct reco_model {
    char *dir, *name;
    const char *family;
    reco_spec spec;
    reco_weights weights;
    reco_tower image, text;
    float logit_scale;
    reco_preprocess preprocess;
    reco_tokenizer *tokenizer;
    reco_precision precision;
    char image_act[16], text_act[16];
};

reco_status reco_config_hf(reco_ctx *ctx, reco_model *model);
reco_status reco_preprocess_hf(reco_ctx *ctx, reco_model *model);
reco_status reco_weights_hf(reco_ctx *ctx, reco_model *model);

/* Activation by its name in a configuration; RECO_E_UNSUPPORTED names it and the file. */
reco_status reco_act_named(reco_ctx *ctx, reco_act *act, const char *name, const char *path);

/* Run the blocks over packed sequences, in place.
 *   x       [rows][width], rows a multiple of 64 at least starts[n] (see reco_tower_rows)
 *   starts  [n+1] */
reco_status reco_tower_run(reco_ctx *ctx, const reco_tower *tower, float *x, size_t rows,
                           const size_t *starts, size_t n);
void reco_tower_free(reco_tower *tower);
/* Rows to give reco_tower_run for t tokens: few different sizes keep oneDNN's cache of compiled products small. */
static inline size_t reco_tower_rows(size_t t) { return (t + 63) / 64 * 64; }

/* out[n][d] unit rows; n * tokens at most a chunk (embed.c). */
reco_status reco_image_tower(reco_ctx *ctx, const reco_model *model, const float *pixels, size_t n,
                             float *out);
reco_status reco_text_tower(reco_ctx *ctx, const reco_model *model, const int32_t *ids,
                            const size_t *starts, size_t n, float *out);

#endif
