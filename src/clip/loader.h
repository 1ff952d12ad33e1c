/* clip/loader.h: tensors by name into packed layers, for every family. The first failure stays; after it, all is a
 * no-op. */
#ifndef RECO_SRC_CLIP_LOADER_H
#define RECO_SRC_CLIP_LOADER_H

#include "clip/clip_internal.h"

typedef struct reco_loader {
    reco_ctx *ctx;
    const reco_weights *weights;
    reco_precision precision;
    reco_status status;
    bool check; /* blocks are not wanted: see that their tensors are right, pack nothing */
    bool int8;  /* loading blocks; what is outside of them is little work and stays in bf16 or f32 */
} reco_loader;

/* What the tensors of a family's block are called, after the block's prefix. ".weight" and ".bias" are added to all
 * but qkv_weight and qkv_bias (NULL: q, k and v are tensors of their own). scale1, scale2: what the outputs of
 * attention and MLP are multiplied with before they are added (NULL: nothing). */
typedef struct reco_block_names {
    const char *block; /* before its number */
    const char *ln1, *ln2, *qkv_weight, *qkv_bias, *q, *k, *v, *out, *fc1, *fc2, *scale1, *scale2;
} reco_block_names;

/* Names are prefix + name. Owned by the caller; NULL after a failure. */
float *reco_load_vector(reco_loader *l, const char *prefix, const char *name, size_t n);
float *reco_load_matrix(reco_loader *l, const char *prefix, const char *name, size_t rows, size_t cols);
float *reco_load_tensor(reco_loader *l, const char *prefix, const char *name, size_t rank,
                        const size_t *shape);
/* Checked, but left in its file: rows are looked up, few at a time. */
const reco_tensor *reco_load_table(reco_loader *l, const char *prefix, const char *name, size_t rows,
                                   size_t cols);
/* The positions of an image's tokens, [tokens][width] or, of rank 3, [1][tokens][width]. */
float *reco_load_grid(reco_loader *l, const char *prefix, const char *name, size_t rank,
                      const reco_spec *spec);
/* A scalar, or an array of one. */
float reco_load_scalar(reco_loader *l, const char *name);
/* "NAME.weight" and "NAME.bias". */
reco_linear *reco_load_linear(reco_loader *l, const char *prefix, const char *name, size_t out, size_t in,
                              reco_act act);
/* A matrix alone; stored [in][out] where transposed. */
reco_linear *reco_load_projection(reco_loader *l, const char *prefix, const char *name, size_t out,
                                  size_t in, bool transposed);
/* The patch convolution, [width][3][patch][patch]. */
reco_linear *reco_load_patches(reco_loader *l, const char *prefix, const char *name, size_t width,
                               size_t patch, bool bias);
/* Packs and frees weight [out][in] and bias [out] (may be NULL). */
reco_linear *reco_load_pack(reco_loader *l, float *weight, float *bias, size_t out, size_t in,
                            reco_act act);
void reco_load_blocks(reco_loader *l, reco_tower *tower, const char *prefix, const reco_tower_spec *spec,
                      const reco_block_names *names);
/* The attention pooling head from what it is made of, all owned and freed by it: probe [width], in_weight
 * [3*width][width] and in_bias [3*width], of q, k and v. The rest of the layers is the caller's to load. */
reco_pooler *reco_load_pooler(reco_loader *l, const reco_tower_spec *spec, float *probe, float *in_weight,
                              float *in_bias);

#endif
