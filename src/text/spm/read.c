/* ModelProto of sentencepiece 0.2, of which this is read: pieces = 1 (piece = 1, score = 2, type = 3), trainer_spec = 2 (model_type = 3,
 * treat_whitespace_as_suffix = 24, byte_fallback = 35), normalizer_spec = 3 (precompiled_charsmap = 2, add_dummy_prefix = 3,
 * remove_extra_whitespaces = 4, escape_whitespaces = 5). Other fields are passed over. */
#include "text/pieces/charsmap.h"
#include "text/pieces/pieces.h"
#include "text/pieces/unigram.h"
#include "text/spm/spm.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#define LONGEST 1024      /* bytes of a piece, which every prefix of a caption's rest is looked up to */
#define UNK_PENALTY 10.0f /* sentencepiece's */
#define USER_BONUS 0.1    /* likewise, for each byte after the first */

/* A message, or what is left of it. */
typedef struct message {
    const uint8_t *at, *end;
} message;

/* A field: its number, and its value as a number, a float or a message by its wire type. */
typedef struct field {
    uint64_t number, value;
    unsigned wire;
    float real;
    message inner;
} field;

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static bool varint(message *m, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t byte = *m->at++;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* False: at the end, or damaged; then m->at is not m->end. */
static bool next(message *m, field *f)
{
    uint64_t key, length;
    message from = *m;
    *f = (field){0};
    if (m->at == m->end) return false;
    bool good = varint(m, &key);
    size_t left = (size_t)(m->end - m->at);
    f->number = key >> 3;
    f->wire = key & 7;
    if (good && f->wire == VARINT) {
        good = varint(m, &f->value);
    } else if (good && (f->wire == FIXED32 || f->wire == FIXED64)) {
        size_t n = f->wire == FIXED32 ? 4 : 8;
        if ((good = left >= n)) {
            uint32_t bits = (uint32_t)m->at[0] | (uint32_t)m->at[1] << 8 | (uint32_t)m->at[2] << 16 |
                            (uint32_t)m->at[3] << 24;
            memcpy(&f->real, &bits, sizeof bits);
            m->at += n;
        }
    } else if (good && f->wire == BYTES) {
        good = varint(m, &length) && length <= (uint64_t)(m->end - m->at);
        if (good) {
            f->inner = (message){m->at, m->at + length};
            m->at += length;
        }
    } else {
        good = false;
    }
    if (!good || f->number == 0) {
        *m = from;
        return false;
    }
    return true;
}

static bool is(const field *f, uint64_t number, unsigned wire)
{
    return f->number == number && f->wire == wire;
}

typedef struct piece {
    message text;
    float score;
    reco_spm_type type;
} piece;

static bool read_piece(message m, piece *out)
{
    field f;
    *out = (piece){.type = RECO_SPM_NORMAL};
    while (next(&m, &f)) {
        if (is(&f, 1, BYTES)) out->text = f.inner;
        if (is(&f, 2, FIXED32)) out->score = f.real;
        if (is(&f, 3, VARINT) && f.value >= 1 && f.value <= RECO_SPM_BYTE)
            out->type = (reco_spm_type)f.value;
    }
    return m.at == m.end;
}

static bool read_trainer(reco_spm *spm, message m)
{
    field f;
    while (next(&m, &f)) {
        if (is(&f, 3, VARINT) && f.value >= 1 && f.value <= RECO_SPM_CHAR)
            spm->kind = (reco_spm_kind)f.value;
        if (is(&f, 24, VARINT)) spm->suffix = f.value != 0;
        if (is(&f, 35, VARINT)) spm->bytes = f.value != 0;
    }
    return m.at == m.end;
}

static bool read_normalizer(reco_spm *spm, message m, message *map)
{
    field f;
    while (next(&m, &f)) {
        if (is(&f, 2, BYTES)) *map = f.inner;
        if (is(&f, 3, VARINT)) spm->dummy_prefix = f.value != 0;
        if (is(&f, 4, VARINT)) spm->remove_extra = f.value != 0;
        if (is(&f, 5, VARINT)) spm->escape = f.value != 0;
    }
    return m.at == m.end;
}

/* Of a piece that texts are made of. */
static bool is_text_piece(reco_spm_type type)
{
    return type == RECO_SPM_NORMAL || type == RECO_SPM_USER_DEFINED || type == RECO_SPM_UNUSED;
}

/* How many pieces of each table, and their bytes. */
typedef struct counts {
    size_t all, known, known_bytes, reserved, reserved_bytes, user, user_bytes;
} counts;

static reco_status damaged_model(reco_ctx *ctx, const char *path, const message *m, const uint8_t *data)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s: not a SentencePiece model: damaged at byte %zu", path,
                     (size_t)(m->at - data));
}

/* All but the pieces, which are counted. */
static reco_status outline(reco_ctx *ctx, reco_spm *spm, counts *n, message *map, message m,
                           const char *path)
{
    const uint8_t *data = m.at;
    field f;
    piece p;
    while (next(&m, &f)) {
        bool good = true;
        if (is(&f, 1, BYTES) && (good = read_piece(f.inner, &p))) {
            size_t bytes = (size_t)(p.text.end - p.text.at);
            bool known = is_text_piece(p.type);
            if (bytes == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: piece %zu is empty", path, n->all);
            if (bytes > LONGEST)
                return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: piece %zu has %zu bytes, want at most %d",
                                 path, n->all, bytes, LONGEST);
            n->all++;
            *(known ? &n->known : &n->reserved) += 1;
            *(known ? &n->known_bytes : &n->reserved_bytes) += bytes;
            n->user += p.type == RECO_SPM_USER_DEFINED;
            n->user_bytes += p.type == RECO_SPM_USER_DEFINED ? bytes : 0;
        }
        if (is(&f, 2, BYTES)) good = read_trainer(spm, f.inner);
        if (is(&f, 3, BYTES)) good = read_normalizer(spm, f.inner, map);
        if (!good) return damaged_model(ctx, path, &(message){f.inner.at, NULL}, data);
    }
    if (m.at != m.end) return damaged_model(ctx, path, &m, data);
    if (n->all == 0 || n->all > INT32_MAX / 8)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: not a SentencePiece model: %zu pieces", path, n->all);
    return RECO_OK;
}

/* <0x41> */
static int byte_of(const char *text, size_t n)
{
    char name[8];
    for (int byte = 0; byte < 256; byte++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        if (n == 6 && memcmp(text, name, 6) == 0) return byte;
    }
    return -1;
}

static reco_status add_vocab_piece(reco_ctx *ctx, reco_spm *spm, const piece *p, int32_t id,
                                   const char *path)
{
    const char *text = (const char *)p->text.at;
    size_t n = (size_t)(p->text.end - p->text.at);
    bool known = is_text_piece(p->type), null = n == 1 && !*text && spm->bytes;
    int shown = (int)reco_min(n, 60);
    if (!null && memchr(text, 0, n))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: piece %d has a NUL byte", path, id);
    spm->type[id] = null ? RECO_SPM_UNUSED : (uint8_t)p->type;
    if (null) return RECO_OK; /* some converters write one beside <0x00> */
    if (!reco_pieces_add(known ? &spm->model.pieces : &spm->reserved, text, n, id))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: piece '%.*s' occurs twice", path, shown, text);
    if (!isfinite(p->score))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: the score of piece '%.*s' is not finite", path, shown,
                         text);
    spm->model.score[id] = (double)p->score;
    if (p->type == RECO_SPM_USER_DEFINED) reco_pieces_add(&spm->user, text, n, id);
    spm->unused += p->type == RECO_SPM_UNUSED;
    if (p->type == RECO_SPM_UNKNOWN && spm->unk >= 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: two pieces are marked as unknown: %d and %d", path,
                         spm->unk, id);
    if (p->type == RECO_SPM_UNKNOWN) spm->unk = id;
    if (p->type == RECO_SPM_BYTE) {
        int byte = byte_of(text, n);
        if (byte < 0 || !spm->bytes)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: piece '%.*s' is marked as a byte%s", path, shown,
                             text, byte < 0 ? "" : ", but byte_fallback is false");
        spm->model.byte[byte] = id;
    }
    return RECO_OK;
}

/* What the library makes of the scores, in its types: a USER_DEFINED piece outdoes all others. */
static void finish_scores(reco_spm *spm)
{
    float least = FLT_MAX;
    const reco_pieces *pieces = &spm->model.pieces;
    for (size_t id = 0; id < spm->size; id++) {
        float score = (float)spm->model.score[id];
        if (spm->type[id] == RECO_SPM_NORMAL) least = score < least ? score : least;
    }
    spm->model.unk_score = (double)(least - UNK_PENALTY);
    for (size_t e = 0; e < pieces->n && spm->kind == RECO_SPM_UNIGRAM; e++) {
        int32_t id = pieces->id[e];
        size_t length = pieces->at[e + 1] - pieces->at[e];
        if (spm->type[id] == RECO_SPM_USER_DEFINED)
            spm->model.score[id] = (double)(float)(USER_BONUS * (double)(length - 1));
        spm->model.skip[id] = spm->type[id] == RECO_SPM_UNUSED;
    }
}

static reco_status read_pieces(reco_ctx *ctx, reco_spm *spm, const counts *n, message m, const char *path)
{
    reco_unigram_model *model = &spm->model;
    field f;
    piece p;
    int32_t id = 0;
    spm->size = n->all;
    RECO_TRY(reco_pieces_reserve(ctx, &model->pieces, n->known, n->known_bytes));
    RECO_TRY(reco_pieces_reserve(ctx, &spm->reserved, n->reserved, n->reserved_bytes));
    RECO_TRY(reco_pieces_reserve(ctx, &spm->user, n->user, n->user_bytes));
    spm->type = reco_alloc(ctx, n->all, 1, "vocabulary");
    model->score = reco_alloc(ctx, n->all, sizeof *model->score, "vocabulary");
    model->skip = reco_alloc(ctx, n->all, sizeof *model->skip, "vocabulary");
    if (!spm->type || !model->score || !model->skip) return RECO_E_NOMEM;
    for (size_t i = 0; i < 256; i++) model->byte[i] = -1;
    while (next(&m, &f))
        if (is(&f, 1, BYTES) && read_piece(f.inner, &p))
            RECO_TRY(add_vocab_piece(ctx, spm, &p, id++, path));
    if (spm->unk < 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: no piece is marked as unknown", path);
    for (size_t i = 0; i < 256 && spm->bytes; i++)
        if (model->byte[i] < 0)
            return reco_fail(ctx, RECO_E_FORMAT,
                             "%s: byte_fallback is true, but there is no piece <0x%02X>", path,
                             (unsigned)i);
    model->in_float = model->fuse_unk = true;
    model->byte_fallback = spm->bytes;
    finish_scores(spm);
    return RECO_OK;
}

reco_status reco_spm_read(reco_ctx *ctx, reco_spm **out, const void *data, size_t bytes, const char *path)
{
    reco_status status = RECO_OK;
    const message all = {data, (const uint8_t *)data + bytes};
    message map = {NULL, NULL};
    counts n = {0};
    *out = NULL;
    reco_spm *spm = reco_alloc(ctx, 1, sizeof *spm, "tokenizer");
    if (!spm) return RECO_E_NOMEM;
    spm->kind = RECO_SPM_UNIGRAM;
    spm->dummy_prefix = spm->remove_extra = spm->escape = true;
    spm->unk = -1;
    RECO_GO(outline(ctx, spm, &n, &map, all, path));
    if (spm->kind == RECO_SPM_WORD)
        RECO_GO(
            reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: model_type is WORD, want UNIGRAM, BPE or CHAR", path));
    RECO_GO(read_pieces(ctx, spm, &n, all, path));
    if (map.at != map.end)
        RECO_GO(reco_charsmap_take(ctx, &spm->map, map.at, (size_t)(map.end - map.at), path));
    *out = spm;
    spm = NULL;
out:
    reco_spm_free(spm);
    return status;
}

void reco_spm_free(reco_spm *spm)
{
    if (!spm) return;
    reco_unigram_free(&spm->model);
    reco_pieces_free(&spm->reserved);
    reco_pieces_free(&spm->user);
    reco_charsmap_free(&spm->map);
    reco_free(spm->type);
    reco_free(spm);
}
