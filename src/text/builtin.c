/* CLIP's byte-pair encoding, compiled in: clip_merges.txt (OpenAI, MIT) is all of it, since the vocabulary follows. */
#include "text/builtin.h"
#include "text/bpe/bpe.h"
#include "text/text.h"
#include "text/tokenizer.h"

/* 256 letters, 256 letters that end a word, a token a merge, begin and end of text. */
static reco_status vocabulary(reco_ctx *ctx, json_t **out, char *merges)
{
    static const char *const specials[] = {"<start_of_text>", "<end_of_text>"};
    json_t *vocab = json_object();
    json_int_t id = 0;
    bool good = vocab != NULL;
    for (int end = 0; end < 2; end++)
        for (int printed = 1; printed >= 0;
             printed--) /* the letters that stand for themselves come first */
            for (int byte = 0; byte < 256 && good; byte++) {
                char letter[3 + 4];
                reco_vocab_letter(letter, byte);
                if ((((uint8_t)letter[0] < 0xc4) ? 1 : 0) != printed) continue;
                if (end) strcat(letter, "</w>");
                good = json_object_set_new(vocab, letter, json_integer(id++)) == 0;
            }
    for (char *line = merges, *next; good && *line; line = next) {
        char joined[256];
        size_t n = strcspn(line, "\n"), kept = 0;
        next = line + n + (line[n] == '\n');
        if (strncmp(line, "#version", 8) == 0) continue;
        for (size_t i = 0; i < n && kept + 1 < sizeof joined; i++)
            if (line[i] != ' ') joined[kept++] = line[i];
        joined[kept] = 0;
        good = json_object_set_new(vocab, joined, json_integer(id++)) == 0;
    }
    for (size_t i = 0; i < 2 && good; i++)
        good = json_object_set_new(vocab, specials[i], json_integer(id++)) == 0;
    *out = vocab;
    return good ? RECO_OK : reco_fail_nomem(ctx, 0, "vocabulary");
}

reco_status reco_tokenizer_builtin(reco_ctx *ctx, reco_tokenizer **out)
{
    reco_status status = RECO_OK;
    json_t *vocab = NULL;
    char *merges = NULL;
    *out = NULL;
    reco_tokenizer *tok = reco_alloc(ctx, 1, sizeof *tok, "tokenizer");
    if (!tok) return RECO_E_NOMEM;
    tok->rules = RECO_TEXT_OPENCLIP;
    tok->built_in = tok->wash = true;
    if (!(merges = reco_strdup(ctx, reco_clip_merges))) {
        status = RECO_E_NOMEM;
        goto out;
    }
    RECO_GO(vocabulary(ctx, &vocab, merges));
    RECO_GO(reco_vocab_use(ctx, tok, vocab, "built-in tokenizer"));
    RECO_GO(reco_merges_parse(ctx, tok, vocab, merges, "built-in tokenizer"));
    tok->bos = reco_vocab_id(vocab, "<start_of_text>");
    tok->eos = tok->unk = reco_vocab_id(vocab, "<end_of_text>");
    tok->pad = 0;
    reco_tokenizer_describe(tok);
    *out = tok;
    tok = NULL;
out:
    reco_free(merges);
    json_decref(vocab);
    reco_tokenizer_close(tok);
    return status;
}
