/* Any bytes are a caption: ids come back within bounds, begin and end token where they belong. The first byte chooses
 * the rules. $RECO_TEST_SOURCE (or the current folder) is the source's root. */
#include "reco/text.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static reco_tokenizer *toks[2];
    static reco_ctx *ctx;
    if (!ctx && reco_ctx_create(&ctx, NULL) != RECO_OK) abort();
    int32_t ids[77];
    size_t n;
    for (int i = 0; i < 2 && !toks[i]; i++) {
        const char *root = getenv("RECO_TEST_SOURCE");
        char dir[4096];
        snprintf(dir, sizeof dir, "%s/tests/golden/text/full", root ? root : ".");
        if (reco_tokenizer_open(ctx, &toks[i], dir, i ? RECO_TEXT_OPENCLIP : RECO_TEXT_HF) != RECO_OK)
            abort();
    }
    if (bytes == 0) return 0;
    const reco_tokenizer *tok = toks[data[0] & 1];
    if (reco_tokenizer_encode(ctx, tok, (const char *)data + 1, bytes - 1, ids, 77, &n, NULL) != RECO_OK)
        abort();
    if (n < 2 || n > 77 || ids[0] != reco_tokenizer_get_info(tok)->bos ||
        ids[n - 1] != reco_tokenizer_get_info(tok)->eos)
        abort();
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= reco_tokenizer_get_info(tok)->vocab) abort();
    return 0;
}
