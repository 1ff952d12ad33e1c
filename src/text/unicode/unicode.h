/* text/unicode/unicode.h: text as code points; for text/ alone. */
#ifndef RECO_SRC_UNICODE_H
#define RECO_SRC_UNICODE_H

#include "base/base.h"

#define RECO_TEXT_MAX ((size_t)1 << 20) /* bytes of a caption */

/* Text between decoding and BPE is code points: [n] in the scratch of a context. */
typedef struct reco_points {
    int32_t *at;
    size_t n;
} reco_points;

reco_status reco_points_decode(reco_ctx *ctx, reco_points *out, const char *text, size_t bytes);
size_t reco_point_encode(uint8_t out[4], int32_t point);
bool reco_point_letter(int32_t point); /* categories L* */
bool reco_point_word(int32_t point);   /* \w of Unicode's expressions (UTS 18) */
reco_status reco_points_nfc(reco_ctx *ctx, reco_points *text);
/* Character by character, as Rust does it, or with the final sigma of Python's str.lower. */
reco_status reco_points_lower(reco_ctx *ctx, reco_points *text, bool final_sigma);
/* CLIPTokenizer's normalizer: NFC, white space to a space, lower case. May change the text in place. */
reco_status reco_clip_normalize(reco_ctx *ctx, reco_points *text);

#endif
