#include "bank/segment/lists.h"
#include "kernels/scan.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#define NEARLY_ALL 0.9
#define UNEVEN 2 /* times the variance of chance */

const size_t reco_lists_depths[RECO_LISTS_DEPTHS] = {10, 14, 20, 28, 40, 63, 100};
const float reco_lists_recalls[RECO_LISTS_POINTS] = {0.5f,   0.6f,   0.7f,   0.8f,   0.85f,  0.9f,
                                                     0.925f, 0.95f,  0.97f,  0.98f,  0.985f, 0.99f,
                                                     0.995f, 0.998f, 0.999f, 0.9995f};

static const char *const sides[] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text"};

char *reco_lists_path(reco_ctx *ctx, const char *dir)
{
    return reco_format(ctx, "%s/vectors/" RECO_LISTS_NAME, dir);
}

/* ---- reading ---- */

typedef struct reading {
    reco_ctx *ctx;
    const reco_safetensors *file;
    const char *side;
} reading;

/* Tensor SIDE.NAME, of a shape whose zeros stand for any number; its own shape in *got where that is not NULL. */
static reco_status need(const reading *r, const char *name, reco_dtype dtype, size_t rank,
                        const size_t *shape, const void *out, size_t *got)
{
    char full[64];
    const reco_tensor *t;
    snprintf(full, sizeof full, "%s%s%s", r->side ? r->side : "", r->side ? "." : "", name);
    reco_status status = reco_safetensors_need(r->ctx, r->file, &t, full, (int)rank, shape);
    if (status != RECO_OK) return status == RECO_E_NOTFOUND ? RECO_E_FORMAT : status;
    if (t->dtype_name || t->dtype != dtype || (uintptr_t)t->data % reco_min(4, reco_dtype_size(dtype)) != 0)
        return reco_fail(r->ctx, RECO_E_FORMAT, "%s: tensor %s is not aligned %s",
                         reco_safetensors_path(r->file), full, reco_dtype_name(dtype));
    memcpy((void *)(uintptr_t)out, &t->data, sizeof t->data);
    if (got) *got = t->shape[0];
    return RECO_OK;
}

static reco_status bad(const reading *r, const char *what)
{
    return reco_fail(r->ctx, RECO_E_FORMAT, "%s: %s.%s", reco_safetensors_path(r->file), r->side, what);
}

static reco_status read_side(const reading *r, reco_lists_side *s, size_t rows, size_t d)
{
    size_t width = reco_scan_width(d), groups = 0;
    RECO_TRY(need(r, "centroid", RECO_DTYPE_F16, 2, (const size_t[]){0, d}, &s->centroids, &s->ncells));
    if (s->ncells == 0 || s->ncells > reco_max(1, rows))
        return bad(r, "centroid: want 1 cell to one a row");
    size_t cells = s->ncells, cell_groups = (cells + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
    const size_t code[] = {cell_groups, width / 4, RECO_SCAN_GROUP, 4},
                 bound[] = {cell_groups, 3, RECO_SCAN_GROUP};
    RECO_TRY(need(r, "centroid.code", RECO_DTYPE_U8, 4, code, &s->codes, NULL));
    RECO_TRY(need(r, "centroid.bound", RECO_DTYPE_F32, 3, bound, &s->bounds, NULL));
    RECO_TRY(need(r, "mean", RECO_DTYPE_F32, 1, (const size_t[]){d}, &s->mean, NULL));
    RECO_TRY(need(r, "length", RECO_DTYPE_F32, 1, &cells, &s->length, NULL));
    RECO_TRY(need(r, "size", RECO_DTYPE_I32, 1, &cells, &s->size, NULL));
    RECO_TRY(need(r, "cell", RECO_DTYPE_I32, 1, &rows, &s->cell, NULL));
    size_t left = rows;
    for (size_t c = 0; c < cells; c++) {
        if (s->size[c] < 0 || (size_t)s->size[c] > left)
            return bad(r, "size: want sizes whose sum is the number of rows");
        left -= (size_t)s->size[c];
        groups += ((size_t)s->size[c] + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
        if (!isfinite(s->length[c])) return bad(r, "length is not finite");
    }
    if (left) return bad(r, "size: want sizes whose sum is the number of rows");
    for (size_t i = 0; i < d; i++)
        if (!isfinite(s->mean[i])) return bad(r, "mean is not finite");
    const size_t row_code[] = {groups, width / 4, RECO_SCAN_GROUP, 4},
                 row_bound[] = {groups, 3, RECO_SCAN_GROUP}, order[] = {groups, RECO_SCAN_GROUP},
                 points[] = {2, RECO_LISTS_DEPTHS, RECO_LISTS_POINTS, 4};
    RECO_TRY(need(r, "code", RECO_DTYPE_U8, 4, row_code, &s->row_codes, NULL));
    RECO_TRY(need(r, "bound", RECO_DTYPE_F32, 3, row_bound, &s->row_bounds, NULL));
    RECO_TRY(need(r, "row", RECO_DTYPE_I32, 2, order, &s->order, NULL));
    RECO_TRY(need(r, "recall", RECO_DTYPE_F32, 4, points, &s->points, NULL));
    for (size_t i = 0; i < 2 * RECO_LISTS_DEPTHS * RECO_LISTS_POINTS; i++)
        if (!(s->points[i].recall >= 0 && s->points[i].recall <= 1 && s->points[i].margin >= 0 &&
              s->points[i].margin <= 4))
            return bad(r, "recall: want shares of 0 to 1 and margins of 0 to 4");
    return RECO_OK;
}

/* Which of the bank's segments are listed as they are. *same: all that are listed, and a row's position is the row. */
static reco_status match(const reading *r, reco_lists *lists, const reco_segment_entry *entries,
                         reco_segment *segments, size_t n, bool *same)
{
    size_t listed, row = 0;
    const uint8_t *numbers = NULL, *sums = NULL;
    RECO_TRY(need(r, "segment", RECO_DTYPE_I64, 2, (const size_t[]){0, 2}, &numbers, &listed));
    RECO_TRY(need(r, "segment.xxh3", RECO_DTYPE_U8, 2, (const size_t[]){listed, 32}, &sums, NULL));
    *same = true;
    for (size_t i = 0; i < n; i++) segments[i].listed = 0;
    for (size_t l = 0; l < listed; l++) {
        int64_t entry[2];
        memcpy(entry, numbers + l * sizeof entry, sizeof entry);
        if (entry[1] < 1 || (uint64_t)entry[1] > lists->rows - row)
            return reco_fail(r->ctx, RECO_E_FORMAT, "%s: segment: want rows whose sum is %zu",
                             reco_safetensors_path(r->file), lists->rows);
        size_t i = 0,
               rows =
                   (size_t)entry[1]; /* segments are few; they are in order but where one was rewritten */
        if (l < n && entries[l].number == entry[0]) i = l;
        while (i < n && entries[i].number != entry[0]) i++;
        bool is_there = i < n && segments[i].rows == rows && !segments[i].listed &&
                        memcmp(entries[i].xxh3, sums + 32 * l, 32) == 0;
        if (is_there) segments[i].listed = row + 1;
        *same &= is_there && segments[i].base == row;
        row += rows;
    }
    if (row == lists->rows) return RECO_OK;
    return reco_fail(r->ctx, RECO_E_FORMAT, "%s: segment: want rows whose sum is %zu",
                     reco_safetensors_path(r->file), lists->rows);
}

static reco_status make_sources(reco_ctx *ctx, reco_lists *lists, int side, size_t d,
                                const uint32_t *places)
{
    reco_lists_side *s = &lists->side[side];
    size_t group = RECO_SCAN_GROUP * reco_scan_width(d), at = 0, groups = 0;
    for (size_t c = 0; c < s->ncells; c++)
        groups += ((size_t)s->size[c] + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
    s->sources = reco_alloc(ctx, s->ncells, sizeof *s->sources, "lists");
    s->live = reco_alloc(ctx, s->ncells, sizeof *s->live, "lists");
    if (!s->sources || !s->live) return RECO_E_NOMEM;
    const uint32_t *positions =
        (const uint32_t *)s->order; /* -1 is UINT32_MAX; a scan looks at no other that is not there */
    if (places) {
        uint32_t *own = lists->positions[side] =
            reco_alloc(ctx, groups * RECO_SCAN_GROUP, sizeof *own, "lists");
        if (!own) return RECO_E_NOMEM;
        for (size_t i = 0; i < groups * RECO_SCAN_GROUP; i++)
            own[i] =
                s->order[i] >= 0 && (size_t)s->order[i] < lists->rows ? places[s->order[i]] : UINT32_MAX;
        positions = own;
    }
    for (size_t c = 0; c < s->ncells; c++) {
        s->sources[c] = (reco_scan_source){.codes = s->row_codes + at * group,
                                           .bounds = s->row_bounds + at * RECO_SCAN_BOUNDS,
                                           .positions = positions + at * RECO_SCAN_GROUP,
                                           .rows = (size_t)s->size[c]};
        at += ((size_t)s->size[c] + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
    }
    return RECO_OK;
}

void reco_lists_count(const reco_lists *lists, reco_side side, const reco_segment *segments, size_t n,
                      const uint64_t *bits, uint32_t *counts)
{
    const reco_lists_side *l = &lists->side[side];
    for (size_t i = 0; i < n; i++) {
        const reco_segment *s = &segments[i];
        if (!s->listed) continue;
        for (size_t p = s->base, end = s->base + s->rows; p < end;) {
            uint64_t word = bits[p / 64] >> p % 64;
            size_t span = reco_min(64 - p % 64, end - p);
            for (; word; word &= word - 1) {
                size_t j = (size_t)__builtin_ctzll(word);
                if (j >= span) break;
                int32_t cell = l->cell[s->listed - 1 + (p + j - s->base)];
                if (cell >= 0 && (size_t)cell < l->ncells) counts[cell]++;
            }
            p += span;
        }
    }
}

bool reco_lists_even(const reco_lists *lists, reco_side side, const uint32_t *counts, size_t all)
{
    const reco_lists_side *s = &lists->side[side];
    double share = (double)all / (double)lists->rows, sum = 0, cells = 0;
    if (share > NEARLY_ALL) return true;
    for (size_t c = 0; c < s->ncells; c++) {
        if (!s->size[c]) continue;
        double expected = share * s->size[c], off = (double)counts[c] - expected;
        sum += off * off / (expected * (1 - share) + 1e-30);
        cells++;
    }
    return sum <= UNEVEN * cells;
}

/* Rows of each cell that can be found. */
static void count_live(reco_lists *lists, const reco_segment *segments, size_t n, bool same,
                       const uint64_t *deleted, uint32_t *counts)
{
    size_t listed = 0, gone = 0;
    for (size_t i = 0; i < n; i++) {
        if (segments[i].listed) listed += segments[i].rows;
        for (size_t p = segments[i].base;
             deleted && segments[i].listed && p < segments[i].base + segments[i].rows; p++)
            gone += deleted[p / 64] >> p % 64 & 1;
    }
    lists->found = listed - gone;
    for (int side = 0; side < 2; side++) {
        reco_lists_side *s = &lists->side[side];
        if (same)
            for (size_t c = 0; c < s->ncells; c++) s->live[c] = (uint32_t)s->size[c];
        else
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; segments[i].listed && j < segments[i].rows; j++) {
                    int32_t cell = s->cell[segments[i].listed - 1 + j];
                    if (cell >= 0 && (size_t)cell < s->ncells) s->live[cell]++;
                }
        if (!gone) continue;
        memset(counts, 0, s->ncells * sizeof *counts);
        reco_lists_count(lists, (reco_side)side, segments, n, deleted, counts);
        for (size_t c = 0; c < s->ncells; c++) s->live[c] -= (uint32_t)reco_min(s->live[c], counts[c]);
    }
    for (int side = 0; side < 2; side++)
        lists->side[side].even =
            reco_lists_even(lists, (reco_side)side, lists->side[side].live, lists->found);
}

static reco_status open_file(reco_ctx *ctx, reco_lists *lists, const char *path,
                             const reco_segment_entry *entries, reco_segment *segments, size_t n, size_t d,
                             const uint64_t *deleted)
{
    const float *asked = NULL;
    uint32_t *places = NULL;
    bool same;
    reco_status status;
    RECO_TRY(reco_safetensors_open(ctx, &lists->file, path));
    const char *format = reco_safetensors_meta(lists->file, "format");
    if (!format || strcmp(format, RECO_LISTS_FORMAT) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: is not of format " RECO_LISTS_FORMAT, path);
    reading r = {ctx, lists->file, NULL};
    const int32_t *cell;
    RECO_TRY(need(&r, "asked", RECO_DTYPE_F32, 1, (const size_t[]){2}, &asked, NULL));
    r.side = sides[0];
    RECO_TRY(need(&r, "cell", RECO_DTYPE_I32, 1, (const size_t[]){0}, &cell, &lists->rows));
    for (int side = 0; side < 2; side++) {
        r.side = sides[side];
        RECO_TRY(read_side(&r, &lists->side[side], lists->rows, d));
    }
    lists->recall = asked[0];
    if (!(asked[0] > 0 && asked[0] <= 1 && asked[1] >= 0 && asked[1] <= 1))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: asked is %g, %g, want shares of 0 to 1", path,
                         (double)asked[0], (double)asked[1]);
    lists->measured = (size_t)((double)asked[1] * (double)lists->rows);
    r.side = NULL;
    uint32_t *counts =
        reco_alloc(ctx, reco_max(lists->side[0].ncells, lists->side[1].ncells), sizeof *counts, "lists");
    if (!counts) return RECO_E_NOMEM;
    RECO_GO(match(&r, lists, entries, segments, n, &same));
    if (!same) {
        places = reco_alloc(ctx, lists->rows, sizeof *places, "lists");
        if (!places) RECO_GO(RECO_E_NOMEM);
        memset(places, 0xff, lists->rows * sizeof *places);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; segments[i].listed && j < segments[i].rows; j++)
                places[segments[i].listed - 1 + j] = (uint32_t)(segments[i].base + j);
    }
    for (int side = 0; side < 2; side++) RECO_GO(make_sources(ctx, lists, side, d, places));
    count_live(lists, segments, n, same, deleted, counts);
out:
    reco_free(counts);
    reco_free(places);
    return status;
}

reco_status reco_lists_open(reco_ctx *ctx, reco_lists **out, const char *dir,
                            const reco_segment_entry *entries, reco_segment *segments, size_t n, size_t d,
                            const uint64_t *deleted)
{
    struct stat info;
    *out = NULL;
    reco_status status = RECO_OK;
    reco_lists *lists = NULL;
    char *path = reco_lists_path(ctx, dir);
    if (!path) return RECO_E_NOMEM;
    if (stat(path, &info) != 0 && errno == ENOENT) goto out;
    lists = reco_alloc(ctx, 1, sizeof *lists, "lists");
    if (!lists) RECO_GO(RECO_E_NOMEM);
    status = open_file(ctx, lists, path, entries, segments, n, d, deleted);
    if (status == RECO_OK && lists->found) {
        *out = lists;
        lists = NULL;
        goto out;
    }
    for (size_t i = 0; i < n; i++) segments[i].listed = 0;
    if (status != RECO_OK && status != RECO_E_NOMEM) status = RECO_E_FORMAT;
out:
    reco_lists_close(lists);
    reco_free(path);
    return status;
}

void reco_lists_close(reco_lists *lists)
{
    if (!lists) return;
    for (int side = 0; side < 2; side++) {
        reco_free(lists->side[side].sources);
        reco_free(lists->side[side].live);
        reco_free(lists->positions[side]);
    }
    reco_safetensors_close(lists->file);
    reco_free(lists);
}
