#include "text/bpe/bpe.h"
#include "text/files.h"
#include "text/tokenizer.h"
#include "text/unicode/unicode.h"

#include <stdio.h>
#include <stdlib.h>

/* GPT-2's printable stand-in for a byte: itself where Latin-1 prints it, else the next unused from U+0100 on. */
void reco_vocab_letter(char out[3], int byte)
{
    int point = byte, hidden = 0;
    for (int b = 0; b <= byte; b++) {
        bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        point = prints ? b : 256 + hidden++;
    }
    uint8_t utf8[4];
    size_t n = reco_point_encode(utf8, point);
    memcpy(out, utf8, n);
    out[n] = 0;
}

int32_t reco_vocab_id(const json_t *vocab, const char *token)
{
    const json_t *id = json_object_get(vocab, token);
    return id ? (int32_t)json_integer_value(id) : -1;
}

reco_status reco_vocab_use(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, const char *path)
{
    reco_status status = RECO_OK;
    size_t n = json_object_size(vocab);
    const char *token;
    json_t *value;
    if (n == 0 || n > INT32_MAX)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: vocabulary of %zu tokens", path, n);
    uint8_t *seen = reco_alloc(ctx, n, 1, "vocabulary");
    if (!seen) return RECO_E_NOMEM;
    json_object_foreach((json_t *)(uintptr_t)vocab, token,
                        value) /* jansson takes no const here, and changes none */
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || (uintmax_t)id >= n) {
            status =
                reco_fail(ctx, RECO_E_FORMAT, "%s: token '%.60s' has %s, want an id of 0..%zu (no holes)",
                          path, token, json_is_integer(value) ? "an id out of range" : "no id", n - 1);
            goto out;
        }
        if (seen[id]++) {
            status =
                reco_fail(ctx, RECO_E_FORMAT, "%s: token '%.60s' has id %lld, which another token has too",
                          path, token, (long long)id);
            goto out;
        }
    }
    tok->vocab = n;
    for (int byte = 0; byte < 256; byte++) {
        char text[3 + 4];
        reco_vocab_letter(text, byte);
        tok->symbol[byte] = reco_vocab_id(vocab, text);
        tok->last[byte] = reco_vocab_id(vocab, strcat(text, "</w>"));
    }
out:
    reco_free(seen);
    return status;
}

/* From the product's upper half, where both ids tell: in a lower bit the left one would not. */
static size_t slot_of_pair(uint64_t pair, size_t mask)
{
    uint64_t product = pair * 0x9e3779b97f4a7c15u;
    return (size_t)(product >> 32 ^ product >> 48) & mask;
}

reco_status reco_merges_reserve(reco_ctx *ctx, reco_tokenizer *tok, size_t n)
{
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    tok->merges = reco_alloc(ctx, slots, sizeof *tok->merges, "merges");
    if (!tok->merges) return RECO_E_NOMEM;
    tok->mask = slots - 1;
    for (size_t i = 0; i < slots; i++) tok->merges[i].pair = UINT64_MAX;
    return RECO_OK;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

const reco_merge *reco_merge_find(const reco_tokenizer *tok, int32_t left, int32_t right)
{
    uint64_t pair = pair_of(left, right);
    for (size_t i = slot_of_pair(pair, tok->mask);; i = (i + 1) & tok->mask) {
        if (tok->merges[i].pair == pair) return &tok->merges[i];
        if (tok->merges[i].pair == UINT64_MAX) return NULL;
    }
}

void reco_merges_put(reco_tokenizer *tok, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t pair = pair_of(left, right);
    size_t i = slot_of_pair(pair, tok->mask);
    while (tok->merges[i].pair != UINT64_MAX && tok->merges[i].pair != pair) i = (i + 1) & tok->mask;
    tok->merges[i] = (reco_merge){pair, rank, id};
}

reco_status reco_merges_add(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, const char *left,
                            const char *right, uint32_t rank, const char *where)
{
    const char *missing = NULL;
    int32_t a = reco_vocab_id(vocab, left), b = reco_vocab_id(vocab, right);
    char *both = reco_format(ctx, "%s%s", left, right);
    if (!both) return RECO_E_NOMEM;
    int32_t id = reco_vocab_id(vocab, both);
    if (a < 0)
        missing = left;
    else if (b < 0)
        missing = right;
    else if (id < 0)
        missing = both;
    if (missing)
        reco_fail(ctx, RECO_E_FORMAT, "%s: '%.60s' of the merge is not in the vocabulary", where, missing);
    reco_free(both);
    if (missing) return RECO_E_FORMAT;
    reco_merges_put(tok, a, b, rank, id);
    return RECO_OK;
}

/* merges.txt: a "#version" line, then two symbols a line, best first. Ends the line at `text`, gives the next. */
static char *cut_line(char *text)
{
    char *end = strchr(text, '\n');
    if (end) *end++ = 0;
    size_t n = strlen(text);
    if (n && text[n - 1] == '\r') text[n - 1] = 0;
    return end ? end : text + n;
}

reco_status reco_merges_parse(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, char *data,
                              const char *path)
{
    reco_status status = RECO_OK;
    char *where = NULL;
    size_t lines = 1, number = 0;
    uint32_t rank = 0;
    for (const char *p = data; (p = strchr(p, '\n')); p++) lines++;
    RECO_GO(reco_merges_reserve(ctx, tok, lines));
    for (char *line = data, *next; *line; line = next) {
        next = cut_line(line);
        number++;
        if (strncmp(line, "#version", 8) == 0 || (!*line && !*next)) continue;
        char *space = strchr(line, ' ');
        reco_free(where);
        if (!(where = reco_format(ctx, "%s:%zu", path, number))) {
            status = RECO_E_NOMEM;
            goto out;
        }
        if (!space || space == line || !space[1] || strchr(space + 1, ' ')) {
            status = reco_fail(ctx, RECO_E_FORMAT, "%s: '%.60s', want two symbols and a space between",
                               where, line);
            goto out;
        }
        *space = 0;
        RECO_GO(reco_merges_add(ctx, tok, vocab, line, space + 1, rank++, where));
    }
out:
    reco_free(where);
    return status;
}

static reco_status read_merges(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, const char *path)
{
    char *data;
    size_t bytes;
    RECO_TRY(reco_text_read(ctx, &data, &bytes, path));
    if (!data) return reco_fail(ctx, RECO_E_IO, "%s: no such file, but vocab.json is there", path);
    reco_status status =
        strlen(data) == bytes
            ? reco_merges_parse(ctx, tok, vocab, data, path)
            : reco_fail(ctx, RECO_E_FORMAT, "%s: a NUL byte at offset %zu", path, strlen(data));
    reco_free(data);
    return status;
}

reco_status reco_vocab_open(reco_ctx *ctx, reco_tokenizer *tok, json_t **vocab, const char *dir)
{
    reco_status status;
    char *path = reco_format(ctx, "%s/vocab.json", dir), *merges = reco_format(ctx, "%s/merges.txt", dir);
    *vocab = NULL;
    if (!path || !merges) {
        status = RECO_E_NOMEM;
        goto out;
    }
    RECO_GO(reco_text_json(ctx, vocab, path));
    if (!*vocab) goto out;
    RECO_GO(reco_vocab_use(ctx, tok, *vocab, path));
    RECO_GO(read_merges(ctx, tok, *vocab, merges));
out:
    reco_free(merges);
    reco_free(path);
    return status;
}
