#include "text/json_tokenizer.h"
#include "text/sentencepiece.h"

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

void reco_tokenizer_set_clean(reco_tokenizer *tok, reco_clean clean) { tok->clean = clean; }

reco_tokenizer_info reco_tokenizer_get_info(const reco_tokenizer *tok)
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
    return info;
}

size_t reco_tokenizer_vocab(const reco_tokenizer *tok) { return tok->vocab; }
int32_t reco_tokenizer_bos(const reco_tokenizer *tok) { return tok->bos; }
int32_t reco_tokenizer_eos(const reco_tokenizer *tok) { return tok->eos; }
int32_t reco_tokenizer_pad(const reco_tokenizer *tok) { return tok->pad; }

static reco_status encode_word(reco_ctx *ctx, const reco_tokenizer *tok, const int32_t *points, size_t n,
                               reco_ids *ids)
{
    uint8_t few[256], *bytes = few;
    size_t size = 0;
    reco_mark mark = reco_scratch_mark(ctx);
    if (4 * n > sizeof few && !(bytes = reco_scratch(ctx, n, 4, "word"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) size += reco_point_encode(bytes + size, points[i]);
    reco_status status = reco_bpe(ctx, tok, bytes, size, ids);
    reco_scratch_release(ctx, mark);
    return status;
}

/* Text that has been cleaned: split into words, then into tokens. */
static reco_status encode_clean(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                                reco_ids *ids)
{
    reco_piece piece;
    size_t at = 0;
    while (!reco_ids_full(ids) && reco_split_next(&piece, &at, text, tok)) {
        const int32_t *p = text->at + piece.begin;
        size_t n = piece.end - piece.begin;
        if (!piece.special) {
            RECO_TRY(encode_word(ctx, tok, p, n, ids));
        } else if (tok->rules == RECO_TEXT_OPENCLIP) {
            reco_ids_push(ids, piece.special == 1 ? tok->bos : tok->eos);
        } else { /* Hugging Face's byte-level step splits the piece once more, by GPT-2's expression */
            RECO_TRY(encode_word(ctx, tok, p, 2, ids));
            RECO_TRY(encode_word(ctx, tok, p + 2, n - 4, ids));
            RECO_TRY(encode_word(ctx, tok, p + n - 2, 2, ids));
        }
    }
    return RECO_OK;
}

reco_status reco_clip_normalize(reco_ctx *ctx, reco_points *text)
{
    size_t kept = 0;
    RECO_TRY(reco_points_nfc(ctx, text));
    for (size_t i = 0; i < text->n; i++) {
        bool space = reco_point_space(text->at[i]);
        if (!space || !kept || text->at[kept - 1] != ' ') text->at[kept++] = space ? ' ' : text->at[i];
    }
    text->n = kept;
    return reco_points_lower(ctx, text, false);
}

/* Special tokens are cut out first, those marked `normalized` from what the rest became. */
static reco_status encode_hf(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                             bool normalized, reco_ids *ids)
{
    const reco_special *special;
    reco_place place = {0};
    do {
        reco_points part;
        special = reco_special_next(tok, text, normalized, &place, &part);
        if (part.n && normalized) {
            RECO_TRY(encode_clean(ctx, tok, &part, ids));
        } else if (part.n) {
            RECO_TRY(reco_clip_normalize(ctx, &part));
            RECO_TRY(encode_hf(ctx, tok, &part, true, ids));
        }
        if (special) reco_ids_push(ids, special->id);
    } while (special && !reco_ids_full(ids));
    return RECO_OK;
}

static bool ends(const reco_tokenizer *tok, const reco_ids *ids)
{
    return tok->class == RECO_CLASS_SIGLIP && ids->n && ids->at[ids->n - 1] == tok->eos;
}

reco_status reco_tokenizer_encode(reco_ctx *ctx, const reco_tokenizer *tok, const char *text, size_t bytes,
                                  int32_t *ids, size_t max, size_t *n, bool *cut)
{
    reco_points points;
    reco_status status;
    *n = 0;
    if (cut) *cut = false;
    if (max < 2 || max > 65536)
        return reco_fail(ctx, RECO_E_ARG, "tokenizer: max = %zu ids, want 2..65536", max);
    if (bytes > RECO_TEXT_MAX)
        return reco_fail(ctx, RECO_E_NOMEM, "caption of %zu bytes, want at most %zu", bytes, RECO_TEXT_MAX);
    reco_mark mark = reco_scratch_mark(ctx);
    /* Room for two more tells whether there is more. */
    reco_ids out = {reco_scratch(ctx, max + 2, sizeof *ids, "token ids"), 0, max + 2};
    if (!out.at) return RECO_E_NOMEM;
    if (tok->bos >= 0) reco_ids_push(&out, tok->bos);
    RECO_GO(reco_points_decode(ctx, &points, text, bytes));
    if (tok->wash) RECO_GO(reco_clean_openclip(ctx, &points, tok->clean));
    if (tok->json) {
        RECO_GO(reco_json_tokens(ctx, tok, &points, &out));
    } else if (tok->spm) {
        RECO_GO(reco_spm_tokens(ctx, tok, &points, &out));
    } else if (tok->rules == RECO_TEXT_HF) {
        RECO_GO(encode_hf(ctx, tok, &points, false, &out));
    } else {
        RECO_GO(encode_clean(ctx, tok, &points, &out));
    }
    bool spelled = ends(tok, &out); /* an end that is spelled out is enough */
    if (out.n <= max && spelled) out.n--;
    if (cut) *cut = out.n > max - 1;
    if (out.n > max - 1) {
        out.n = max - 1;
        if (ends(tok, &out)) out.n--;
    }
    memcpy(ids, out.at, out.n * sizeof *ids);
    ids[out.n++] = tok->eos;
    *n = out.n;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
