#include "text/bpe/bpe.h"
#include "text/ids.h"
#include "text/tokenizer.h"

/* Symbols of a word as a doubly linked list in arrays; id -2 marks one that was merged into its left neighbour. */
typedef struct symbol {
    int32_t id, prev, next; /* -1: none */
} symbol;

/* A merge that was possible when it was pushed: best rank first, then leftmost. */
typedef struct candidate {
    uint32_t rank;
    int32_t at, id;
} candidate;

enum { SMALL = 64 }; /* symbols that need no memory of the context */

typedef struct heap {
    candidate *at;
    size_t n;
} heap;

static bool before(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void push_candidate(heap *h, candidate c)
{
    size_t i = h->n++;
    for (; i > 0 && before(c, h->at[(i - 1) / 2]); i = (i - 1) / 2) h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = c;
}

static candidate pop(heap *h)
{
    candidate top = h->at[0], c = h->at[--h->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && before(h->at[child + 1], h->at[child])) child++;
        if (!before(h->at[child], c)) break;
        h->at[i] = h->at[child];
    }
    h->at[i] = c;
    return top;
}

static void offer_merge(heap *h, const reco_tokenizer *tok, const symbol *symbols, int32_t at)
{
    if (at < 0 || symbols[at].next < 0) return;
    const reco_merge *merge = reco_merge_find(tok, symbols[at].id, symbols[symbols[at].next].id);
    if (merge) push_candidate(h, (candidate){merge->rank, at, merge->id});
}

/* n log n, since a caption may be one word of a megabyte. Each symbol is offered once at first, and each of at most
 * n - 1 merges offers two more, so the heap holds 3n. */
reco_status reco_bpe_merge(reco_ctx *ctx, const reco_tokenizer *tok, const int32_t *word, size_t n,
                           reco_ids *ids)
{
    symbol few[SMALL], *symbols = few;
    candidate small[3 * SMALL];
    heap h = {small, 0};
    reco_mark mark = reco_scratch_mark(ctx);
    if (n > SMALL) {
        symbols = reco_scratch(ctx, n, sizeof *symbols, "word");
        h.at = reco_scratch(ctx, n, 3 * sizeof *h.at, "word");
        if (!symbols || !h.at) return RECO_E_NOMEM;
    }
    int32_t count = 0;
    for (size_t i = 0; i < n; i++, count++) symbols[count] = (symbol){word[i], count - 1, count + 1};
    symbols[count - 1].next = -1;
    for (int32_t i = 0; i < count; i++) offer_merge(&h, tok, symbols, i);
    while (h.n) {
        candidate c = pop(&h);
        symbol *left = &symbols[c.at];
        if (left->id == -2 || left->next < 0) continue;
        symbol *right = &symbols[left->next];
        const reco_merge *merge = reco_merge_find(tok, left->id, right->id);
        if (!merge || merge->id != c.id) continue;
        left->id = c.id;
        left->next = right->next;
        right->id = -2;
        if (left->next >= 0) symbols[left->next].prev = c.at;
        offer_merge(&h, tok, symbols, left->prev);
        offer_merge(&h, tok, symbols, c.at);
    }
    for (int32_t i = 0; i >= 0 && !reco_ids_full(ids); i = symbols[i].next)
        reco_ids_push(ids, symbols[i].id);
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}

reco_status reco_bpe(reco_ctx *ctx, const reco_tokenizer *tok, const uint8_t *word, size_t n, reco_ids *ids)
{
    int32_t few[SMALL], *symbols = few;
    reco_mark mark = reco_scratch_mark(ctx);
    if (n > SMALL && !(symbols = reco_scratch(ctx, n, sizeof *symbols, "word"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        symbols[i] = i + 1 < n ? tok->symbol[word[i]] : tok->last[word[i]];
        if (symbols[i] < 0) symbols[i] = tok->unk;
    }
    reco_status status = reco_bpe_merge(ctx, tok, symbols, n, ids);
    reco_scratch_release(ctx, mark);
    return status;
}
