#include "pipeline/pipeline_internal.h"

#include <math.h>

#define CHUNK 1024   /* rows compared at a time */
#define MOST 0.9995f /* what the same picture may come to twice, since rows are rounded to halves */

/* Near-duplicates: a picture is one when its cosine to a picture that is there reaches the threshold. What is committed
 * is searched as any query is; what is not yet is kept here as the bank will store it, so that an interrupted run and
 * its continuation decide alike. */
struct reco_dedup {
    char *path;
    reco_bank *bank;
    float least, slack;
    size_t d, n, room;
    float *recent; /* [room][d], n of them in use */
};

reco_status reco_dedup_check(reco_ctx *ctx, float least)
{
    if (least == 0 || (least > 0 && least <= 1)) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "dedup = %g, want a cosine above 0 and at most 1", (double)least);
}

reco_status reco_dedup_open(reco_ctx *ctx, reco_dedup **out, const char *bank, size_t d, float least)
{
    *out = NULL;
    reco_dedup *dd = reco_alloc(ctx, 1, sizeof *dd, "near-duplicates");
    if (!dd) return RECO_E_NOMEM;
    dd->least = fminf(least, MOST);
    dd->slack = 1.03f * (float)(d + 4) * 0x1p-24f; /* of a product in f32, as in the search */
    dd->d = d;
    reco_status status = RECO_E_NOMEM;
    if ((dd->path = reco_strdup(ctx, bank))) status = reco_bank_open(ctx, &dd->bank, bank);
    if (status == RECO_OK)
        *out = dd;
    else
        reco_dedup_close(dd);
    return status;
}

void reco_dedup_close(reco_dedup *dd)
{
    if (!dd) return;
    reco_bank_close(dd->bank);
    reco_free(dd->recent);
    reco_free(dd->path);
    reco_free(dd);
}

reco_status reco_dedup_committed(reco_ctx *ctx, reco_dedup *dd)
{
    reco_bank_close(dd->bank);
    dd->bank = NULL;
    dd->n = 0;
    return reco_bank_open(ctx, &dd->bank, dd->path);
}

static reco_status reserve_rows(reco_ctx *ctx, reco_dedup *dd, size_t more)
{
    if (dd->n + more <= dd->room) return RECO_OK;
    size_t room = reco_max(2 * dd->room, dd->n + more), count;
    if (!reco_mul(room, dd->d, &count)) return reco_fail_nomem(ctx, SIZE_MAX, "near-duplicates");
    float *grown = reco_alloc(ctx, count, sizeof *grown, "near-duplicates");
    if (!grown) return RECO_E_NOMEM;
    if (dd->n) memcpy(grown, dd->recent, dd->n * dd->d * sizeof *grown);
    reco_free(dd->recent);
    dd->recent = grown;
    dd->room = room;
    return RECO_OK;
}

/* As appending does it: unit norm in f32, then f16. */
static void store_rounded(float *to, const float *row, size_t d)
{
    float scale = (float)(1 / sqrt(reco_dot(row, row, d)));
    for (size_t i = 0; i < d; i++) to[i] = reco_f16_to_f32(reco_f32_to_f16(row[i] * scale));
}

static bool near(const reco_dedup *dd, float rough, const float *a, const float *b)
{
    return rough >= dd->least - dd->slack && (float)reco_dot(a, b, dd->d) >= dd->least;
}

/* Against `m` rows that are there. */
static reco_status compare_rows(reco_ctx *ctx, const reco_dedup *dd, const float *rows, size_t n,
                                const float *there, size_t m, float *scores, unsigned char *twice)
{
    size_t d = dd->d;
    RECO_TRY(reco_gemm(ctx, scores, CHUNK, rows, d, false, there, d, true, n, m, d, 1.0f, 0.0f));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m && !twice[i]; j++)
            twice[i] = near(dd, scores[i * CHUNK + j], rows + i * d, there + j * d);
    return RECO_OK;
}

static reco_status chunk(reco_ctx *ctx, reco_dedup *dd, const float *rows, size_t n, float *scores,
                         unsigned char *twice)
{
    size_t d = dd->d;
    int64_t ids[CHUNK];
    float best[CHUNK];
    size_t counts[CHUNK];
    reco_search_opts opts = {.k = 1, .min_similarity = dd->least, .recall = 1};
    RECO_TRY(reco_bank_search(ctx, dd->bank, RECO_IMAGE, rows, n, &opts,
                              &(reco_hits){.ids = ids, .scores = best, .counts = counts}));
    for (size_t i = 0; i < n; i++) twice[i] = counts[i] > 0;
    for (size_t j = 0; j < dd->n; j += CHUNK)
        RECO_TRY(
            compare_rows(ctx, dd, rows, n, dd->recent + j * d, reco_min(CHUNK, dd->n - j), scores, twice));
    /* Among themselves: the first of them stays. */
    RECO_TRY(reserve_rows(ctx, dd, n));
    float *own = dd->recent + dd->n * d;
    size_t kept = 0, at[CHUNK];
    for (size_t i = 0; i < n; i++) store_rounded(own + i * d, rows + i * d, d);
    RECO_TRY(reco_gemm(ctx, scores, CHUNK, rows, d, false, own, d, true, n, n, d, 1.0f, 0.0f));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < kept && !twice[i]; j++)
            twice[i] = near(dd, scores[i * CHUNK + at[j]], rows + i * d, own + j * d);
        if (twice[i]) continue;
        if (kept != i) memcpy(own + kept * d, own + i * d, d * sizeof *own);
        at[kept++] = i;
    }
    dd->n += kept;
    return RECO_OK;
}

reco_status reco_dedup_drop(reco_ctx *ctx, reco_dedup *dd, float *image, float *text, reco_pair *pairs,
                            size_t *n, uint64_t *dropped)
{
    if (!dd || *n == 0) return RECO_OK;
    reco_status status = RECO_OK;
    size_t d = dd->d, kept = 0;
    reco_mark mark = reco_scratch_mark(ctx);
    float *scores = reco_scratch(ctx, (size_t)CHUNK * CHUNK, sizeof *scores, "near-duplicates");
    unsigned char *twice = reco_scratch(ctx, *n, 1, "near-duplicates");
    if (!scores || !twice) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < *n; i += CHUNK)
        RECO_GO(chunk(ctx, dd, image + i * d, reco_min(CHUNK, *n - i), scores, twice + i));
    for (size_t i = 0; i < *n; i++) {
        if (twice[i]) continue;
        if (kept != i) {
            memcpy(image + kept * d, image + i * d, d * sizeof *image);
            memcpy(text + kept * d, text + i * d, d * sizeof *text);
            pairs[kept] = pairs[i];
        }
        kept++;
    }
    *dropped += *n - kept;
    *n = kept;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
