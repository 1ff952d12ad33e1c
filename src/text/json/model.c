#include "text/bpe/bpe.h"
#include "text/files.h"
#include "text/json/json.h"
#include "text/json/scan.h"
#include "text/json/steps.h"
#include "text/pieces/pieces.h"
#include "text/pieces/unigram.h"
#include "text/tokenizer.h"

#include <math.h>
#include <stdio.h>

#define UNIGRAM_LONGEST                                                                                    \
    1024 /* bytes of a piece: every prefix of a caption's rest is looked up, up to the longest piece */
#define UNK_PENALTY 10.0 /* sentencepiece's */

reco_status reco_json_file_open(reco_ctx *ctx, reco_json_file *file, const char *dir)
{
    reco_status status = RECO_OK;
    size_t bytes = 0, line, byte;
    char *rest = NULL;
    json_error_t error;
    *file = (reco_json_file){.path = reco_format(ctx, "%s/tokenizer.json", dir)};
    if (!file->path) return RECO_E_NOMEM;
    RECO_GO(reco_text_read(ctx, &file->data, &bytes, file->path));
    if (!file->data) goto out;
    const char *excess = reco_json_excess(file->data, bytes, &line, &byte);
    if (excess) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: %s", file->path, line, excess));
    if (strlen(file->data) != bytes)
        RECO_GO(
            reco_fail(ctx, RECO_E_FORMAT, "%s: a NUL byte at offset %zu", file->path, strlen(file->data)));
    RECO_GO(reco_scan_cut(ctx, &rest, &file->vocab, &file->merges, file->data, bytes));
    file->root = json_loads(rest, JSON_REJECT_DUPLICATES, &error);
    if (!file->root)
        RECO_GO(
            reco_fail(ctx, RECO_E_FORMAT, "%s:%d: damaged JSON: %s", file->path, error.line, error.text));
    if (!json_is_object(file->root))
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: want a JSON object", file->path));
out:
    reco_free(rest);
    return status;
}

void reco_json_file_close(reco_json_file *file)
{
    json_decref(file->root);
    reco_free(file->data);
    reco_free(file->path);
    *file = (reco_json_file){0};
}

bool reco_json_file_is_clip(const reco_json_file *file)
{
    const char *suffix =
        json_string_value(json_object_get(json_object_get(file->root, "model"), "end_of_word_suffix"));
    return suffix && strcmp(suffix, "</w>") == 0;
}

/* How many of a character there are: no fewer than the entries of a list. */
static size_t count_char(const reco_span *span, char c)
{
    size_t n = 0;
    for (const char *p = span->begin; p < span->end && (p = memchr(p, c, (size_t)(span->end - p))); p++)
        n++;
    return n;
}

static reco_status bad_entry(reco_ctx *ctx, const reco_json_file *file, const char *list, size_t i,
                             const char *want)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s: model.%s[%zu]: %s", file->path, list, i, want);
}

/* {"piece": id, ...}, ids 0..n-1 once each. */
static reco_status read_vocab(reco_ctx *ctx, reco_pieces *pieces, const reco_json_file *file)
{
    reco_status status = RECO_OK;
    reco_span span = file->vocab;
    uint8_t *seen = NULL;
    size_t bytes;
    double id;
    if (!span.begin || !reco_scan_take(&span, '{'))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: model.vocab is not an object of pieces and ids",
                         file->path);
    RECO_TRY(reco_pieces_reserve(ctx, pieces, count_char(&span, ':'), (size_t)(span.end - span.begin)));
    for (bool more = !reco_scan_take(&span, '}'); more; more = reco_scan_take(&span, ',')) {
        char *text = reco_pieces_next(pieces);
        if (!reco_scan_string(&span, text, &bytes) || !reco_scan_take(&span, ':') ||
            !reco_scan_number(&span, &id))
            return bad_entry(ctx, file, "vocab", pieces->n, "want \"piece\": id, in UTF-8");
        if (!(id >= 0 && id < (double)pieces->room && id == (double)(int32_t)id))
            return reco_fail(ctx, RECO_E_FORMAT,
                             "%s: model.vocab: '%.*s' has the id %.15g, want a whole number of 0..%zu",
                             file->path, (int)reco_min(bytes, 60), text, id, pieces->room - 1);
        if (!reco_pieces_add(pieces, text, bytes, (int32_t)id))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: model.vocab: '%.*s' occurs twice", file->path,
                             (int)reco_min(bytes, 60), text);
    }
    if ((pieces->n && !reco_scan_take(&span, '}')) || !reco_scan_end(&span))
        return bad_entry(ctx, file, "vocab", pieces->n, "want a comma or the end of the object");
    if (!pieces->n) return reco_fail(ctx, RECO_E_FORMAT, "%s: model.vocab is empty", file->path);
    if (!(seen = reco_alloc(ctx, pieces->n, 1, "vocabulary"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < pieces->n; i++) {
        int32_t at = pieces->id[i];
        if ((size_t)at >= pieces->n || seen[at]++)
            RECO_GO(reco_fail(
                ctx, RECO_E_FORMAT,
                "%s: model.vocab: '%.*s' has the id %d, which %s, want 0..%zu once each", file->path,
                (int)reco_min(pieces->at[i + 1] - pieces->at[i], 60), pieces->bytes + pieces->at[i], at,
                (size_t)at < pieces->n ? "another token has too" : "leaves a hole", pieces->n - 1));
    }
out:
    reco_free(seen);
    return status;
}

/* [["piece", score], ...]; the place is the id. */
static reco_status read_scores(reco_ctx *ctx, reco_json_model *model, const reco_json_file *file)
{
    reco_span span = file->vocab;
    reco_pieces *pieces = &model->vocab.pieces;
    double least = INFINITY;
    size_t bytes;
    if (!span.begin || !reco_scan_take(&span, '['))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: model.vocab is not a list of [piece, score]", file->path);
    size_t most = count_char(&span, '[');
    RECO_TRY(reco_pieces_reserve(ctx, pieces, most, (size_t)(span.end - span.begin)));
    if (!(model->vocab.score = reco_alloc_raw(ctx, most, sizeof *model->vocab.score, "vocabulary")))
        return RECO_E_NOMEM;
    for (bool more = !reco_scan_take(&span, ']'); more; more = reco_scan_take(&span, ',')) {
        size_t n = pieces->n;
        char *text = reco_pieces_next(pieces);
        double score = 0;
        if (!reco_scan_take(&span, '[') || !reco_scan_string(&span, text, &bytes) ||
            !reco_scan_take(&span, ',') || !reco_scan_number(&span, &score) || !reco_scan_take(&span, ']'))
            return bad_entry(ctx, file, "vocab", n, "want [\"piece\", score], in UTF-8 and finite");
        if (bytes > UNIGRAM_LONGEST)
            return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: model.vocab[%zu] has %zu bytes, want at most %d",
                             file->path, n, bytes, UNIGRAM_LONGEST);
        if (!reco_pieces_add(pieces, text, bytes, (int32_t)n))
            return bad_entry(ctx, file, "vocab", n, "the piece occurs twice");
        model->vocab.score[n] = score;
        least = score < least ? score : least;
    }
    if ((pieces->n && !reco_scan_take(&span, ']')) || !reco_scan_end(&span))
        return bad_entry(ctx, file, "vocab", pieces->n, "want a comma or the end of the list");
    if (!pieces->n) return reco_fail(ctx, RECO_E_FORMAT, "%s: model.vocab is empty", file->path);
    model->vocab.unk_score = least - UNK_PENALTY;
    return RECO_OK;
}

/* The two symbols of a merge, "a b" or, in all of a file, ["a", "b"], one behind the other in out; false: they are not. */
static bool pair(reco_span *span, bool list, char *out, size_t *left, size_t *right)
{
    if (list)
        return reco_scan_take(span, '[') && reco_scan_string(span, out, left) &&
               reco_scan_take(span, ',') && reco_scan_string(span, out + *left, right) &&
               reco_scan_take(span, ']');
    size_t both;
    if (!reco_scan_string(span, out, &both)) return false;
    char *space = memchr(out, ' ', both);
    if (!space) return false;
    *left = (size_t)(space - out);
    *right = both - *left - 1;
    memmove(space, space + 1, *right);
    return !memchr(space, ' ', *right);
}

static reco_status read_merges(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file)
{
    reco_status status = RECO_OK;
    const reco_pieces *pieces = &tok->json->vocab.pieces;
    reco_span span = file->merges;
    size_t n = 0, left, right;
    if (!span.begin || !reco_scan_take(&span, '['))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: model.merges is not a list of pairs", file->path);
    char *text = reco_alloc_raw(ctx, (size_t)(span.end - span.begin) + 1, 1, "merges");
    if (!text) return RECO_E_NOMEM;
    reco_span first = span;
    bool lists = reco_scan_take(&first, '[');
    RECO_GO(reco_merges_reserve(ctx, tok, lists ? count_char(&span, '[') : count_char(&span, ',') + 1));
    for (bool more = !reco_scan_take(&span, ']'); more; more = reco_scan_take(&span, ','), n++) {
        if (!pair(&span, lists, text, &left, &right) || !left || !right)
            RECO_GO(bad_entry(ctx, file, "merges", n, "want a pair of symbols, in UTF-8"));
        int32_t a = reco_pieces_id(pieces, text, left), b = reco_pieces_id(pieces, text + left, right);
        int32_t id = reco_pieces_id(pieces, text, left + right);
        if (a < 0 || b < 0 || id < 0) {
            const char *which = a < 0 ? text : b < 0 ? text + left : text;
            size_t bytes = a < 0 ? left : b < 0 ? right : left + right;
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT,
                              "%s: model.merges[%zu]: '%.*s' of the merge is not in the vocabulary",
                              file->path, n, (int)reco_min(bytes, 60), which));
        }
        reco_merges_put(tok, a, b, (uint32_t)n, id);
    }
    if ((n && !reco_scan_take(&span, ']')) || !reco_scan_end(&span))
        status = bad_entry(ctx, file, "merges", n, "want a comma or the end of the list");
out:
    reco_free(text);
    return status;
}

static reco_status flag(reco_ctx *ctx, bool *out, const json_t *model, const char *key, const char *path)
{
    const json_t *value = json_object_get(model, key);
    *out = json_is_true(value);
    if (!value || json_is_null(value) || json_is_boolean(value)) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: model.%s: want true or false", path, key);
}

static reco_status unigram(reco_ctx *ctx, reco_tokenizer *tok, const json_t *value,
                           const reco_json_file *file)
{
    static const char *const keys[] = {"type", "unk_id", "vocab", "byte_fallback", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, file->path));
    RECO_TRY(read_scores(ctx, tok->json, file));
    const json_t *unk = json_object_get(value, "unk_id");
    tok->json->vocab.fuse_unk = true;
    if (!unk || json_is_null(unk)) return RECO_OK;
    json_int_t id = json_is_integer(unk) ? json_integer_value(unk) : -1;
    if (id < 0 || (uintmax_t)id >= tok->json->vocab.pieces.n)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: model.unk_id: want a whole number of 0..%zu", file->path,
                         tok->json->vocab.pieces.n - 1);
    tok->unk = (int32_t)id;
    return RECO_OK;
}

static reco_status bpe(reco_ctx *ctx, reco_tokenizer *tok, const json_t *value, const reco_json_file *file)
{
    static const char *const keys[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "continuing_subword_prefix",
                                       "end_of_word_suffix",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "ignore_merges",
                                       "vocab",
                                       "merges",
                                       NULL};
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                      "ignore_merges"};
    RECO_TRY(reco_json_only(ctx, value, keys, file->path));
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const json_t *set = json_object_get(value, off[i]);
        if (set && !json_is_null(set) && !json_is_false(set) &&
            !(json_is_string(set) && !*json_string_value(set)) &&
            !(json_is_number(set) && !(json_number_value(set) > 0)))
            return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: model.%s is set, which is not supported",
                             file->path, off[i]);
    }
    RECO_TRY(flag(ctx, &tok->json->vocab.fuse_unk, value, "fuse_unk", file->path));
    RECO_TRY(read_vocab(ctx, &tok->json->vocab.pieces, file));
    const json_t *unk = json_object_get(value, "unk_token");
    if (unk && !json_is_null(unk)) {
        tok->unk = json_is_string(unk) ? reco_pieces_id(&tok->json->vocab.pieces, json_string_value(unk),
                                                        json_string_length(unk))
                                       : -1;
        if (tok->unk < 0)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: model.unk_token: want a piece of the vocabulary",
                             file->path);
    }
    return read_merges(ctx, tok, file);
}

reco_status reco_json_model_read(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file)
{
    reco_json_model *model = tok->json;
    const json_t *value = json_object_get(file->root, "model");
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!json_is_object(value)) return reco_fail(ctx, RECO_E_FORMAT, "%s: has no model", file->path);
    if (!type && file->merges.begin) type = "BPE"; /* older files do not say it */
    if (!type || (strcmp(type, "BPE") != 0 && strcmp(type, "Unigram") != 0))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: model.type is \"%.60s\", want Unigram or BPE",
                         file->path, type ? type : "");
    model->unigram = *type == 'U';
    RECO_TRY(flag(ctx, &model->vocab.byte_fallback, value, "byte_fallback", file->path));
    RECO_TRY(model->unigram ? unigram(ctx, tok, value, file) : bpe(ctx, tok, value, file));
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        model->vocab.byte[byte] = reco_pieces_id(&model->vocab.pieces, name, 6);
    }
    tok->vocab = model->vocab.pieces.n;
    return RECO_OK;
}

void reco_json_model_free(reco_json_model *model)
{
    if (!model) return;
    reco_steps_free(&model->steps);
    reco_unigram_free(&model->vocab);
    reco_free(model);
}
