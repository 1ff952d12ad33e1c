/* Which candidate a row's caption votes for. */
#include "bank/bank.h"
#include "clip/clip.h"
#include "io/io.h"
#include "kernels/kernels.h"
#include "query/classifier.h"

#include <stdlib.h>

enum { ROWS = 256, BLOCK = 2048 };

/* ---- what candidates are called ---- */

reco_status reco_classifier_note(reco_ctx *ctx, reco_classifier *c, uint32_t of, const char *text,
                                 uint64_t tokens)
{
    struct reco_class_index *to = c->said + c->nsaid;
    to[0] = (struct reco_class_index){tokens, of};
    to[1].entry = of;
    RECO_TRY(reco_class_hash_words(ctx, text, false, &to[1].hash));
    c->nsaid += 2;
    return RECO_OK;
}

reco_status reco_classifier_index(reco_ctx *ctx, reco_classifier *c)
{
    const reco_class_list *list = c->c.list;
    const char *text = NULL;
    c->nnames = list ? list->nknown : c->c.names ? c->c.n : 0;
    if (!(c->names = reco_alloc(ctx, c->nnames, sizeof *c->names, "classes"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < c->nnames; i++)
        if (list) {
            c->names[i] = list->known[i];
            c->names[i].entry = list->of_entry[list->known[i].entry];
        } else {
            c->names[i].entry = (uint32_t)i;
            RECO_TRY(reco_caption_key(ctx, &c->names[i].hash, c->c.names[i]));
        }
    /* Prompts that were embedded elsewhere are known by their words; what the tokenizer makes equal has equal vectors. */
    for (size_t i = 0; c->c.rows && i < c->c.n * c->c.m; i++) {
        if (!(text = reco_candidate_text(&c->c, i % c->c.n))) break;
        char *prompt = reco_fill_template(ctx, c->c.templates[i / c->c.n], text);
        if (!prompt) return RECO_E_ARG;
        c->said[c->nsaid].entry = (uint32_t)(i % c->c.n);
        reco_status status = reco_caption_key(ctx, &c->said[c->nsaid++].hash, prompt);
        reco_free(prompt);
        RECO_TRY(status);
    }
    qsort(c->names, c->nnames, sizeof *c->names, reco_class_by_hash);
    qsort(c->said, c->nsaid, sizeof *c->said, reco_class_by_hash);
    return RECO_OK;
}

/* By the names, then by the prompts; hash: of tokens and of words, 0 is none. */
static uint32_t find(const reco_classifier *c, const uint64_t hash[2])
{
    for (int h = 0; h < 4; h++) {
        const struct reco_class_index *index = h < 2 ? c->names : c->said;
        size_t n = h < 2 ? c->nnames : c->nsaid,
               at = hash[h % 2] ? reco_class_first(index, n, hash[h % 2]) : n;
        if (at < n) return index[at].entry;
    }
    return RECO_NO_CANDIDATE;
}

typedef struct listening {
    const reco_classifier *c;
    uint32_t *of; /* by row */
} listening;

static reco_status by_caption(reco_ctx *ctx, void *arg, size_t i, const reco_pair *pair)
{
    const listening *l = arg;
    uint64_t hash[2] = {0};
    RECO_TRY(reco_caption_key(ctx, &hash[1], pair->caption));
    if (l->c->c.model && hash[1])
        RECO_TRY(reco_model_hash_tokens(ctx, l->c->c.model, pair->caption, &hash[0]));
    l->of[i] = find(l->c, hash);
    return RECO_OK;
}

/* Of n rows, of these ids or places in `texts`, the candidate that has the vector of one of its prompts. */
static reco_status by_vector(reco_ctx *ctx, const reco_classifier *c, const reco_bank *bank,
                             const int64_t *ids, const float *texts, const size_t *where, size_t n,
                             uint32_t *of)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = c->c.d, all = c->c.n * c->m;
    const float *rows = c->c.rows;
    float *x = reco_scratch(ctx, n * d, sizeof *x, "neighbours"),
          *best = reco_scratch(ctx, n, sizeof *best, "neighbours"),
          *S = reco_scratch(ctx, n * BLOCK, sizeof *S, "neighbours");
    size_t *at = reco_scratch(ctx, n, sizeof *at, "neighbours");
    if (!x || !best || !S || !at) RECO_GO(RECO_E_NOMEM);
    if (!texts) RECO_GO(reco_bank_gather(ctx, bank, RECO_TEXT, ids, n, x));
    for (size_t i = 0; i < n && texts; i++) memcpy(x + i * d, texts + where[i] * d, d * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        reco_unit_row(x + i * d, d);
        best[i] = -2;
        at[i] = 0;
    }
    for (size_t j = 0; j < all; j += BLOCK) {
        size_t some = reco_min(BLOCK, all - j);
        RECO_GO(reco_gemm(ctx, S, some, x, d, false, rows + j * d, d, true, n, some, d, 1, 0));
        for (size_t i = 0; i < n; i++)
            for (size_t q = 0; q < some; q++)
                if (S[i * some + q] > best[i]) {
                    best[i] = S[i * some + q];
                    at[i] = j + q;
                }
    }
    for (size_t i = 0; i < n; i++)
        if (all && reco_is_same(x + i * d, rows + at[i] * d, d)) of[i] = (uint32_t)(at[i] % c->c.n);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- rows, each looked at once ---- */

/* Those of n rows whose captions say nothing; texts [n][d]: their vectors, or NULL. */
static reco_status look_at_vectors(reco_ctx *ctx, const reco_classifier *c, const reco_bank *bank,
                                   const int64_t *ids, const float *texts, size_t n, uint32_t *of)
{
    int64_t left[ROWS];
    uint32_t found[ROWS];
    size_t where[ROWS], some = 0;
    for (size_t i = 0; i <= n; i++) {
        if (some == ROWS || (i == n && some)) {
            for (size_t q = 0; q < some; q++) found[q] = RECO_NO_CANDIDATE;
            RECO_TRY(by_vector(ctx, c, bank, left, texts, where, some, found));
            for (size_t q = 0; q < some; q++) of[where[q]] = found[q];
            some = 0;
        }
        if (i == n || ids[i] < 0 || of[i] != RECO_NO_CANDIDATE) continue;
        left[some] = ids[i];
        where[some++] = i;
    }
    return RECO_OK;
}

reco_status reco_classifier_listen(reco_ctx *ctx, const reco_classifier *c, const reco_lookup *found,
                                   uint32_t *of)
{
    const size_t n = found->nq * found->opts.k;
    for (size_t i = 0; i < n; i++) {
        of[i] = RECO_NO_CANDIDATE;
        if (found->pairs[i].caption) RECO_TRY(by_caption(ctx, &(listening){c, of}, i, &found->pairs[i]));
    }
    return c->c.rows ? look_at_vectors(ctx, c, NULL, found->hits.ids, found->vectors[RECO_TEXT], n, of)
                     : RECO_OK;
}

reco_status reco_classifier_votes(reco_ctx *ctx, const reco_classifier *c, const reco_bank *bank,
                                  const int64_t *ids, size_t n, uint32_t *of)
{
    reco_status status = RECO_OK;
    size_t unique = 0;
    reco_wanted *rows = reco_alloc(ctx, n, sizeof *rows, "neighbours");
    int64_t *id = reco_alloc(ctx, n, sizeof *id, "neighbours");
    uint32_t *said = reco_alloc(ctx, n, sizeof *said, "neighbours");
    if (!rows || !id || !said) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) rows[i] = (reco_wanted){ids[i], i};
    qsort(rows, n, sizeof *rows, reco_by_wanted);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].id < 0 || (unique && id[unique - 1] == rows[i].id)) continue;
        id[unique++] = rows[i].id;
    }
    RECO_GO(reco_bank_each_pair(ctx, bank, id, unique, by_caption, &(listening){c, said}));
    if (c->c.rows) RECO_GO(look_at_vectors(ctx, c, bank, id, NULL, unique, said));
    for (size_t i = 0, u = 0; i < n; i++) {
        of[rows[i].at] = RECO_NO_CANDIDATE;
        if (rows[i].id < 0) continue;
        while (id[u] != rows[i].id) u++;
        of[rows[i].at] = said[u];
    }
out:
    reco_free(said);
    reco_free(id);
    reco_free(rows);
    return status;
}
