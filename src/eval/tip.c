/* Tip-Adapter's cache: CLIP's logits plus the votes of similar rows. */
#include "eval/marks.h"
#include "kernels/kernels.h"

#include <math.h>

enum { IMAGES = 64, ROWS = 2048, MOST_ASKED = 2048, BETAS = 8, ALPHAS = 9 };
/* Floats of what the cache says to a block of pictures. */
#define BLOCK (1u << 22)
/* A picture nearer than this is the row itself, or its near-duplicate. */
#define SAME 0.999f

static const float betas[BETAS] = {0.5f, 1, 2, 5.5f, 10, 20, 40, 80};
static const float alphas[ALPHAS] = {0, 0.1f, 0.3f, 1, 3, 10, 30, 100, 300};

typedef struct block {
    const reco_tip_cache *cache;
    const float *near; /* [m][rows] cosines of pictures with rows [first, first+rows) */
    size_t first, rows, c, nbetas;
    const float *beta;
    float bar;   /* rows nearer than this do not count */
    float *said; /* [nbetas][m][c] */
    size_t m;
} block;

/* Rows in their order, so that threads change nothing. */
static void hear(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const block *b = arg;
    for (size_t q = begin; q < end; q++)
        for (size_t r = 0; r < b->rows; r++) {
            uint32_t of = b->cache->of[b->first + r];
            float near = b->near[q * b->rows + r];
            if (of == RECO_NO_CANDIDATE || near > b->bar) continue;
            for (size_t i = 0; i < b->nbetas; i++)
                b->said[(i * b->m + q) * b->c + of] += expf(-b->beta[i] * (1 - near));
        }
}

typedef struct asker {
    const reco_tip_cache *cache;
    const reco_tip_pictures *of;
    size_t c, d, nbetas, some; /* some: pictures at a time */
    const float *beta;
    float scale, bar;
    float *logits, *said, *near; /* [some][c], [nbetas][some][c], [some][ROWS] */
} asker;

static reco_status prepare_scores(reco_ctx *ctx, asker *a)
{
    RECO_TRY(reco_reserved(ctx, "eval", a->cache->reserved));
    RECO_TRY(reco_reserved(ctx, "eval", a->of->reserved));
    a->some = reco_max(1, reco_min(IMAGES, BLOCK / reco_max(a->nbetas * a->c, 1)));
    a->logits = reco_scratch(ctx, a->some * a->c, sizeof(float), "logits");
    a->said = reco_scratch(ctx, a->nbetas * a->some * a->c, sizeof(float), "logits");
    a->near = reco_scratch(ctx, a->some * ROWS, sizeof(float), "logits");
    for (size_t i = 0; i < a->cache->m; i++)
        if (a->cache->of[i] >= a->c && a->cache->of[i] != RECO_NO_CANDIDATE)
            return reco_fail(ctx, RECO_E_ARG, "Tip-Adapter: class %u of row %zu, want below %zu",
                             a->cache->of[i], i, a->c);
    return a->logits && a->said && a->near ? RECO_OK : RECO_E_NOMEM;
}

/* CLIP's logits of m pictures, and for each beta what the cache says. */
static reco_status score_pictures(reco_ctx *ctx, const asker *a, const float *images, size_t m)
{
    RECO_TRY(reco_gemm(ctx, a->logits, a->c, images, a->d, false, a->of->classes, a->d, true, m, a->c, a->d,
                       a->scale, 0));
    memset(a->said, 0, a->nbetas * m * a->c * sizeof(float));
    for (size_t j = 0; j < a->cache->m; j += ROWS) {
        size_t rows = reco_min(ROWS, a->cache->m - j);
        RECO_TRY(reco_gemm(ctx, a->near, rows, images, a->d, false, a->cache->images + j * a->d, a->d, true,
                           m, rows, a->d, 1, 0));
        block b = {a->cache, a->near, j, rows, a->c, a->nbetas, a->beta, a->bar, a->said, m};
        reco_parallel(ctx, m, 4, hear, &b);
    }
    return RECO_OK;
}

reco_status reco_eval_tip(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const reco_tip *tip,
                          const reco_tip_cache *cache, const reco_tip_pictures *pictures)
{
    size_t n = pictures->n, c = pictures->c, d = pictures->d;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_marks marks;
    asker a = {.cache = cache,
               .of = pictures,
               .c = c,
               .d = d,
               .nbetas = 1,
               .beta = &tip->beta,
               .scale = tip->scale,
               .bar = INFINITY};
    if (!(tip->scale > 0 && tip->scale <= RECO_MIXTURE_MAX_SCALE && tip->alpha >= 0 && tip->alpha <= 1e6f &&
          tip->beta >= 0 && tip->beta <= 1e6f))
        RECO_GO(reco_fail(ctx, RECO_E_ARG,
                          "Tip-Adapter: scale %g, alpha %g, beta %g, want above 0 and at most %g, 0..1e6, "
                          "0..1e6",
                          (double)tip->scale, (double)tip->alpha, (double)tip->beta,
                          (double)RECO_MIXTURE_MAX_SCALE));
    RECO_GO(reco_marks_begin(ctx, &marks, top, pictures->labels, n, c));
    RECO_GO(prepare_scores(ctx, &a));
    for (size_t i = 0; i < n; i += a.some) {
        size_t m = reco_min(a.some, n - i);
        RECO_GO(score_pictures(ctx, &a, pictures->images + i * d, m));
        for (size_t q = 0; q < m; q++) {
            float *p = a.logits + q * c;
            for (size_t j = 0; j < c; j++) p[j] += tip->alpha * a.said[q * c + j];
            reco_marks_rank(&marks, i + q, p);
            reco_softmax_row(ctx, p, c);
            reco_marks_add(&marks, i + q, p[marks.top[(i + q) * RECO_TOP]]);
        }
    }
    reco_marks_end(&marks, scores);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- the grid ---- */

static bool is_right(const asker *a, size_t q, size_t m, size_t beta, float alpha, uint32_t label)
{
    const float *clip = a->logits + q * a->c, *said = a->said + (beta * m + q) * a->c;
    float right = clip[label] + alpha * said[label];
    for (size_t j = 0; j < a->c; j++) {
        float other = clip[j] + alpha * said[j];
        if (other > right || (other == right && j < label)) return false;
    }
    return true;
}

/* Rows of the cache that have a class, spread evenly over all of them. */
static size_t list_rows(const reco_tip_cache *cache, uint32_t *rows)
{
    size_t have = 0, n = 0, at = 0;
    for (size_t i = 0; i < cache->m; i++) have += cache->of[i] != RECO_NO_CANDIDATE;
    size_t want = reco_min(have, MOST_ASKED);
    for (size_t i = 0; i < cache->m && n < want; i++) {
        if (cache->of[i] == RECO_NO_CANDIDATE) continue;
        if (at++ == n * have / want) rows[n++] = (uint32_t)i;
    }
    return n;
}

reco_status reco_eval_tip_choose(reco_ctx *ctx, reco_tip *tip, const reco_tip_cache *cache,
                                 const reco_tip_pictures *pictures)
{
    const float *images = pictures->images;
    const uint32_t *labels = pictures->labels;
    size_t n = pictures->n, c = pictures->c, d = pictures->d;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    asker a = {.cache = cache,
               .of = pictures,
               .c = c,
               .d = d,
               .nbetas = BETAS,
               .beta = betas,
               .scale = tip->scale,
               .bar = images ? INFINITY : SAME};
    size_t right[ALPHAS][BETAS] = {{0}}, best = 0;
    uint32_t *rows = reco_scratch(ctx, MOST_ASKED, sizeof *rows, "rows");
    float *x = reco_scratch(ctx, IMAGES * d, sizeof *x, "rows");
    if (!rows || !x) RECO_GO(RECO_E_NOMEM);
    RECO_GO(prepare_scores(ctx, &a));
    if (!images) n = list_rows(cache, rows);
    if (n == 0) RECO_GO(reco_fail(ctx, RECO_E_ARG, "Tip-Adapter: no pictures to choose alpha and beta by"));
    for (size_t i = 0; images && i < n; i++)
        if (labels[i] >= c)
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "eval: label %u, want below %zu", labels[i], c));
    for (size_t i = 0; i < n; i += a.some) {
        size_t m = reco_min(a.some, n - i);
        for (size_t q = 0; q < m && !images; q++)
            memcpy(x + q * d, cache->images + rows[i + q] * d, d * sizeof *x);
        RECO_GO(score_pictures(ctx, &a, images ? images + i * d : x, m));
        for (size_t q = 0; q < m; q++)
            for (size_t s = 0; s < ALPHAS; s++)
                for (size_t b = 0; b < BETAS; b++)
                    right[s][b] +=
                        is_right(&a, q, m, b, alphas[s], images ? labels[i + q] : cache->of[rows[i + q]]);
    }
    for (size_t s = 0; s < ALPHAS; s++)
        for (size_t b = 0; b < BETAS; b++)
            if (right[s][b] > best || (s == 0 && b == 0)) {
                best = right[s][b];
                tip->alpha = alphas[s];
                tip->beta = betas[b];
            }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
