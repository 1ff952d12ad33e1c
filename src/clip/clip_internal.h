/* clip/clip_internal.h: a model in memory. A family is a configuration reader (config_*.c) that fills reco_spec, a
 * preprocessing reader, and a table of tensor names (weights_*.c); towers, pooling and embedding are shared by all. */
#ifndef RECO_SRC_CLIP_INTERNAL_H
#define RECO_SRC_CLIP_INTERNAL_H

#include "io/io.h"
#include "kernels/kernels.h"
#include "clip/clip.h"
#include "text/text.h"

/* Which row of a sequence becomes the embedding. */
typedef enum reco_pool {
    RECO_POOL_FIRST = 0, /* images: the class token */
    RECO_POOL_EOS,       /* text: the first eos token, the first token where there is none */
    RECO_POOL_MAX,       /* text: the highest id, the first of equals */
    RECO_POOL_LAST,      /* text: the last position of the context */
    RECO_POOL_MEAN,      /* images: the mean of the patches */
    RECO_POOL_MAP /* images: attention of a learned query over the patches, then an MLP (pool_image.c) */
} reco_pool;

/* What a configuration says, whatever family it is of. */
typedef struct reco_tower_spec {
    bool present;
    size_t width, layers, heads, mlp;
    float eps;
    reco_act act;
    reco_pool pool;
    bool layer_scale; /* open_clip: gains after attention and MLP */
} reco_tower_spec;

typedef struct reco_spec {
    reco_tower_spec image, text;
    size_t image_size, patch, context, vocab, d;
    int32_t eos;       /* of RECO_POOL_EOS */
    bool class_token;  /* a row before the patches */
    bool ln_post_last; /* RECO_POOL_MEAN: normalise the mean, not the rows */
    bool causal;       /* text sees what came before it alone */
    bool pad;          /* text is padded to the context, since pads are seen or pooled */
} reco_spec;

/* A tensor by the name that the model's own code gives it; in its file it may be wrapped in others (names.c). */
typedef struct reco_named {
    const char *name;
    char *own; /* where `name` is no part of the tensor's */
    const reco_tensor *tensor;
    const reco_safetensors *file;
    bool used; /* set by reco_weights_need */
} reco_named;

/* The weights file or its shards. */
typedef struct reco_weights {
    reco_safetensors **files;
    size_t n;
    reco_named *named;         /* [count], sorted by name */
    size_t count, outside;     /* tensors that are none of the model's */
    char *prefix;              /* that was taken off all names, or "" */
    const reco_named *wrapped; /* one whose name in its file is another; NULL: none */
    char *path;                /* for messages: the file, or the index of the shards */
} reco_weights;
/* RECO_E_IO where neither the file nor its index is there; what else is there that holds weights is named. */
reco_status reco_weights_open(reco_ctx *ctx, reco_weights *weights, const char *dir, const char *name);
/* The file, or an index of its shards, is there. */
reco_status reco_weights_there(reco_ctx *ctx, const char *dir, const char *name, bool *there);
void reco_weights_close(reco_weights *weights);
/* names.c: fill in named, count, outside and prefix, of files that are open. */
reco_status reco_weights_name(reco_ctx *ctx, reco_weights *weights);
/* A tensor of exactly this shape, as finite f32, in memory of its own; NULL with the error recorded otherwise. */
float *reco_weights_load(reco_ctx *ctx, const reco_weights *weights, const char *name, size_t rank,
                         const size_t *shape);
/* The two halves of it: the tensor, checked; n elements of it into `out`, or only looked at where that is NULL; false when one
 * is not finite. */
const reco_tensor *reco_weights_need(reco_ctx *ctx, const reco_weights *weights, const char *name,
                                     size_t rank, const size_t *shape);
bool reco_weights_read(reco_ctx *ctx, const reco_weights *weights, const reco_tensor *tensor, size_t from,
                       size_t n, float *out);
const reco_tensor *reco_weights_find(const reco_weights *weights, const char *name); /* NULL: none */
bool reco_weights_prefix(const reco_weights *weights, const char *prefix);           /* of any tensor */
/* How many tensors nobody loaded, but for integers (positions by number, which old files hold); first: one of them. */
size_t reco_weights_left(const reco_weights *weights, const reco_tensor **first);

/* A residual block, pre-norm. */
typedef struct reco_block {
    float *ln1_weight, *ln1_bias, *ln2_weight, *ln2_bias; /* [width] */
    reco_linear *qkv, *out, *fc1, *fc2;
} reco_block;

/* The attention pooling head. Its query is the same for every image, so only its projection is kept. */
typedef struct reco_pooler {
    size_t heads, mlp;
    float *q;                   /* [width], scaled by 1 / sqrt(width / heads) */
    float *ln_weight, *ln_bias; /* [width] */
    reco_linear *kv, *out;      /* [2*width][width], [width][width] */
    reco_linear *fc1, *fc2;     /* [mlp][width], [width][mlp] */
} reco_pooler;

typedef struct reco_tower {
    reco_tower_spec spec;
    bool causal;
    reco_block *blocks;                 /* [layers] */
    float *ln_pre_weight, *ln_pre_bias; /* [width]; NULL: none */
    float *ln_post_weight, *ln_post_bias;
    float *positions;          /* [image tokens or context][width] */
    float *embedding;          /* image: class token [width] or NULL */
    const reco_tensor *tokens; /* text: [vocab][width], in the mapped file */
    reco_linear *patches;      /* image: [width][3*patch*patch] */
    reco_pooler *map;          /* of RECO_POOL_MAP, else NULL */
    reco_linear *projection;   /* [d][width]; NULL: none, d = width */
} reco_tower;

struct reco_model {
    char *dir, *name;
    const char *family;
    reco_spec spec;
    reco_weights weights;
    reco_tower image, text;
    float logit_scale, logit_bias;
    bool has_logit_bias;
    reco_preprocess preprocess;
    bool no_ln_pre, no_text_projection; /* open_clip */
    bool timm_image;                    /* open_clip: an image tower of timm's */
    bool folder_tokenizer;              /* open_clip: the folder's tokenizer, not the built-in one */
    reco_clean clean;
    reco_tokenizer *tokenizer; /* NULL: without a text tower, or no_tokenizer says why */
    char *no_tokenizer;
    reco_model_info info; /* once it is open */
    reco_precision precision;
    reco_sides sides; /* that are loaded */
    char image_act[32], text_act[32];
    char **guesses; /* [nguesses], what was assumed for want of a word in the files */
    size_t nguesses;
};

/* Note an assumption; RECO_E_NOMEM is the only failure. */
reco_status reco_guess(reco_ctx *ctx, reco_model *model, const char *format, ...) RECO_PRINTF(3, 4);
/* RECO_E_UNSUPPORTED where the tower, model->spec.image or .text, is not there, or the text's tokenizer. */
reco_status reco_model_need(reco_ctx *ctx, const reco_model *model, const reco_tower_spec *tower);

/* Hugging Face: CLIPModel and its towers, SiglipModel and its towers. */
reco_status reco_config_hf(reco_ctx *ctx, reco_model *model);
reco_status reco_preprocess_hf(reco_ctx *ctx, reco_model *model);
/* Opens the weights; forgets a tower that has no tensor in them. */
reco_status reco_towers_hf(reco_ctx *ctx, reco_model *model);
reco_status reco_weights_hf(reco_ctx *ctx, reco_model *model);

/* open_clip, with towers of its own or SigLIP's from timm. */
reco_status reco_config_openclip(reco_ctx *ctx, reco_model *model);
reco_status reco_preprocess_openclip(reco_ctx *ctx, reco_model *model);
reco_status reco_weights_openclip(reco_ctx *ctx, reco_model *model);

/* The tokenizer of any family. */
reco_status reco_model_tokenizer(reco_ctx *ctx, reco_model *model);

/* Run the blocks over packed sequences, in place.
 *   x       [rows][width], rows at least starts[n]
 *   starts  [n+1]
 *   only    NULL, or [n] ascending: the one row of each sequence that is wanted. x[n][width] are these then, and the
 *           last block computes no others */
reco_status reco_tower_run(reco_ctx *ctx, const reco_tower *tower, float *x, size_t rows,
                           const size_t *starts, size_t n, const size_t *only);
void reco_tower_free(reco_tower *tower);
/* reco_model_tokens, and whether there were more; cut may be NULL. */
reco_status reco_model_ids(reco_ctx *ctx, const reco_model *model, const char *text, size_t bytes,
                           int32_t *ids, size_t *n, bool *cut);
/* Rows to give reco_tower_run for t tokens where t changes from call to call: few different sizes keep oneDNN's cache of
 * compiled products small, but one short caption should not pay for 64 tokens. */
static inline size_t reco_tower_rows(size_t t)
{
    size_t step = t <= 64 ? 8 : 64;
    return (t + step - 1) / step * step;
}

/* Rows of an image's sequence. */
static inline size_t reco_image_tokens(const reco_spec *spec)
{
    size_t grid = spec->image_size / spec->patch;
    return grid * grid + (spec->class_token ? 1 : 0);
}
/* pooled[n][width] from the blocks' output x, which is overwritten; ln_post included. x is [n][width], the class tokens,
 * for RECO_POOL_FIRST, else [n * tokens][width]. */
reco_status reco_pool_image(reco_ctx *ctx, const reco_model *model, float *pooled, float *x, size_t n);
void reco_pooler_free(reco_pooler *map);

/* out[n][d] unit rows; n * tokens at most a chunk (embed.c). */
reco_status reco_image_tower(reco_ctx *ctx, const reco_model *model, const float *pixels, size_t n,
                             float *out);
reco_status reco_text_tower(reco_ctx *ctx, const reco_model *model, const int32_t *ids,
                            const size_t *starts, size_t n, float *out);

#endif
