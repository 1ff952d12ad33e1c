#include "bank/write/cells.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

#define SAMPLE 48       /* rows of each cell that centroids are trained on, */
#define LEAST_SAMPLE 16 /* or fewer, for these bytes of vectors at most: */
#define SAMPLE_BYTES ((size_t)1 << 30)
#define QUERIES 4096                    /* rows that ask when recall is measured, at least; */
#define MOST_QUERIES 16384              /* where rows are few, more, that meet */
#define PAIRS ((size_t)1 << 32)         /* so many rows in all; */
#define QUERY_SHARE 2                   /* one in so many rows at most */
#define ASKED_BYTES ((size_t)256 << 20) /* of vectors that all of them ask of at once */
#define CELL_ROWS 64                    /* of a cell at least, by `auto` */
#define SLICE 65536                     /* rows between two looks at the progress hook */
#define DEFAULT_RECALL 0.99f

/* Cells for so many rows: looking for the nearest of them takes about as long as looking at their rows. */
static size_t cells_for(size_t rows)
{
    size_t cells = (size_t)(4 * sqrt((double)rows));
    return reco_max(1, reco_min(cells, rows / CELL_ROWS) / RECO_SCAN_GROUP * RECO_SCAN_GROUP);
}

typedef struct picked {
    size_t *asking, *sample; /* positions, ascending */
    size_t nasking, nsample;
} picked;

/* n live rows evenly over the bank, each from a place of its own by chance, none of them among others. */
static size_t pick(const reco_bank *bank, size_t *out, size_t n, uint64_t seed, const size_t *others,
                   size_t nothers)
{
    reco_rng rng;
    size_t got = 0, other = 0;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        size_t from = (size_t)((double)bank->positions * (double)i / (double)n),
               to = (size_t)((double)bank->positions * (double)(i + 1) / (double)n),
               p = from + reco_rng_below(&rng, reco_max(1, to - from));
        while (other < nothers && others[other] < p) other++;
        if (p >= bank->positions || reco_bank_is_deleted(bank, p) ||
            (other < nothers && others[other] == p))
            continue;
        out[got++] = p;
    }
    return got;
}

static reco_status pick_rows(reco_ctx *ctx, const reco_bank *bank, size_t cells, picked *p)
{
    size_t n = bank->positions;
    p->nasking = reco_max(
        1, reco_min(n / QUERY_SHARE, reco_max(QUERIES, reco_min(MOST_QUERIES, PAIRS / reco_max(1, n)))));
    size_t room = SAMPLE_BYTES / (bank->info.d * sizeof(uint16_t));
    p->nsample = reco_min(n, cells * reco_max(LEAST_SAMPLE, reco_min(SAMPLE, room / cells)));
    p->asking = reco_scratch(ctx, p->nasking, sizeof *p->asking, "lists");
    p->sample = reco_scratch(ctx, p->nsample, sizeof *p->sample, "lists");
    if (!p->asking || !p->sample) return RECO_E_NOMEM;
    p->nasking = pick(bank, p->asking, p->nasking, 1, NULL, 0);
    p->nsample = pick(bank, p->sample, p->nsample, 2, p->asking, p->nasking);
    if (p->nasking && p->nsample >= cells) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "lists: %zu cells need more than the %lld live rows", cells,
                     (long long)bank->info.rows);
}

/* Every row into its cell. */
static reco_status assign(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side)
{
    reco_mark mark = reco_scratch_mark(ctx);
    float *scores = reco_scratch(ctx, SLICE, sizeof *scores, "lists");
    double *sums = reco_scratch(ctx, m->ncells, sizeof *sums, "lists");
    reco_status status = scores && sums ? RECO_OK : RECO_E_NOMEM;
    const reco_cells cells = reco_cells_of(m);
    if (status == RECO_OK) memset(sums, 0, m->ncells * sizeof *sums);
    for (size_t p = 0; status == RECO_OK && p < bank->positions; p += SLICE) {
        const reco_rows_at at = {bank, side, NULL, p};
        if (p == 0) reco_rows_fetch(bank, side, 0, SLICE);
        reco_rows_fetch(bank, side, reco_min(p + SLICE, bank->positions),
                        SLICE); /* while this one is looked at */
        const reco_scan_rows rows = {reco_rows_get, &at, reco_min(SLICE, bank->positions - p), m->d};
        status = reco_near_assign(ctx, &cells, &rows, m->cell + p, scores);
        for (size_t i = 0; status == RECO_OK && i < rows.n; i++) {
            m->size[m->cell[p + i]]++;
            sums[m->cell[p + i]] += (double)scores[i];
        }
        if (status == RECO_OK)
            status = reco_progress(
                ctx, side == RECO_IMAGE ? "sorting images into cells" : "sorting texts into cells",
                p + rows.n, bank->positions);
    }
    for (size_t c = 0; status == RECO_OK && c < m->ncells; c++)
        m->length[c] = m->size[c] && isfinite(sums[c]) ? (float)(sums[c] / m->size[c]) : 0;
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status make_side(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                             size_t cells, const picked *p, const reco_cells_asked *asked)
{
    size_t d = bank->info.d, groups = (cells + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
    m->ncells = cells;
    m->d = d;
    m->centroids = reco_scratch(ctx, cells, d * sizeof *m->centroids, "lists");
    m->codes = reco_scratch(ctx, groups, RECO_SCAN_GROUP * reco_scan_width(d), "lists");
    m->bounds = reco_scratch(ctx, groups, RECO_SCAN_BOUNDS * sizeof *m->bounds, "lists");
    m->mean = reco_scratch(ctx, d, sizeof *m->mean, "lists");
    m->cell = reco_scratch(ctx, bank->positions, sizeof *m->cell, "lists");
    m->size = reco_scratch(ctx, cells, sizeof *m->size, "lists");
    m->length = reco_scratch(ctx, cells, sizeof *m->length, "lists");
    if (!m->centroids || !m->codes || !m->bounds || !m->mean || !m->cell || !m->size || !m->length)
        return RECO_E_NOMEM;
    memset(m->size, 0, cells * sizeof *m->size);
    RECO_TRY(reco_cells_train(ctx, m, bank, side, p->sample, p->nsample));
    RECO_TRY(assign(ctx, m, bank, side));
    return reco_cells_measure(ctx, m, bank, side, asked);
}

static reco_status make(reco_ctx *ctx, const reco_bank *bank, size_t cells, float recall)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_cells_made made[2] = {0};
    reco_cells_asked asked = {0};
    picked p = {0};
    reco_status status;
    reco_rows_advise(bank);
    RECO_GO(pick_rows(ctx, bank, cells, &p));
    asked.positions = p.asking;
    asked.n = p.nasking;
    RECO_GO(reco_cells_ask(ctx, &asked, bank, ASKED_BYTES));
    for (int side = 0; side < 2; side++)
        RECO_GO(make_side(ctx, &made[side], bank, (reco_side)side, cells, &p, &asked));
    reco_cells_asked_free(&asked);
    asked = (reco_cells_asked){0};
    status = reco_lists_write(ctx, bank, made, recall);
out:
    reco_cells_asked_free(&asked);
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status remove_lists(reco_ctx *ctx, const char *dir, bool *removed)
{
    char *path = reco_lists_path(ctx, dir);
    if (!path) return RECO_E_NOMEM;
    int rc = unlink(path);
    reco_status status = rc != 0 && errno != ENOENT ? reco_fail_errno(ctx, RECO_E_IO, "%s", path) : RECO_OK;
    *removed = rc == 0;
    reco_free(path);
    return status;
}

reco_status reco_bank_index_lists(reco_ctx *ctx, const char *path, const reco_lists_opts *opts,
                                  reco_lists_result *result)
{
    reco_lists_opts o = opts ? *opts : (reco_lists_opts){0};
    reco_lists_result r = {0};
    uint64_t next;
    int done;
    reco_bank_writer *w = NULL;
    reco_bank *bank = NULL;
    reco_status status;
    RECO_TRY(reco_reserved(ctx, "lists", o.reserved));
    if (o.recall == 0) o.recall = DEFAULT_RECALL;
    if (!(o.recall >= reco_lists_recalls[0] && o.recall <= 1))
        return reco_fail(ctx, RECO_E_ARG, "lists: recall = %g, want 0.5..1", (double)o.recall);
    if (reco_bank_is_server(path)) {
        RECO_GO(reco_pg_index(ctx, path, &o, &r));
        goto done;
    }
    RECO_GO(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    if (o.kind == RECO_LISTS_NONE) {
        bool removed;
        RECO_GO(remove_lists(ctx, w->dir, &removed));
        r.files = removed;
        goto done;
    }
    RECO_GO(reco_bank_index_all(ctx, w, &r.files));
    RECO_GO(reco_folder_open(ctx, &bank, w->dir));
    if (bank->positions > INT32_MAX)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: has %zu rows, want at most %d for lists", path,
                          bank->positions, INT32_MAX));
    r.cells = o.cells ? o.cells : cells_for(bank->positions);
    if (o.cells > bank->positions / 2)
        RECO_GO(reco_fail(ctx, RECO_E_ARG,
                          "lists: cells = %zu, want 1..%zu, at most half the number of rows", o.cells,
                          bank->positions / 2));
    if (!o.cells && bank->positions < RECO_SCAN_DEFAULT_ROWS) { /* looking at all is as fast */
        r.cells = 0;
        goto done;
    }
    RECO_GO(make(ctx, bank, r.cells, o.recall));
    r.files++;
done:
    if (result) *result = r;
out:
    reco_bank_close(bank);
    reco_bank_writer_close(w);
    return status;
}
