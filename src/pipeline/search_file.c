#include "pipeline/pipeline_internal.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

#define BLOCK_FLOATS ((size_t)4 << 20) /* of queries at a time, */
#define BLOCK_LEAST 1024    /* or so many rows: fewer would read the bank once more for nothing */
#define NORM_TOLERANCE 1e-3 /* of the search */

typedef struct search {
    const reco_memory *memory;
    reco_side side;
    reco_find_opts find;
    const reco_search_file_opts *opts;
    reco_search_result *result;
    size_t d, k;
    float *rows, *scores; /* [block][d], [block][k] */
    int64_t *ids;         /* [block][k] */
    size_t *good;         /* [block] row of each query that is searched */
} search;

/* Rows that can be searched for move to the front. */
static size_t keep_good(search *s, size_t from, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        float *row = s->rows + i * s->d;
        double norm = sqrt(reco_dot(row, row, s->d));
        bool unit = fabs(norm - 1) <= NORM_TOLERANCE;
        if (!unit && !reco_unit_row(row, s->d)) {
            char item[64];
            snprintf(item, sizeof item, "query %zu", from + i);
            s->result->failures++;
            if (s->opts->failure) s->opts->failure(s->opts->user, from + i, item, "is zero or not finite");
            continue;
        }
        s->result->normalised += !unit;
        if (kept != i) memcpy(s->rows + kept * s->d, row, s->d * sizeof *row);
        s->good[kept++] = i;
    }
    return kept;
}

/* Hits of the rows kept back to where their queries were, from the last on. */
static void spread_hits(search *s, size_t kept, size_t n)
{
    size_t k = s->k;
    for (size_t i = n; i-- > 0;) {
        bool found = kept > 0 && s->good[kept - 1] == i;
        if (found && --kept == i) continue;
        if (found) memcpy(s->ids + i * k, s->ids + kept * k, k * sizeof *s->ids);
        if (found) memcpy(s->scores + i * k, s->scores + kept * k, k * sizeof *s->scores);
        for (size_t j = 0; !found && j < k; j++) {
            s->ids[i * k + j] = -1;
            s->scores[i * k + j] = 0;
        }
    }
}

static reco_status search_block(reco_ctx *ctx, search *s, const reco_npy *npy, size_t from, size_t n)
{
    RECO_TRY(reco_npy_rows(ctx, npy, from, n, s->rows));
    size_t kept = keep_good(s, from, n);
    double start = reco_now();
    reco_question question = {.side = s->side, .x = s->rows, .n = kept};
    if (kept)
        RECO_TRY(reco_ask(ctx, s->memory, &question, &s->find,
                          &(reco_answer){.ids = s->ids, .scores = s->scores}));
    s->result->seconds += reco_now() - start;
    spread_hits(s, kept, n);
    return RECO_OK;
}

/* The ids of an earlier search go before its scores do, and those of this one come after its scores: where there are
 * ids, the scores beside them are theirs, whenever this process ends. */
static reco_status forget(reco_ctx *ctx, const char *ids, const char *dir)
{
    if (unlink(ids) == 0) return reco_sync_dir(ctx, dir);
    return errno == ENOENT ? RECO_OK : reco_fail_errno(ctx, RECO_E_IO, "%s", ids);
}

reco_status reco_search_file(reco_ctx *ctx, const reco_memory *memory, reco_side side, const char *queries,
                             const char *out, const reco_search_file_opts *opts, reco_search_result *result)
{
    *result = (reco_search_result){0};
    RECO_TRY(reco_reserved(ctx, "search", opts->reserved));
    RECO_TRY(reco_reserved(ctx, "search", opts->find.reserved));
    reco_npy npy = {0};
    reco_npy_writer *ids = NULL, *scores = NULL;
    char *ids_path = NULL, *scores_path = NULL;
    search s = {.memory = memory, .side = side, .find = opts->find, .opts = opts, .result = result};
    if (s.find.k == 0) s.find.k = 10;
    s.k = s.find.k;
    s.d = reco_bank_get_info(memory->bank)->d;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_OK;
    if (s.k > RECO_BANK_MAX_K)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", s.k, RECO_BANK_MAX_K));
    RECO_GO(reco_check_embeddings(ctx, queries, opts->encoder, memory->bank, memory->fusion));
    RECO_GO(reco_npy_open(ctx, &npy, queries));
    if (npy.dtype != RECO_DTYPE_F16 && npy.dtype != RECO_DTYPE_F32 && npy.dtype != RECO_DTYPE_F64)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: dtype is %s, want F16, F32 or F64", queries,
                          reco_dtype_name(npy.dtype)));
    if (npy.cols != s.d)
        RECO_GO(reco_fail(ctx, RECO_E_MISMATCH, "%s: rows have %zu columns, the bank's have %zu", queries,
                          npy.cols, s.d));
    size_t room = reco_min(reco_max(BLOCK_LEAST, BLOCK_FLOATS / s.d), reco_max(1, npy.rows));
    s.rows = reco_scratch(ctx, room * s.d, sizeof *s.rows, "queries");
    s.ids = reco_scratch(ctx, room * s.k, sizeof *s.ids, "hits");
    s.scores = reco_scratch(ctx, room * s.k, sizeof *s.scores, "hits");
    s.good = reco_scratch(ctx, room, sizeof *s.good, "queries");
    if (!s.rows || !s.ids || !s.scores || !s.good) RECO_GO(RECO_E_NOMEM);
    ids_path = reco_path_join(ctx, out, "ids.npy");
    scores_path = reco_path_join(ctx, out, "scores.npy");
    if (!ids_path || !scores_path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_check_output(ctx, ids_path, RECO_OUT_FILE | RECO_OUT_NO_PROBE, &queries, 1));
    RECO_GO(reco_check_output(ctx, scores_path, RECO_OUT_FILE | RECO_OUT_NO_PROBE, &queries, 1));
    RECO_GO(reco_mkdirs(ctx, out));
    RECO_GO(reco_npy_begin(ctx, &ids, ids_path, RECO_DTYPE_I64, s.k));
    RECO_GO(reco_npy_begin(ctx, &scores, scores_path, RECO_DTYPE_F32, s.k));
    result->queries = npy.rows;
    for (size_t i = 0; i < npy.rows; i += room) {
        size_t n = reco_min(room, npy.rows - i);
        RECO_GO(search_block(ctx, &s, &npy, i, n));
        RECO_GO(reco_npy_append(ctx, ids, s.ids, n));
        RECO_GO(reco_npy_append(ctx, scores, s.scores, n));
        RECO_GO(reco_progress(ctx, "searching", i + n, npy.rows));
    }
    RECO_GO(forget(ctx, ids_path, out));
    reco_npy_writer *last = scores;
    scores = NULL;
    RECO_GO(reco_npy_commit(ctx, last));
    last = ids;
    ids = NULL;
    status = reco_npy_commit(ctx, last);
out:
    if (ids) reco_npy_abort(ids);
    if (scores) reco_npy_abort(scores);
    reco_free(ids_path);
    reco_free(scores_path);
    reco_npy_close(&npy);
    reco_scratch_release(ctx, mark);
    return status;
}
