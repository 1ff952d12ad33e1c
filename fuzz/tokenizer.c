/* A tokenizer with one bad file is refused, or encodes within bounds. The first byte chooses the file, from 5 to 7 the
 * class that reads a tokenizer.json, and 9 is a spiece.model. */
#include "folder.h"
#include "reco/text.h"
#include "text/text.h"

static void encode(const reco_tokenizer *tok)
{
    static const char text[] =
        "a photo of the caf\xc3\xa9 <|endoftext|>  </s> \xef\xbd\xb6\xef\xbe\x9e\xe2\x80\x8b \xff";
    int32_t ids[77];
    size_t n;
    if (reco_tokenizer_encode(fuzz_ctx(), tok, text, sizeof text - 1, ids, 77, &n, NULL) != RECO_OK) return;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < -1 || (ids[i] >= 0 && (size_t)ids[i] >= reco_tokenizer_get_info(tok)->vocab)) abort();
}

static void hub(size_t class, const uint8_t *data, size_t bytes)
{
    static const char *const configs[] = {
        "{\"tokenizer_class\":\"TokenizersBackend\",\"pad_token\":\"</s>\"}",
        "{\"tokenizer_class\":\"T5Tokenizer\",\"pad_token\":\"</s>\"}",
        "{\"tokenizer_class\":\"GemmaTokenizer\"}"};
    fuzz_put("tokenizer_config.json", configs[class], strlen(configs[class]));
    fuzz_put("tokenizer.json", data, bytes);
    for (reco_text_rules rules = RECO_TEXT_HF; rules <= RECO_TEXT_OPENCLIP; rules++) {
        reco_tokenizer *tok;
        if (reco_tokenizer_hub(fuzz_ctx(), &tok, fuzz_folder(), rules) != RECO_OK) continue;
        encode(tok);
        reco_tokenizer_close(tok);
    }
}

static void spiece(const uint8_t *data, size_t bytes)
{
    static const char config[] =
        "{\"tokenizer_class\":\"SiglipTokenizer\",\"eos_token\":\"</s>\",\"pad_token\":\"</s>\"}";
    reco_tokenizer *tok;
    fuzz_put("tokenizer_config.json", config, sizeof config - 1);
    fuzz_put("spiece.model", data, bytes);
    if (reco_tokenizer_hub(fuzz_ctx(), &tok, fuzz_folder(), RECO_TEXT_HF) != RECO_OK) return;
    encode(tok);
    reco_tokenizer_close(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {
        "vocab.json",     "merges.txt",       "tokenizer_config.json", "special_tokens_map.json",
        "tokenizer.json", "added_tokens.json"};
    if (bytes == 0) return 0;
    size_t which = (size_t)(data[0] - '0') % 10;
    for (size_t i = 0; i < 6; i++) fuzz_remove(names[i]);
    fuzz_remove("spiece.model");
    if (which == 9) {
        spiece(data + 1, bytes - 1);
        return 0;
    }
    if (which == 8) {
        which = 5;
    } else if (which >= 5) {
        hub(which - 5, data + 1, bytes - 1);
        return 0;
    }
    for (size_t i = 0; i < 3 && which != 4; i++)
        if (i != which) fuzz_copy("text/full", names[i]);
    fuzz_put(names[which], data + 1, bytes - 1);
    for (reco_text_rules rules = RECO_TEXT_HF; rules <= RECO_TEXT_OPENCLIP; rules++) {
        reco_tokenizer *tok;
        if (reco_tokenizer_open(fuzz_ctx(), &tok, fuzz_folder(), rules) != RECO_OK) continue;
        encode(tok);
        reco_tokenizer_close(tok);
    }
    return 0;
}
