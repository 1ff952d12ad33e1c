/* clip/folder.h: which folder is meant, and what lies there instead of a model. */
#ifndef RECO_SRC_CLIP_FOLDER_H
#define RECO_SRC_CLIP_FOLDER_H

#include "base/base.h"

/* The folder of the model's files: `dir` itself, or the one in it that sentence-transformers and a hub's cache keep them in,
 * and in what `layout` it lies then ("" where it is `dir`). Free with reco_free. What is no model is named, with what to do:
 * RECO_E_IO where there is none, RECO_E_UNSUPPORTED for one of another kind. */
reco_status reco_folder_find(reco_ctx *ctx, char **out, const char **layout, const char *dir);
/* Fails: `dir` has none of the weights `wanted`, and this is what it has instead. */
reco_status reco_folder_no_weights(reco_ctx *ctx, const char *dir, const char *wanted);
/* Whether the file's name says that it holds weights in another format; then that is the error recorded. */
bool reco_folder_foreign(reco_ctx *ctx, const char *file);

#endif
