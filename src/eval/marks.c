#include "eval/marks.h"
#include "kernels/kernels.h"

#include <math.h>

reco_status reco_marks_begin(reco_ctx *ctx, reco_marks *m, int64_t *top, const uint32_t *labels, size_t n,
                             size_t c)
{
    *m = (reco_marks){.labels = labels, .top = top, .n = n, .c = c};
    for (size_t i = 0; i < n; i++)
        if (labels[i] >= c)
            return reco_fail(ctx, RECO_E_ARG, "eval: label %u, want below %zu", labels[i], c);
    m->hits = reco_scratch(ctx, 2 * c, sizeof *m->hits, "classes");
    if (!top) m->top = reco_scratch(ctx, n * RECO_TOP, sizeof *m->top, "predictions");
    if (!m->hits || !m->top) return RECO_E_NOMEM;
    m->seen = m->hits + c;
    memset(m->hits, 0, 2 * c * sizeof *m->hits);
    for (size_t i = 0; i < n * RECO_TOP; i++) m->top[i] = -1;
    return RECO_OK;
}

void reco_marks_rank(reco_marks *m, size_t i, const float *p)
{
    float best[RECO_TOP];
    size_t count = 0;
    for (size_t j = 0; j < m->c; j++)
        reco_topk_offer(best, m->top + i * RECO_TOP, &count, RECO_TOP, p[j], (int64_t)j);
}

void reco_marks_count(reco_marks *m, const int64_t *top, uint32_t label, float sure)
{
    bool right = top[0] == (int64_t)label;
    m->first += right;
    m->hits[label] += right;
    m->seen[label]++;
    for (int j = 0; j < RECO_TOP; j++) m->five += top[j] == (int64_t)label;
    if (isnan(sure)) return;
    size_t bin = reco_min(RECO_BINS - 1, (size_t)(sure * RECO_BINS));
    m->probable = true;
    m->sure[bin] += (double)sure;
    m->right[bin] += right;
}

void reco_marks_end(const reco_marks *m, reco_class_scores *scores)
{
    double sum = 0, off = 0,
           all = m->n ? (double)m->n : (double)NAN; /* nothing can be said of no pictures */
    size_t classes = 0;
    for (size_t j = 0; j < m->c; j++) {
        if (!m->seen[j]) continue;
        sum += (double)m->hits[j] / m->seen[j];
        classes++;
    }
    for (int b = 0; b < RECO_BINS; b++) off += fabs(m->sure[b] - (double)m->right[b]);
    *scores = (reco_class_scores){.n = m->n,
                                  .acc1 = (double)m->first / all,
                                  .acc5 = (double)m->five / all,
                                  .mean_per_class = classes ? sum / (double)classes : all,
                                  .calibration = m->probable ? off / all : (double)NAN};
}

reco_status reco_eval_count(reco_ctx *ctx, reco_class_scores *scores, const int64_t *top, const float *sure,
                            const uint32_t *labels, const size_t *which, size_t m, size_t c)
{
    reco_marks marks = {.n = m, .c = c};
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    marks.hits = reco_scratch(ctx, 2 * c, sizeof *marks.hits, "classes");
    if (!marks.hits) RECO_GO(RECO_E_NOMEM);
    marks.seen = marks.hits + c;
    memset(marks.hits, 0, 2 * c * sizeof *marks.hits);
    for (size_t i = 0; i < m; i++) {
        size_t at = which ? which[i] : i;
        if (labels[at] >= c)
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "eval: label %u, want below %zu", labels[at], c));
        reco_marks_count(&marks, top + at * RECO_TOP, labels[at], sure ? sure[at * RECO_TOP] : NAN);
    }
    reco_marks_end(&marks, scores);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
