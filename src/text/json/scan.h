/* text/json/scan.h: the long lists of a tokenizer.json, read without a tree: a vocabulary of 256,000 strings and half a
 * million merges take jansson longer than all else. For text/ alone. */
#ifndef RECO_SRC_SCAN_H
#define RECO_SRC_SCAN_H

#include "base/base.h"

/* A part of a JSON text; begin NULL: none. */
typedef struct reco_span {
    const char *begin, *end;
} reco_span;

/* Find the values of model.vocab and model.merges, and copy the text with null in their place but with their line ends,
 * so that jansson's line numbers stay right. Whatever is wrong with the text stays so in the copy or in the spans.
 * Free *rest with reco_free. */
reco_status reco_scan_cut(reco_ctx *ctx, char **rest, reco_span *vocab, reco_span *merges, const char *text,
                          size_t bytes);

/* Each skips white space, then takes what it is for and is past it, or gives false and stays within the span. */
bool reco_scan_take(reco_span *span, char c);
/* Into out, which has room for the rest of the span: UTF-8, with escapes undone, not terminated. False also for what is
 * not UTF-8. */
bool reco_scan_string(reco_span *span, char *out, size_t *bytes);
bool reco_scan_number(reco_span *span, double *out); /* finite */
bool reco_scan_end(reco_span *span);                 /* nothing but white space is left */

#endif
