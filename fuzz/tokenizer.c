/* A tokenizer with one bad file is refused, or encodes within bounds. The first byte chooses the file. */
#include "folder.h"
#include "reco/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json", "tokenizer.json"};
    if (bytes == 0) return 0;
    size_t which = (size_t)(data[0] - '0') % 5;
    for (size_t i = 0; i < 5; i++) fuzz_remove(names[i]);
    for (size_t i = 0; i < 3 && which < 4; i++)
        if (i != which) fuzz_copy("text/full", names[i]);
    fuzz_put(names[which], data + 1, bytes - 1);
    reco_ctx *ctx = fuzz_ctx();
    for (reco_text_rules rules = RECO_TEXT_HF; rules <= RECO_TEXT_OPENCLIP; rules++) {
        reco_tokenizer *tok;
        int32_t ids[77];
        size_t n;
        static const char text[] = "a photo of the caf\xc3\xa9 <|endoftext|> \xff";
        if (reco_tokenizer_open(ctx, &tok, fuzz_folder(), rules) != RECO_OK) continue;
        if (reco_tokenizer_encode(ctx, tok, text, sizeof text - 1, ids, 77, &n) == RECO_OK)
            for (size_t i = 0; i < n; i++)
                if (ids[i] < -1 || (ids[i] >= 0 && (size_t)ids[i] >= reco_tokenizer_vocab(tok))) abort();
        reco_tokenizer_close(tok);
    }
    return 0;
}
