/* As sentencepiece's Normalizer, step by step. */
#include "text/pieces/charsmap.h"
#include "text/pieces/pieces.h"
#include "text/spm/spm.h"
#include "text/unicode/unicode.h"

#define MOST (64 * RECO_TEXT_MAX) /* bytes of a caption, however it grows */

static const char meta[] = "\xe2\x96\x81"; /* what stands for a space */

size_t reco_spm_user(const reco_spm *spm, const char *text, size_t bytes)
{
    uint32_t hash = RECO_PIECES_HASH;
    size_t longest = 0;
    for (size_t k = 1; k <= spm->user.longest && k <= bytes; k++) {
        hash = reco_pieces_hash(hash, text[k - 1]);
        if (reco_pieces_id_hashed(&spm->user, text, k, hash) >= 0) longest = k;
    }
    return longest;
}

/* What the text begins with becomes [n]; gives how much of the text that was. */
static size_t prefix(const reco_spm *spm, const char *text, size_t bytes, const char **becomes, size_t *n)
{
    size_t taken = reco_spm_user(spm, text, bytes);
    if (!taken && (*becomes = reco_charsmap_longest(&spm->map, text, bytes, &taken))) {
        *n = strlen(*becomes);
        return taken;
    }
    *becomes = text;
    return *n = taken ? taken : reco_spm_step(text, bytes);
}

typedef struct output {
    char *at;
    size_t n, room;
} output;

static reco_status grow_bytes(reco_ctx *ctx, output *out, size_t more)
{
    if (more <= out->room - out->n) return RECO_OK;
    size_t room = reco_max(2 * out->room, out->n + more);
    if (room > MOST) return reco_fail(ctx, RECO_E_NOMEM, "caption grows to more than %zu bytes", out->room);
    char *at = reco_scratch(ctx, room, 1, "caption");
    if (!at) return RECO_E_NOMEM;
    memcpy(at, out->at, out->n);
    out->at = at;
    out->room = room;
    return RECO_OK;
}

static reco_status put_escaped(reco_ctx *ctx, const reco_spm *spm, output *out, const char *text, size_t n)
{
    RECO_TRY(grow_bytes(ctx, out, 3 * n));
    for (size_t i = 0; i < n; i++) {
        bool space = text[i] == ' ' && spm->escape;
        if (space)
            memcpy(out->at + out->n, meta, 3);
        else
            out->at[out->n] = text[i];
        out->n += space ? 3 : 1;
    }
    return RECO_OK;
}

static void strip_last_spaces(const reco_spm *spm, output *out)
{
    const char *space = spm->escape ? meta : " ";
    size_t n = strlen(space);
    while (out->n >= n && memcmp(out->at + out->n - n, space, n) == 0) out->n -= n;
}

reco_status reco_spm_normalize(reco_ctx *ctx, const reco_spm *spm, const char *text, size_t bytes,
                               char **out, size_t *n)
{
    output to = {reco_scratch(ctx, bytes + 16, 3, "caption"), 0, 3 * (bytes + 16)};
    const char *becomes;
    size_t length, at = 0, taken;
    if (!to.at) return RECO_E_NOMEM;
    for (; at < bytes && spm->remove_extra; at += taken) {
        taken = prefix(spm, text + at, bytes - at, &becomes, &length);
        if (length != 1 || *becomes != ' ') break;
    }
    if (at < bytes && !spm->suffix && spm->dummy_prefix) RECO_TRY(put_escaped(ctx, spm, &to, " ", 1));
    bool any = at < bytes, after_space = spm->remove_extra;
    for (; at < bytes; at += taken) {
        taken = prefix(spm, text + at, bytes - at, &becomes, &length);
        while (after_space && length && *becomes == ' ') becomes++, length--;
        if (length) {
            RECO_TRY(put_escaped(ctx, spm, &to, becomes, length));
            after_space = spm->remove_extra && becomes[length - 1] == ' ';
        }
    }
    if (spm->remove_extra) strip_last_spaces(spm, &to);
    if (any && spm->suffix && spm->dummy_prefix) RECO_TRY(put_escaped(ctx, spm, &to, " ", 1));
    *out = to.at;
    *n = to.n;
    return RECO_OK;
}
