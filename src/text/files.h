/* text/files.h: a tokenizer's files; for text/ alone. What is missing comes back as RECO_OK with *out NULL. */
#ifndef RECO_SRC_TEXT_FILES_H
#define RECO_SRC_TEXT_FILES_H

#include "base/base.h"

#include <jansson.h>

reco_status reco_text_read(reco_ctx *ctx, char **out, size_t *bytes,
                           const char *path);                              /* free with reco_free */
reco_status reco_text_json(reco_ctx *ctx, json_t **out, const char *path); /* an object */

#endif
