/* As sentencepiece's bpe::Model: the neighbours whose text together is the piece of the greatest score merge first, whatever
 * they are themselves. */
#include "text/ids.h"
#include "text/pieces/pieces.h"
#include "text/pieces/unigram.h"
#include "text/spm/spm.h"

#define DEEPEST 100 /* how often an UNUSED piece comes apart: sentencepiece's */

/* size 0: merged into the one before. fixed: a USER_DEFINED piece, which takes no part. */
typedef struct symbol {
    size_t begin;
    uint32_t size;
    int32_t prev, next; /* -1: none */
    bool fixed;
} symbol;

/* Two neighbours and the bytes they had when they were pushed. */
typedef struct pair {
    float score;
    int32_t left, right;
    uint32_t size;
} pair;

typedef struct job {
    const reco_spm *spm;
    const char *text;
    symbol *symbols;
    pair *heap;
    size_t n; /* of heap */
    uint32_t *
        parts; /* [by id] of UNUSED pieces: bytes of the first of the two they were last made of; NULL: there are none */
    reco_ids *ids;
    bool unknown; /* the last was */
} job;

static bool before(pair a, pair b) { return a.score != b.score ? a.score > b.score : a.left < b.left; }

static void push_pair(job *j, pair p)
{
    size_t i = j->n++;
    for (; i > 0 && before(p, j->heap[(i - 1) / 2]); i = (i - 1) / 2) j->heap[i] = j->heap[(i - 1) / 2];
    j->heap[i] = p;
}

static pair pop(job *j)
{
    pair top = j->heap[0], p = j->heap[--j->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < j->n; i = child) {
        if (child + 1 < j->n && before(j->heap[child + 1], j->heap[child])) child++;
        if (!before(j->heap[child], p)) break;
        j->heap[i] = j->heap[child];
    }
    j->heap[i] = p;
    return top;
}

static void offer_pair(job *j, int32_t left, int32_t right)
{
    if (left < 0 || right < 0 || j->symbols[left].fixed || j->symbols[right].fixed) return;
    const symbol *a = &j->symbols[left];
    size_t size = a->size + j->symbols[right].size;
    if (size > j->spm->model.pieces.longest) return;
    int32_t id = reco_pieces_id(&j->spm->model.pieces, j->text + a->begin, size);
    if (id < 0) return;
    push_pair(j, (pair){(float)j->spm->model.score[id], left, right, (uint32_t)size});
    if (j->parts && j->spm->type[id] == RECO_SPM_UNUSED) j->parts[id] = a->size;
}

static void merge(job *j, pair p)
{
    symbol *a = &j->symbols[p.left], *b = &j->symbols[p.right];
    if (!a->size || !b->size || a->size + b->size != p.size) return;
    a->size = p.size;
    a->next = b->next;
    if (b->next >= 0) j->symbols[b->next].prev = p.left;
    b->size = 0;
    offer_pair(j, a->prev, p.left);
    offer_pair(j, p.left, a->next);
}

/* UNUSED pieces come apart again, or are unknown. */
static void emit_parts(job *j, const char *text, size_t n, unsigned depth)
{
    int32_t id = reco_pieces_id(&j->spm->model.pieces, text, n);
    bool unused = id >= 0 && j->spm->type[id] == RECO_SPM_UNUSED;
    if (unused && depth <= DEEPEST && j->parts[id]) {
        size_t first = j->parts[id];
        emit_parts(j, text, first, depth + 1);
        emit_parts(j, text + first, n - first, depth + 1);
        return;
    }
    bool unknown = id < 0 || (unused && depth <= DEEPEST);
    if (!unknown)
        reco_ids_push(j->ids, id);
    else if (j->spm->model.byte_fallback || !j->unknown)
        reco_unigram_unknown(&j->spm->model, j->spm->unk, text, n, j->ids);
    j->unknown = unknown;
}

reco_status reco_spm_bpe(reco_ctx *ctx, const reco_spm *spm, const char *text, size_t bytes, reco_ids *ids)
{
    job j = {.spm = spm, .text = text, .ids = ids};
    size_t n = 0;
    j.symbols = reco_scratch(ctx, bytes, sizeof *j.symbols, "caption");
    j.heap = reco_scratch(ctx, bytes, 3 * sizeof *j.heap, "caption");
    if (spm->unused) j.parts = reco_scratch(ctx, spm->size, sizeof *j.parts, "caption");
    if (!j.symbols || !j.heap || (spm->unused && !j.parts)) return RECO_E_NOMEM;
    if (j.parts) memset(j.parts, 0, spm->size * sizeof *j.parts);
    for (size_t at = 0; at < bytes; n++) {
        size_t user = reco_spm_user(spm, text + at, bytes - at);
        size_t size = user ? user : reco_spm_step(text + at, bytes - at);
        j.symbols[n] = (symbol){at, (uint32_t)size, (int32_t)n - 1, (int32_t)n + 1, user > 0};
        at += size;
    }
    j.symbols[n - 1].next = -1;
    for (size_t i = 1; i < n && spm->kind == RECO_SPM_BPE; i++) offer_pair(&j, (int32_t)i - 1, (int32_t)i);
    while (j.n) merge(&j, pop(&j));
    for (int32_t i = 0; i >= 0 && !reco_ids_full(ids); i = j.symbols[i].next)
        emit_parts(&j, text + j.symbols[i].begin, j.symbols[i].size, 0);
    return RECO_OK;
}
