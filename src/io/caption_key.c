#include "io/io.h"

#include <stdlib.h>
#include <utf8proc.h>

static bool is_blank_point(utf8proc_int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
        return true;
    default:
        return false;
    }
}

/* In place; returns the bytes that are left. */
static size_t collapse(uint8_t *text, size_t bytes)
{
    size_t kept = 0, n;
    bool gap = false;
    for (size_t i = 0; i < bytes; i += n) {
        int32_t c = reco_utf8_next(text + i, bytes - i, &n);
        if (c >= 0 && is_blank_point(c)) {
            gap = kept > 0;
            continue;
        }
        if (gap) text[kept++] = ' '; /* a blank was read: there is room */
        gap = false;
        memmove(text + kept, text + i, n);
        kept += n;
    }
    return kept;
}

uint64_t reco_picture_key(const unsigned char *hash, const char *uri)
{
    if (hash) return reco_hash64(hash, 16, 0) | 1;
    return uri && *uri ? reco_hash64(uri, strlen(uri), 0) | 1 : 0;
}

reco_status reco_caption_key(reco_ctx *ctx, uint64_t *key, const char *caption)
{
    *key = 0;
    if (!caption) return RECO_OK;
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t bytes =
        utf8proc_map((const utf8proc_uint8_t *)caption, 0, &folded,
                     UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
    if (bytes == UTF8PROC_ERROR_NOMEM) return reco_fail_nomem(ctx, strlen(caption), "caption");
    if (bytes < 0) {
        *key = reco_hash64(caption, strlen(caption), 0);
    } else {
        size_t left = collapse(folded, (size_t)bytes);
        if (left > 0) *key = reco_hash64(folded, left, 0) | 1; /* never 0, which says: none */
    }
    free(folded);
    return RECO_OK;
}
