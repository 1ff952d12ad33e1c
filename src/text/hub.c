/* Which tokenizer a folder has, by the rules of transformers' AutoTokenizer. */
#include "text/files.h"
#include "text/json/json.h"
#include "text/special/special.h"
#include "text/spm/classes.h"
#include "text/text.h"
#include "text/tokenizer.h"

#include <unistd.h>

/* The path of the first of these files that is there; NULL with *status RECO_OK: none. */
static char *find_first_file(reco_ctx *ctx, reco_status *status, const char *dir, const char *const *names)
{
    for (; *names; names++) {
        char *path = reco_format(ctx, "%s/%s", dir, *names);
        if (!path) *status = RECO_E_NOMEM;
        if (!path || access(path, F_OK) == 0) return path;
        reco_free(path);
    }
    return NULL;
}

static bool has_json(reco_ctx *ctx, const char *dir)
{
    static const char *const names[] = {"tokenizer.json", NULL};
    reco_status status = RECO_OK;
    char *path = find_first_file(ctx, &status, dir, names);
    reco_free(path);
    return path != NULL;
}

/* False: no class that is known here. */
static bool class_of(reco_class *class, bool *clip, const char *name)
{
    static const struct {
        const char *name;
        reco_class class;
    } known[] = {{"SiglipTokenizer", RECO_CLASS_SIGLIP},    {"T5Tokenizer", RECO_CLASS_T5},
                 {"GemmaTokenizer", RECO_CLASS_GEMMA},      {"Siglip2Tokenizer", RECO_CLASS_SIGLIP2},
                 {"XLMRobertaTokenizer", RECO_CLASS_XLMR},  {"CLIPTokenizer", RECO_CLASS_PLAIN},
                 {"PreTrainedTokenizer", RECO_CLASS_PLAIN}, {"TokenizersBackend", RECO_CLASS_PLAIN}};
    size_t n = strlen(name);
    if (n > 4 && strcmp(name + n - 4, "Fast") == 0) n -= 4;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == n && strncmp(known[i].name, name, n) == 0) {
            *class = known[i].class;
            *clip = *name == 'C';
            return true;
        }
    return false;
}

/* SiglipTokenizer reads SentencePiece's file alone; the others tokenizer.json if they can. */
static reco_status open_files(reco_ctx *ctx, reco_tokenizer *tok, const json_t *config, const char *dir)
{
    static const char *const models[] = {"spiece.model", "tokenizer.model", "sentencepiece.model", NULL};
    reco_status status = RECO_OK;
    reco_json_file file = {0};
    /* XLM-RoBERTa's ids are not those of its SentencePiece file. */
    char *model = tok->class == RECO_CLASS_XLMR ? NULL : find_first_file(ctx, &status, dir, models);
    if (status != RECO_OK) return status;
    if (!model || tok->class != RECO_CLASS_SIGLIP) RECO_GO(reco_json_file_open(ctx, &file, dir));
    if (file.root)
        status = reco_json_tokenizer_read(ctx, tok, &file, config, dir);
    else if (model)
        status = reco_spm_open(ctx, tok, config, model, dir);
    else
        status = reco_fail(ctx, RECO_E_UNSUPPORTED,
                           "%s: no tokenizer: want tokenizer.json, spiece.model or tokenizer.model", dir);
out:
    reco_json_file_close(&file);
    reco_free(model);
    return status;
}

/* CLIPTokenizer's files, or a tokenizer.json of its kind. */
static reco_status is_clip(reco_ctx *ctx, bool *clip, const char *dir)
{
    static const char *const any[] = {"tokenizer.json", "spiece.model", "tokenizer.model",
                                      "sentencepiece.model", NULL};
    static const char *const vocab[] = {"vocab.json", NULL};
    reco_status status = RECO_OK;
    reco_json_file file = {0};
    char *other = find_first_file(ctx, &status, dir, any),
         *own = status == RECO_OK ? find_first_file(ctx, &status, dir, vocab) : NULL;
    if (status == RECO_OK && own && !other) *clip = true;
    if (status == RECO_OK && !*clip) {
        status = reco_json_file_open(ctx, &file, dir);
        *clip = status == RECO_OK && reco_json_file_is_clip(&file);
    }
    reco_json_file_close(&file);
    reco_free(other);
    reco_free(own);
    return status;
}

reco_status reco_tokenizer_hub(reco_ctx *ctx, reco_tokenizer **out, const char *dir, reco_text_rules rules)
{
    reco_status status = RECO_OK;
    json_t *config = NULL;
    reco_tokenizer *tok = NULL;
    bool clip = false;
    reco_class class = RECO_CLASS_PLAIN;
    *out = NULL;
    char *path = reco_format(ctx, "%s/tokenizer_config.json", dir);
    if (!path) return RECO_E_NOMEM;
    RECO_GO(reco_text_json(ctx, &config, path));
    RECO_GO(reco_special_check(ctx, config, path));
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    if (!name)
        name = rules == RECO_TEXT_HF || !has_json(ctx, dir) ? "SiglipTokenizer" : "TokenizersBackend";
    if (!class_of(&class, &clip, name))
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED,
                          "%s: tokenizer_class \"%.60s\", want CLIPTokenizer, SiglipTokenizer, "
                          "T5Tokenizer, GemmaTokenizer, XLMRobertaTokenizer or TokenizersBackend",
                          path, name));
    if (!clip && class == RECO_CLASS_PLAIN) RECO_GO(is_clip(ctx, &clip, dir));
    if (clip) {
        RECO_GO(reco_tokenizer_clip(ctx, &tok, dir, RECO_TEXT_HF, *name != 'C'));
    } else {
        if (!(tok = reco_alloc(ctx, 1, sizeof *tok, "tokenizer"))) RECO_GO(RECO_E_NOMEM);
        tok->rules = RECO_TEXT_HF;
        tok->class = class;
        RECO_GO(open_files(ctx, tok, config, dir));
    }
    tok->wash = rules == RECO_TEXT_OPENCLIP;
    tok->clean = RECO_CLEAN_WHITESPACE;
    reco_tokenizer_describe(tok);
    *out = tok;
    tok = NULL;
out:
    reco_tokenizer_close(tok);
    json_decref(config);
    reco_free(path);
    return status;
}
