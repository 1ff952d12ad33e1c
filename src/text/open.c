#include "text/bpe/bpe.h"
#include "text/files.h"
#include "text/json/json.h"
#include "text/special/special.h"
#include "text/spm/spm.h"
#include "text/text.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool exists(reco_ctx *ctx, const char *dir, const char *name)
{
    char *path = reco_format(ctx, "%s/%s", dir, name);
    bool found = path && access(path, F_OK) == 0;
    reco_free(path);
    return found;
}

/* CLIPTokenizer, or a class that runs tokenizer.json as it is. */
static reco_status read_class(reco_ctx *ctx, bool *as_file, const json_t *config, const char *path)
{
    static const char *const names[] = {"CLIPTokenizer",           "CLIPTokenizerFast",
                                        "TokenizersBackend",       "PreTrainedTokenizer",
                                        "PreTrainedTokenizerFast", NULL};
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    size_t i = 0;
    if (!name) return RECO_OK;
    while (names[i] && strcmp(names[i], name) != 0) i++;
    *as_file = i >= 2;
    return names[i] ? RECO_OK
                    : reco_fail(ctx, RECO_E_UNSUPPORTED,
                                "%s: tokenizer_class \"%.60s\", want CLIPTokenizer", path, name);
}

void reco_tokenizer_describe(reco_tokenizer *tok)
{
    static const char *const clean[] = {"lower", "whitespace", "canonicalize"};
    reco_tokenizer_info info = {.kind = "bpe",
                                .built_in = tok->built_in,
                                .vocab = tok->vocab,
                                .bos = tok->bos,
                                .eos = tok->eos,
                                .pad = tok->pad,
                                .pads_left = tok->pad_left};
    static const char *const class[] = {"hf", "siglip", "t5", "gemma", "siglip2", "xlm-roberta"};
    if (tok->spm) snprintf(info.kind, sizeof info.kind, "sentencepiece");
    if (tok->json)
        snprintf(info.kind, sizeof info.kind, "%s", tok->json->unigram ? "unigram" : "bpe with bytes");
    if (tok->wash)
        snprintf(info.rules, sizeof info.rules, "open_clip %s", clean[tok->clean]);
    else
        snprintf(info.rules, sizeof info.rules, "%s", class[tok->class]);
    tok->info = info;
}

reco_status reco_tokenizer_open(reco_ctx *ctx, reco_tokenizer **out, const char *dir, reco_text_rules rules)
{
    return reco_tokenizer_clip(ctx, out, dir, rules, false);
}

reco_status reco_tokenizer_clip(reco_ctx *ctx, reco_tokenizer **out, const char *dir, reco_text_rules rules,
                                bool as_file)
{
    reco_status status = RECO_OK;
    json_t *vocab = NULL, *file = NULL, *config = NULL;
    char *path = NULL;
    *out = NULL;
    if (rules != RECO_TEXT_AUTO && rules != RECO_TEXT_HF && rules != RECO_TEXT_OPENCLIP)
        return reco_fail(ctx, RECO_E_ARG, "tokenizer: rules = %d, want 0..2", (int)rules);
    reco_tokenizer *tok = reco_alloc(ctx, 1, sizeof *tok, "tokenizer");
    if (!tok) return RECO_E_NOMEM;
    tok->rules = rules;
    if (rules == RECO_TEXT_AUTO)
        tok->rules = exists(ctx, dir, "open_clip_config.json") ? RECO_TEXT_OPENCLIP : RECO_TEXT_HF;
    tok->wash = tok->rules == RECO_TEXT_OPENCLIP;
    path = reco_format(ctx, "%s/tokenizer_config.json", dir);
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_text_json(ctx, &config, path));
    if (tok->rules == RECO_TEXT_HF) RECO_GO(read_class(ctx, &as_file, config, path));
    /* transformers reads vocab.json only where there is no tokenizer.json. */
    if (tok->rules == RECO_TEXT_OPENCLIP) RECO_GO(reco_vocab_open(ctx, tok, &vocab, dir));
    if (!vocab) RECO_GO(reco_tokenizer_json_open(ctx, tok, &vocab, &file, as_file, dir));
    if (!vocab && tok->rules == RECO_TEXT_HF) RECO_GO(reco_vocab_open(ctx, tok, &vocab, dir));
    if (!vocab) {
        /* Half of one is damage. */
        status = reco_fail(ctx, exists(ctx, dir, "merges.txt") ? RECO_E_IO : RECO_E_UNSUPPORTED,
                           "%s: no tokenizer: want vocab.json and merges.txt, or tokenizer.json", dir);
        goto out;
    }
    RECO_GO(reco_special_open(ctx, tok, vocab, file, as_file, config, dir));
    if (tok->rules == RECO_TEXT_HF && as_file)
        RECO_GO(reco_tokenizer_json_check(ctx, tok, vocab, file, dir));
    reco_tokenizer_describe(tok);
    *out = tok;
    tok = NULL;
out:
    reco_free(path);
    json_decref(config);
    json_decref(file);
    json_decref(vocab);
    reco_tokenizer_close(tok);
    return status;
}

void reco_tokenizer_close(reco_tokenizer *tok)
{
    if (!tok) return;
    for (size_t i = 0; i < tok->nspecials; i++) reco_free(tok->specials[i].points);
    reco_free(tok->specials);
    reco_free(tok->merges);
    reco_json_model_free(tok->json);
    reco_spm_free(tok->spm);
    reco_free(tok);
}

void reco_tokenizer_set_clean(reco_tokenizer *tok, reco_clean clean)
{
    tok->clean = clean;
    reco_tokenizer_describe(tok);
}

size_t reco_tokenizer_limit(reco_tokenizer *tok, size_t vocab)
{
    const int32_t used[] = {tok->bos, tok->eos, tok->pad, tok->unk};
    size_t beyond = 0, kept = 0;
    for (size_t i = 0; i < tok->nspecials; i++) beyond += (size_t)tok->specials[i].id >= vocab;
    bool only = vocab < tok->vocab && beyond == tok->vocab - vocab;
    for (size_t i = 0; i < sizeof used / sizeof *used && only; i++)
        only = used[i] < 0 || (size_t)used[i] < vocab;
    if (!only) return 0;
    for (size_t i = 0; i < tok->nspecials; i++) {
        if ((size_t)tok->specials[i].id < vocab)
            tok->specials[kept++] = tok->specials[i];
        else
            reco_free(tok->specials[i].points);
    }
    tok->nspecials = kept;
    tok->vocab = vocab;
    reco_tokenizer_describe(tok);
    return beyond;
}

const reco_tokenizer_info *reco_tokenizer_get_info(const reco_tokenizer *tok) { return &tok->info; }
