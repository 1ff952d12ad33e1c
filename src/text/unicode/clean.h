/* text/unicode/clean.h: captions as open_clip and SigLIP clean them; for text/ alone. */
#ifndef RECO_SRC_CLEAN_H
#define RECO_SRC_CLEAN_H

#include "text/text.h"
#include "text/unicode/unicode.h"

/* ftfy.fix_text, html.unescape twice, then as `clean` says. */
reco_status reco_clean_openclip(reco_ctx *ctx, reco_points *text, reco_clean clean);
/* Runs of what Python's str.split takes for white space become a space; none at the ends. In place. */
void reco_clean_spaces(reco_points *text);
/* Without string.punctuation; in place. */
void reco_clean_punctuation(reco_points *text);

#endif
