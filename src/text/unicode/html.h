/* text/unicode/html.h: character references; for clean.c. */
#ifndef RECO_SRC_HTML_H
#define RECO_SRC_HTML_H

#include "text/unicode/unicode.h"

/* Python's html.unescape. */
reco_status reco_html_unescape(reco_ctx *ctx, reco_points *text);
/* ftfy.fixes.unescape_html. */
reco_status reco_html_unescape_strict(reco_ctx *ctx, reco_points *text);
/* C1 controls as what Windows means by these bytes. */
int32_t reco_windows_1252(int32_t c);

#endif
