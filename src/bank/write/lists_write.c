#include "bank/write/cells.h"
#include "kernels/kernels.h"

#define CHUNK_BYTES ((size_t)32 << 20) /* of codes that are written at once */

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
    int32_t *order;   /* [groups][16] */
    int32_t *cell_of; /* [groups] */
    float *bounds;    /* [groups][3][16] */
    uint8_t *codes;   /* of a chunk, from group `first` on */
    size_t first;
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

/* Rows by cell, each cell from a group on. next is scratch [ncells]. */
static void sort_rows(writing *w, size_t *next)
{
    size_t at = 0;
    const reco_cells_made *m = w->made;
    for (size_t c = 0; c < m->ncells; c++) {
        next[c] = at * RECO_SCAN_GROUP;
        for (size_t g = ((size_t)m->size[c] + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP; g > 0; g--)
            w->cell_of[at++] = (int32_t)c;
    }
    memset(w->order, 0xff, w->groups * RECO_SCAN_GROUP * sizeof *w->order);
    for (size_t p = 0; p < w->bank->positions; p++) w->order[next[m->cell[p]]++] = (int32_t)p;
}

static void encode_body(void *arg, size_t begin, size_t end, int worker)
{
    writing *w = arg;
    size_t d = w->made->d, group = RECO_SCAN_GROUP * reco_scan_width(d);
    float *mean = w->means + (size_t)worker * d;
    for (size_t i = begin; i < end; i++) {
        size_t g = w->first + i, cell = (size_t)w->cell_of[g];
        uint8_t *codes = w->codes + i * group;
        memset(codes, 128, group);
        reco_f16_to_f32_n(mean, w->made->centroids + cell * d, d);
        for (size_t j = 0; j < d; j++) mean[j] *= w->made->length[cell];
        for (size_t r = 0; r < RECO_SCAN_GROUP; r++) {
            int32_t p = w->order[g * RECO_SCAN_GROUP + r];
            if (p < 0) break;
            const reco_rows_at at = {w->bank, w->side, NULL, (size_t)p};
            reco_scan_encode_row(w->ctx, codes, w->bounds + g * RECO_SCAN_BOUNDS, r, reco_rows_get(&at, 0),
                                 mean, d, w->scratch + (size_t)worker * reco_scan_row_scratch(d));
        }
    }
}

/* Codes and bounds of a side's rows. */
static reco_status put_rows(reco_ctx *ctx, writing *w)
{
    size_t d = w->made->d, group = RECO_SCAN_GROUP * reco_scan_width(d),
           chunk = reco_max(1, CHUNK_BYTES / group), threads = (size_t)reco_ctx_threads(ctx);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    w->groups = groups_of(w->made);
    w->order = reco_scratch(ctx, w->groups, RECO_SCAN_GROUP * sizeof *w->order, "lists");
    w->cell_of = reco_scratch(ctx, w->groups, sizeof *w->cell_of, "lists");
    w->bounds = reco_scratch(ctx, w->groups, RECO_SCAN_BOUNDS * sizeof *w->bounds, "lists");
    w->codes = reco_scratch(ctx, reco_min(chunk, w->groups), group, "lists");
    w->scratch = reco_scratch(ctx, threads, reco_scan_row_scratch(d), "lists");
    w->means = reco_scratch(ctx, threads, d * sizeof *w->means, "lists");
    size_t *next = reco_scratch(ctx, w->made->ncells, sizeof *next, "lists");
    if (!w->order || !w->cell_of || !w->bounds || !w->codes || !w->scratch || !w->means || !next) goto out;
    memset(w->bounds, 0, w->groups * RECO_SCAN_BOUNDS * sizeof *w->bounds);
    sort_rows(w, next);
    for (w->first = 0; w->first < w->groups; w->first += chunk) {
        size_t n = reco_min(chunk, w->groups - w->first);
        reco_parallel(ctx, n, 16, encode_body, w);
        RECO_GO(put(ctx, w, w->codes, n * group));
        RECO_GO(reco_progress(ctx,
                              w->side == RECO_IMAGE ? "writing cells of images" : "writing cells of texts",
                              w->first + n, w->groups));
    }
    status = put(ctx, w, w->bounds, w->groups * RECO_SCAN_BOUNDS * sizeof *w->bounds);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* The places of a side's rows once more, which were not kept. */
static reco_status put_order(reco_ctx *ctx, writing *w)
{
    reco_mark mark = reco_scratch_mark(ctx);
    w->groups = groups_of(w->made);
    w->order = reco_scratch(ctx, w->groups, RECO_SCAN_GROUP * sizeof *w->order, "lists");
    w->cell_of = reco_scratch(ctx, w->groups, sizeof *w->cell_of, "lists");
    size_t *next = reco_scratch(ctx, w->made->ncells, sizeof *next, "lists");
    reco_status status = RECO_E_NOMEM;
    if (w->order && w->cell_of && next) {
        sort_rows(w, next);
        status = put(ctx, w, w->order, w->groups * RECO_SCAN_GROUP * sizeof *w->order);
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
