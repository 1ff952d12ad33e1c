/* reco/clip.h: a frozen vision-text model, from its folder to unit embeddings. */
#ifndef RECO_CLIP_H
#define RECO_CLIP_H

#include "reco/base.h"

#include <stdbool.h>
#include "reco/image.h"
#include "reco/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reco_model reco_model;

typedef struct reco_tower_info {
    size_t width, layers, heads, mlp;
    char activation[32]; /* as the configuration names it */
} reco_tower_info;

typedef struct reco_model_info {
    char family[32];          /* "hf-clip", "hf-siglip" or "open_clip" */
    char name[256];           /* of the folder, or as in its configuration */
    size_t d;                 /* width of the embeddings */
    bool has_image, has_text; /* towers that exist; the sizes of a missing one are 0 */
    reco_tower_info image, text;
    size_t image_size, patch; /* pixels */
    size_t context, vocab;    /* tokens */
    reco_dtype weights;       /* as stored */
    /* precision of computation: RECO_PRECISION_F32, RECO_PRECISION_BF16 or RECO_PRECISION_INT8 */
    reco_precision precision;
    float logit_scale;   /* exp(logit_scale): 1..100 in trained models; 0 for a tower alone */
    bool has_logit_bias; /* SigLIP: probability = sigmoid(logit_scale * cosine + logit_bias) */
    float logit_bias;
    bool pads; /* texts are padded to the context, since this model attends to padding */
    uint64_t parameters;
    reco_preprocess preprocess; /* of models with an image tower */
    /* of models with a text tower; kind "" if this build cannot read it */
    reco_tokenizer_info tokenizer;
} reco_model_info;

typedef struct reco_model_opts {
    reco_precision precision;
    /* The side that will not be embedded, at most one. Its tensors are checked but not packed, and without
     * the text side no tokenizer is read. */
    reco_sides without;
    /* 1: rotate pictures according to their EXIF orientation, as transformers' load_image does; 0: read
     * them as stored, as Image.open does (reco_preprocess.upright) */
    int exif;
    uint64_t reserved[RECO_RESERVED];
} reco_model_opts;

/* Open a model folder, or a folder that contains one (sentence-transformers, a hub's cache): Hugging Face's
 * CLIPModel, SiglipModel or one of their towers (config.json, model.safetensors or its shards,
 * preprocessor_config.json, tokenizer files), or open_clip's (open_clip_config.json,
 * open_clip_model.safetensors). docs/models.md lists the families.
 *
 * Every size in the configuration is checked against the tensors; weights must be finite. A key (in
 * open_clip, also a tensor) that would change the results and is not supported is an error. The file is
 * mapped while it is read; packed copies (as large as the weights in the precision computed in) stay in
 * memory.
 * Returns RECO_OK; RECO_E_IO (file missing: named), RECO_E_FORMAT (file, key or tensor, its value and the
 * value wanted), RECO_E_UNSUPPORTED (activation, model type, layer or preprocessing that reco does not
 * know, by name; weights in a pickle), RECO_E_NOMEM. */
RECO_API reco_status reco_model_open(reco_ctx *ctx, reco_model **out, const char *dir,
                                     const reco_model_opts *opts);
RECO_API void reco_model_close(reco_model *model);
/* Borrowed from the model. */
RECO_API const reco_model_info *reco_model_get_info(const reco_model *model);

/* Assumptions made where the folder's files are silent, such as a default of the family's configuration or
 * the built-in tokenizer. reco_model_guess(model, i) is a sentence for i below reco_model_guesses(model),
 * else NULL. Valid until the model is closed. */
RECO_API size_t reco_model_guesses(const reco_model *model);
RECO_API const char *reco_model_guess(const reco_model *model, size_t i);

/* 32 hex digits: a hash of the names (without prefixes that training code added), types, shapes and bytes
 * of all tensors. Reads the weights again (about 10 GB/s when cached); hex is 33 bytes. */
RECO_API reco_status reco_model_fingerprint(reco_ctx *ctx, const reco_model *model, char hex[33]);

/* Read the input pixels of the image tower.
 *   out   [3][R][R] f32, R = info.image_size
 * Errors as reco_image_load_rgb. */
RECO_API reco_status reco_model_pixels(reco_ctx *ctx, const reco_model *model, const char *path,
                                       const reco_image_limits *limits, float *out);
/* Same, from a file's content in memory; path is only used in messages. */
RECO_API reco_status reco_model_pixels_of(reco_ctx *ctx, const reco_model *model, const char *path,
                                          const void *data, size_t bytes, const reco_image_limits *limits,
                                          float *out);
/* Same, from decoded pixels, [height][width][3] u8; errors as reco_image_shape_rgb. */
RECO_API reco_status reco_model_pixels_rgb(reco_ctx *ctx, const reco_model *model, const char *name,
                                           const uint8_t *rgb, size_t height, size_t width,
                                           const reco_image_limits *limits, float *out);

/* Token ids of a caption, truncated to the context; ids [info.context]. If the reference pads on the left,
 * the padding is included. */
RECO_API reco_status reco_model_tokens(reco_ctx *ctx, const reco_model *model, const char *text,
                                       size_t bytes, int32_t *ids, size_t *n);
RECO_API int32_t reco_model_pad(const reco_model *model);

/* Embed.
 *   out     [n][d] unit rows
 *   pixels  [n][3][R][R]
 * RECO_E_UNSUPPORTED if the model lacks this tower or this build cannot read its tokenizer (also for n = 0,
 * as a test). The bits of a row depend only on its picture or text, not on n, its position or the number of
 * threads. They do depend on the instruction set and the precision. Memory beside the model: activations of
 * at most 4,096 tokens at a time. Thread-safe on a shared model. */
RECO_API reco_status reco_model_embed_pixels(reco_ctx *ctx, const reco_model *model, const float *pixels,
                                             size_t n, float *out);
/*   texts   [n] NUL-terminated UTF-8; never padded, so short captions cost little
 *   cut     [n] 1 if a text has more tokens than the context and was truncated, else 0; NULL: not wanted */
RECO_API reco_status reco_model_embed_texts(reco_ctx *ctx, const reco_model *model,
                                            const char *const *texts, size_t n, float *out,
                                            unsigned char *cut);
/* Same, from token ids as given by reco_model_tokens or by the reference's tokenizer.
 *   ids     [n][context], with any padding after the end token. RECO_E_ARG for an id that is not in the
 *           vocabulary */
RECO_API reco_status reco_model_embed_tokens(reco_ctx *ctx, const reco_model *model, const int32_t *ids,
                                             size_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
