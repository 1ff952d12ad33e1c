#include "bank/write/cells.h"
#include "kernels/kernels.h"

#define CHUNK_BYTES ((size_t)3 << 29) /* of codes that are made at once */
#define SLICE 65536                   /* rows between two looks at the progress hook */

/* The order of tensors keeps all of them aligned: those whose sizes are multiples of 64 come first. */
enum {
    CODE,
    BOUND,
    CELL_CODE = 4,
    CELL_BOUND = 6,
    ROW = 8,
    MEAN = 10,
    LENGTH = 12,
    SIZE = 14,
    CELL = 16,
    RECALL = 18,
    ASKED = 20,
    SEGMENT,
    CENTROID,
    SEGMENT_SUM = 24,
    SUM,
    TENSORS
};

typedef struct writing {
    reco_file *file;
    reco_hash *hash;
    const reco_ctx *ctx;
    const reco_bank *bank;
    const reco_cells_made *made;
    reco_side side;
    size_t groups;
    uint32_t *place; /* [positions] */
    float *bounds;   /* [groups][3][16] */
    uint8_t *codes;  /* of a chunk: n groups from `first` on */
    size_t first, n;
    size_t from;      /* position */
    uint8_t *scratch; /* [threads][reco_scan_row_scratch] */
    float *means;     /* [threads][d] */
} writing;

static reco_status put(reco_ctx *ctx, writing *w, const void *data, size_t bytes)
{
    reco_hash_update(w->hash, data, bytes);
    return reco_file_write(ctx, w->file, data, bytes);
}

static size_t groups_of(const reco_cells_made *m)
{
    size_t groups = 0;
    for (size_t c = 0; c < m->ncells; c++)
        groups += ((size_t)m->size[c] + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
    return groups;
}

/* The first place of each cell, which is a group's. */
static void find_starts(const reco_cells_made *m, size_t *next)
{
    size_t at = 0;
    for (size_t c = 0; c < m->ncells; c++) {
        next[c] = at * RECO_SCAN_GROUP;
        at += ((size_t)m->size[c] + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
    }
}

/* Positions from w->from on; those whose places are not in the chunk are passed over. */
static void encode_body(void *arg, size_t begin, size_t end, int worker)
{
    writing *w = arg;
    const reco_cells_made *m = w->made;
    size_t d = m->d, group = RECO_SCAN_GROUP * reco_scan_width(d);
    float *mean = w->means + (size_t)worker * d;
    for (size_t p = w->from + begin; p < w->from + end; p++) {
        size_t g = w->place[p] / RECO_SCAN_GROUP, cell = (size_t)m->cell[p];
        if (g < w->first || g >= w->first + w->n) continue;
        reco_f16_to_f32_n(mean, m->centroids + cell * d, d);
        for (size_t j = 0; j < d; j++) mean[j] *= m->length[cell];
        const reco_rows_at at = {w->bank, w->side, NULL, p};
        reco_scan_encode_row(w->ctx, w->codes + (g - w->first) * group, w->bounds + g * RECO_SCAN_BOUNDS,
                             w->place[p] % RECO_SCAN_GROUP, reco_rows_get(&at, 0), mean, d,
                             w->scratch + (size_t)worker * reco_scan_row_scratch(d));
    }
}

/* Rows are read in the order in which they lie in the files, once for each chunk: in the order of cells each would be a wait for
 * the disk, where memory does not hold the files. */
static reco_status put_chunks(reco_ctx *ctx, writing *w, size_t chunk)
{
    size_t group = RECO_SCAN_GROUP * reco_scan_width(w->made->d), rows = w->bank->positions,
           chunks = (w->groups + chunk - 1) / chunk;
    for (size_t i = 0; i < chunks; i++) {
        w->first = i * chunk;
        w->n = reco_min(chunk, w->groups - w->first);
        memset(w->codes, 128, w->n * group);
        reco_rows_fetch(w->bank, w->side, 0, SLICE);
        for (w->from = 0; w->from < rows; w->from += SLICE) {
            reco_rows_fetch(w->bank, w->side, reco_min(rows, w->from + SLICE), SLICE);
            reco_parallel(ctx, reco_min(SLICE, rows - w->from), 256, encode_body, w);
            RECO_TRY(reco_progress(
                ctx, w->side == RECO_IMAGE ? "writing cells of images" : "writing cells of texts",
                i * rows + reco_min(rows, w->from + SLICE), chunks * rows));
        }
        RECO_TRY(put(ctx, w, w->codes, w->n * group));
    }
    return RECO_OK;
}

/* Codes and bounds of a side's rows. */
static reco_status put_rows(reco_ctx *ctx, writing *w)
{
    const reco_cells_made *m = w->made;
    size_t d = m->d, group = RECO_SCAN_GROUP * reco_scan_width(d), threads = (size_t)reco_ctx_threads(ctx);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    w->groups = groups_of(m);
    size_t chunk = reco_max(1, reco_min(CHUNK_BYTES / group, w->groups));
    w->codes = reco_alloc_raw(ctx, chunk, group, "lists"); /* scratch would keep it */
    w->place = reco_scratch(ctx, w->bank->positions, sizeof *w->place, "lists");
    w->bounds = reco_scratch(ctx, w->groups, RECO_SCAN_BOUNDS * sizeof *w->bounds, "lists");
    w->scratch = reco_scratch(ctx, threads, reco_scan_row_scratch(d), "lists");
    w->means = reco_scratch(ctx, threads, d * sizeof *w->means, "lists");
    size_t *next = reco_scratch(ctx, m->ncells, sizeof *next, "lists");
    if (!w->codes || !w->place || !w->bounds || !w->scratch || !w->means || !next) goto out;
    memset(w->bounds, 0, w->groups * RECO_SCAN_BOUNDS * sizeof *w->bounds);
    find_starts(m, next);
    for (size_t p = 0; p < w->bank->positions; p++) w->place[p] = (uint32_t)next[m->cell[p]]++;
    RECO_GO(put_chunks(ctx, w, chunk));
    status = put(ctx, w, w->bounds, w->groups * RECO_SCAN_BOUNDS * sizeof *w->bounds);
out:
    reco_free(w->codes);
    reco_scratch_release(ctx, mark);
    return status;
}

/* The row at each place. */
static reco_status put_order(reco_ctx *ctx, writing *w)
{
    reco_mark mark = reco_scratch_mark(ctx);
    const reco_cells_made *m = w->made;
    size_t places = groups_of(m) * RECO_SCAN_GROUP;
    int32_t *order = reco_scratch(ctx, places, sizeof *order, "lists");
    size_t *next = reco_scratch(ctx, m->ncells, sizeof *next, "lists");
    reco_status status = RECO_E_NOMEM;
    if (order && next) {
        memset(order, 0xff, places * sizeof *order);
        find_starts(m, next);
        for (size_t p = 0; p < w->bank->positions; p++) order[next[m->cell[p]]++] = (int32_t)p;
        status = put(ctx, w, order, places * sizeof *order);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

static void describe(reco_tensor *tensors, const reco_bank *bank, const reco_cells_made made[2])
{
    static const char *const names[TENSORS] = {"image.code",
                                               "image.bound",
                                               "text.code",
                                               "text.bound",
                                               "image.centroid.code",
                                               "text.centroid.code",
                                               "image.centroid.bound",
                                               "text.centroid.bound",
                                               "image.row",
                                               "text.row",
                                               "image.mean",
                                               "text.mean",
                                               "image.length",
                                               "text.length",
                                               "image.size",
                                               "text.size",
                                               "image.cell",
                                               "text.cell",
                                               "image.recall",
                                               "text.recall",
                                               "asked",
                                               "segment",
                                               "image.centroid",
                                               "text.centroid",
                                               "segment.xxh3",
                                               "sum"};
    size_t width = reco_scan_width(bank->info.d), n = bank->positions;
    for (size_t side = 0; side < 2; side++) {
        const reco_cells_made *m = &made[side];
        size_t groups = groups_of(m), cells = m->ncells,
               cell_groups = (cells + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
        tensors[2 * side + CODE] = (reco_tensor){
            .dtype = RECO_DTYPE_U8, .rank = 4, .shape = {groups, width / 4, RECO_SCAN_GROUP, 4}};
        tensors[2 * side + BOUND] =
            (reco_tensor){.dtype = RECO_DTYPE_F32, .rank = 3, .shape = {groups, 3, RECO_SCAN_GROUP}};
        tensors[CELL_CODE + side] = (reco_tensor){
            .dtype = RECO_DTYPE_U8, .rank = 4, .shape = {cell_groups, width / 4, RECO_SCAN_GROUP, 4}};
        tensors[CELL_BOUND + side] =
            (reco_tensor){.dtype = RECO_DTYPE_F32, .rank = 3, .shape = {cell_groups, 3, RECO_SCAN_GROUP}};
        tensors[ROW + side] =
            (reco_tensor){.dtype = RECO_DTYPE_I32, .rank = 2, .shape = {groups, RECO_SCAN_GROUP}};
        tensors[MEAN + side] = (reco_tensor){.dtype = RECO_DTYPE_F32, .rank = 1, .shape = {m->d}};
        tensors[LENGTH + side] = (reco_tensor){.dtype = RECO_DTYPE_F32, .rank = 1, .shape = {cells}};
        tensors[SIZE + side] = (reco_tensor){.dtype = RECO_DTYPE_I32, .rank = 1, .shape = {cells}};
        tensors[CELL + side] = (reco_tensor){.dtype = RECO_DTYPE_I32, .rank = 1, .shape = {n}};
        tensors[RECALL + side] = (reco_tensor){
            .dtype = RECO_DTYPE_F32, .rank = 4, .shape = {2, RECO_LISTS_DEPTHS, RECO_LISTS_POINTS, 4}};
        tensors[CENTROID + side] =
            (reco_tensor){.dtype = RECO_DTYPE_F16, .rank = 2, .shape = {cells, m->d}};
    }
    tensors[ASKED] = (reco_tensor){.dtype = RECO_DTYPE_F32, .rank = 1, .shape = {2}};
    tensors[SEGMENT] = (reco_tensor){.dtype = RECO_DTYPE_I64, .rank = 2, .shape = {bank->nsegments, 2}};
    tensors[SEGMENT_SUM] = (reco_tensor){.dtype = RECO_DTYPE_U8, .rank = 2, .shape = {bank->nsegments, 32}};
    tensors[SUM] = (reco_tensor){.dtype = RECO_DTYPE_U8, .rank = 1, .shape = {32}};
    for (size_t i = 0; i < TENSORS; i++) tensors[i].name = names[i];
}

/* What is small and held by `made`, of both sides. */
static reco_status put_small(reco_ctx *ctx, writing *w, const reco_cells_made made[2], int which)
{
    for (size_t side = 0; side < 2; side++) {
        const reco_cells_made *m = &made[side];
        size_t cell_groups = (m->ncells + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP, n = m->ncells;
        switch (which) {
        case CELL_CODE:
            RECO_TRY(put(ctx, w, m->codes, cell_groups * RECO_SCAN_GROUP * reco_scan_width(m->d)));
            break;
        case CELL_BOUND:
            RECO_TRY(put(ctx, w, m->bounds, cell_groups * RECO_SCAN_BOUNDS * sizeof(float)));
            break;
        case ROW:
            w->made = m;
            RECO_TRY(put_order(ctx, w));
            break;
        case MEAN:
            RECO_TRY(put(ctx, w, m->mean, m->d * sizeof *m->mean));
            break;
        case LENGTH:
            RECO_TRY(put(ctx, w, m->length, n * sizeof *m->length));
            break;
        case SIZE:
            RECO_TRY(put(ctx, w, m->size, n * sizeof *m->size));
            break;
        case CELL:
            RECO_TRY(put(ctx, w, m->cell, w->bank->positions * sizeof *m->cell));
            break;
        case RECALL:
            RECO_TRY(put(ctx, w, m->points, sizeof m->points));
            break;
        default:
            RECO_TRY(put(ctx, w, m->centroids, n * m->d * sizeof *m->centroids));
            break;
        }
    }
    return RECO_OK;
}

static reco_status put_all(reco_ctx *ctx, writing *w, const reco_cells_made made[2], float recall)
{
    static const int before[] = {CELL_CODE, CELL_BOUND, ROW, MEAN, LENGTH, SIZE, CELL, RECALL};
    const reco_bank *bank = w->bank;
    for (int side = 0; side < 2; side++) {
        w->made = &made[side];
        w->side = (reco_side)side;
        RECO_TRY(put_rows(ctx, w));
    }
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        RECO_TRY(put_small(ctx, w, made, before[i]));
    const float asked[2] = {recall, (float)((double)bank->info.rows / (double)bank->positions)};
    RECO_TRY(put(ctx, w, asked, sizeof asked));
    for (size_t i = 0; i < bank->nsegments; i++) {
        const int64_t entry[2] = {bank->entries[i].number, bank->entries[i].rows};
        RECO_TRY(put(ctx, w, entry, sizeof entry));
    }
    RECO_TRY(put_small(ctx, w, made, CENTROID));
    for (size_t i = 0; i < bank->nsegments; i++) RECO_TRY(put(ctx, w, bank->entries[i].xxh3, 32));
    char sum[33];
    reco_hash_hex(w->hash, sum);
    w->hash = NULL;
    return reco_file_write(ctx, w->file, sum, 32);
}

reco_status reco_lists_write(reco_ctx *ctx, const reco_bank *bank, const reco_cells_made made[2],
                             float recall)
{
    writing w = {.ctx = ctx, .bank = bank};
    reco_tensor tensors[TENSORS];
    const reco_meta meta[] = {{"format", RECO_LISTS_FORMAT}};
    size_t header;
    reco_status status = RECO_E_NOMEM;
    char *path = reco_lists_path(ctx, bank->path);
    if (!path) return RECO_E_NOMEM;
    describe(tensors, bank, made);
    RECO_GO(reco_safetensors_begin(ctx, &w.file, path, tensors, TENSORS, meta, 1));
    RECO_GO(reco_hash_new(ctx, &w.hash));
    const void *text = reco_file_pending(w.file, &header);
    reco_hash_update(w.hash, text, header);
    RECO_GO(put_all(ctx, &w, made, recall));
    reco_file *file = w.file;
    w.file = NULL;
    status = reco_file_commit(ctx, file);
out:
    reco_file_abort(w.file);
    reco_free(w.hash);
    reco_free(path);
    return status;
}
