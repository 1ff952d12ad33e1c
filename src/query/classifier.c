#include "query/classifier.h"
#include "fusion/fusion.h"
#include "io/io.h"
#include "kernels/kernels.h"

#include <stdlib.h>

#define CLIP_SCALE 100           /* of an encoder that is not known */
#define BLOCK ((size_t)256)      /* pictures at a time, where a bank is far, */
#define FLOATS ((size_t)1 << 24) /* and floats of their neighbours' vectors */

void reco_classifier_free(reco_classifier *c)
{
    if (!c) return;
    reco_free(c->plain);
    reco_free(c->refined);
    reco_free(c->names);
    reco_free(c->said);
    reco_free(c);
}

/* Sum up, in the order of each candidate's prompts. */
static void add_rows(const reco_classifier *c, float *sums, const float *rows, const reco_prompts *p)
{
    for (size_t j = 0; j < p->n; j++)
        for (size_t i = 0; i < c->c.d; i++) sums[p->of[j] * c->c.d + i] += rows[j * c->c.d + i];
}

static reco_status take(reco_ctx *ctx, void *user, const reco_prompts *p)
{
    reco_classifier *c = user;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *better = reco_scratch(ctx, p->n * c->c.d, sizeof *better, "class embeddings");
    if (!better) RECO_GO(RECO_E_NOMEM);
    for (size_t j = 0; p->texts && c->c.m && j < p->n; j++)
        RECO_GO(reco_classifier_note(ctx, c, p->of[j], p->texts[j], p->hashes[j]));
    add_rows(c, c->plain, p->rows, p);
    if (c->remembers)
        RECO_GO(reco_refine(ctx, &c->memory, &(reco_question){.side = RECO_TEXT, .x = p->rows, .n = p->n},
                            &(reco_refined){.rows = better}));
    add_rows(c, c->refined, c->remembers ? better : p->rows, p);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* x [n][d] += y, of norm 1 again. */
static void join(reco_ctx *ctx, float *x, const float *y, size_t n, size_t d)
{
    for (size_t i = 0; i < n * d; i++) x[i] += y[i];
    reco_normalize(ctx, x, x, n, d, NULL);
}

/* What is beside rows, refined where there is a memory, is added to them. */
static reco_status join_refined(reco_ctx *ctx, const reco_classifier *c, float *x, reco_side side,
                                const float *beside, size_t n)
{
    size_t d = c->c.d;
    float *better = reco_alloc(ctx, n * d, sizeof *better, "embeddings");
    if (!better) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (c->remembers)
        status = reco_refine(ctx, &c->memory, &(reco_question){.side = side, .x = beside, .n = n},
                             &(reco_refined){.rows = better});
    if (status == RECO_OK) join(ctx, x, c->remembers ? better : beside, n, d);
    reco_free(better);
    return status;
}

static float scale_of(const reco_classifier *c)
{
    float scale = c->c.scale;
    if (!(scale > 0) && c->c.model) scale = reco_model_get_info(c->c.model)->logit_scale;
    if (!(scale > 0) && c->remembers) scale = reco_bank_get_info(c->memory.bank)->logit_scale;
    return scale > 0 ? scale : CLIP_SCALE;
}

static reco_status settle(reco_ctx *ctx, reco_classifier *c, const reco_memory *memory)
{
    c->remembers = memory != NULL;
    if (memory) {
        c->memory = *memory;
        RECO_TRY(reco_reserved(ctx, "memory", memory->reserved));
        RECO_TRY(reco_check_encoder(ctx, c->c.model, memory->bank, memory->fusion));
        reco_memory_settle(memory, RECO_IMAGE, RECO_TEXT, &c->s);
        c->memory.mixture = &c->s.mixture;
        size_t d = reco_bank_get_info(memory->bank)->d;
        if (d != c->c.d)
            return reco_fail(ctx, RECO_E_MISMATCH,
                             "candidates of width %zu, the bank has vectors of width %zu", c->c.d, d);
    }
    c->scale = scale_of(c);
    return RECO_OK;
}

reco_status reco_classifier_create(reco_ctx *ctx, reco_classifier **out, const reco_memory *memory,
                                   const reco_candidates *candidates, uint64_t *truncated)
{
    size_t n = candidates->n, d = candidates->d, count, m = reco_max(candidates->m, 1), prompts;
    reco_status status = RECO_OK;
    *out = NULL;
    if (!reco_mul(n, d, &count) || !reco_mul(n, 2 * m, &prompts))
        return reco_fail_nomem(ctx, SIZE_MAX, "classes");
    reco_classifier *c = reco_alloc(ctx, 1, sizeof *c, "classes");
    if (!c) return RECO_E_NOMEM;
    c->c = *candidates;
    c->m = m;
    RECO_GO(settle(ctx, c, memory));
    c->plain = reco_alloc(ctx, count, sizeof *c->plain, "classes");
    c->refined = reco_alloc(ctx, count, sizeof *c->refined, "classes");
    c->said = reco_alloc(ctx, candidates->m ? prompts : 0, sizeof *c->said, "classes");
    if (!c->plain || !c->refined || !c->said) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_each_prompt(ctx, candidates, take, c, truncated));
    if (m > 1) {
        reco_normalize(ctx, c->plain, c->plain, n, d, NULL);
        reco_normalize(ctx, c->refined, c->refined, n, d, NULL);
    }
    if (candidates->pictures) {
        join(ctx, c->plain, candidates->pictures, n, d);
        RECO_GO(join_refined(ctx, c, c->refined, RECO_IMAGE, candidates->pictures, n));
    }
    RECO_GO(reco_classifier_index(ctx, c));
    *out = c;
    c = NULL;
out:
    reco_classifier_free(c);
    return status;
}

const float *reco_classifier_plain(const reco_classifier *classifier) { return classifier->plain; }
const float *reco_classifier_refined(const reco_classifier *classifier) { return classifier->refined; }
void reco_classifier_settings(const reco_classifier *classifier, reco_settings *settings)
{
    *settings = classifier->s;
}

reco_status reco_classifier_save(reco_ctx *ctx, const reco_classifier *classifier, const char *path)
{
    const size_t shape[2] = {classifier->c.n, classifier->c.d};
    return reco_npy_write(ctx, path, RECO_DTYPE_F32, 2, shape, classifier->refined);
}

/* ---- pictures ---- */

void reco_findings_free(reco_findings *f)
{
    reco_free(f->rows[0]);
    reco_free(f->rows[1]);
    reco_free(f->ids);
    reco_free(f->scores);
    reco_free(f->counts);
    reco_free(f->voters);
    reco_free(f->of);
    reco_free(f->near);
    *f = (reco_findings){0};
}

static reco_status make_room(reco_ctx *ctx, reco_findings *f, const reco_classifier *c, bool texts)
{
    size_t places, count;
    bool finds = c->s.refines || c->s.voters;
    f->reach = finds ? reco_max(c->s.k, c->s.voters) : 0;
    if (!reco_mul(f->n, f->reach, &places) || !reco_mul(f->n, c->c.d, &count))
        return reco_fail_nomem(ctx, SIZE_MAX, "neighbours");
    f->ids = reco_alloc(ctx, places, sizeof *f->ids, "neighbours");
    f->scores = reco_alloc(ctx, places, sizeof *f->scores, "neighbours");
    f->of = reco_alloc(ctx, places, sizeof *f->of, "neighbours");
    f->counts = reco_alloc(ctx, f->n, sizeof *f->counts, "neighbours");
    f->voters = reco_alloc(ctx, f->n, sizeof *f->voters, "neighbours");
    if (texts && !(f->rows[0] = reco_alloc(ctx, count, sizeof(float), "embeddings"))) return RECO_E_NOMEM;
    if ((texts || c->s.refines) && !(f->rows[1] = reco_alloc(ctx, count, sizeof(float), "embeddings")))
        return RECO_E_NOMEM;
    if (c->s.voters && reco_fusion_metric(c->memory.fusion) &&
        !(f->near = reco_alloc(ctx, places, sizeof *f->near, "neighbours")))
        return RECO_E_NOMEM;
    return f->ids && f->scores && f->of && f->counts && f->voters ? RECO_OK : RECO_E_NOMEM;
}

/* A folder's rows are looked at once each, however many pictures they are neighbours of. */
static reco_status find_near(reco_ctx *ctx, const reco_classifier *c, const reco_question *question,
                             const reco_refined *refined, const reco_findings *f)
{
    const size_t n = question->n;
    RECO_TRY(reco_refine(ctx, &c->memory, question, refined));
    if (c->s.voters) RECO_TRY(reco_classifier_votes(ctx, c, c->memory.bank, f->ids, n * f->reach, f->of));
    if (f->near)
        RECO_TRY(reco_vote_near(ctx, &c->memory, question->x, n, f->ids, f->reach, NULL, 0, f->near));
    return RECO_OK;
}

/* Of servers, all that is known of the neighbours comes with them. */
static reco_status find_far(reco_ctx *ctx, const reco_classifier *c, const reco_question *question,
                            const reco_refined *refined, const reco_findings *f)
{
    const size_t d = c->c.d, reach = f->reach;
    const size_t block = reco_max(1, reco_min(BLOCK, FLOATS / (2 * reach * d)));
    const bool also[2] = {[RECO_IMAGE] = f->near, [RECO_TEXT] = c->s.voters && c->c.rows};
    reco_refining w;
    RECO_TRY(reco_refining_begin(ctx, &w, &c->memory, question, refined));
    for (size_t i = 0; i < question->n; i += block) {
        reco_status status = RECO_OK;
        reco_mark mark = reco_scratch_mark(ctx);
        const size_t n = reco_min(block, question->n - i), places = n * reach;
        reco_lookup found;
        RECO_GO(reco_refining_seek(ctx, &w, i, n, also, &found));
        if (c->s.voters) {
            found.pairs = reco_alloc(ctx, places, sizeof *found.pairs, "neighbours");
            if (!found.pairs) RECO_GO(RECO_E_NOMEM);
        }
        RECO_GO(reco_bank_look_up(ctx, c->memory.bank, &found, 1));
        RECO_GO(reco_refining_end(ctx, &w, i, n, &found, refined));
        if (c->s.voters) RECO_GO(reco_classifier_listen(ctx, c, &found, f->of + i * reach));
        if (f->near)
            RECO_GO(reco_vote_near(ctx, &c->memory, question->x + i * d, n, f->ids + i * reach, reach,
                                   found.vectors[RECO_IMAGE], reach, f->near + i * reach));
    out:
        for (size_t j = 0; found.pairs && j < places; j++) reco_pair_free(&found.pairs[j]);
        reco_free(found.pairs);
        reco_scratch_release(ctx, mark);
        if (status != RECO_OK) return status;
    }
    return RECO_OK;
}

reco_status reco_classifier_ask(reco_ctx *ctx, const reco_classifier *c, const reco_question *question,
                                const float *texts, reco_findings *out)
{
    size_t n = question->n, d = c->c.d;
    reco_findings f = {.n = n, .plain = question->x, .refined = question->x};
    reco_status status = RECO_OK;
    *out = f;
    RECO_GO(make_room(ctx, &f, c, texts));
    if (f.reach) {
        const reco_refined refined = {.rows = f.rows[1],
                                      .reach = f.reach,
                                      .hits = {.ids = f.ids, .scores = f.scores, .counts = f.counts}};
        RECO_GO((reco_bank_get_info(c->memory.bank)->shards ? find_far : find_near)(ctx, c, question,
                                                                                    &refined, &f));
    }
    if (f.rows[1] && !c->s.refines) memcpy(f.rows[1], question->x, n * d * sizeof(float));
    if (texts) {
        memcpy(f.rows[0], question->x, n * d * sizeof(float));
        join(ctx, f.rows[0], texts, n, d);
        RECO_GO(join_refined(ctx, c, f.rows[1], RECO_TEXT, texts, n));
        f.plain = f.rows[0];
    }
    if (f.rows[1]) f.refined = f.rows[1];
    for (size_t i = 0; i < n; i++) f.voters[i] = reco_min(f.counts[i], c->s.voters);
    *out = f;
    f = (reco_findings){0};
out:
    reco_findings_free(&f);
    if (status != RECO_OK) *out = (reco_findings){0};
    return status;
}
