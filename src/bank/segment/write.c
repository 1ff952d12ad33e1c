#include "bank/segment/segment.h"

/* Of the file as it is meant to be: what arrives otherwise is damage that verify finds. */
typedef struct sums {
    reco_hash *whole;
    uint64_t *blocks; /* [room] */
    size_t n, room, bytes;
    uint8_t *part; /* [RECO_SEGMENT_BLOCK] the block that has begun */
} sums;

struct reco_segment_file {
    reco_file *file;
    sums sums;
};

static reco_status add(reco_ctx *ctx, sums *s, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    reco_hash_update(s->whole, data, bytes);
    while (bytes) {
        size_t used = s->bytes % RECO_SEGMENT_BLOCK, n = reco_min(bytes, RECO_SEGMENT_BLOCK - used);
        bool is_whole = n == RECO_SEGMENT_BLOCK;
        if (!is_whole) memcpy(s->part + used, from, n);
        if (used + n == RECO_SEGMENT_BLOCK) {
            if (s->n + 1 >= s->room) return reco_fail(ctx, RECO_E_INTERNAL, "segment: larger than planned");
            s->blocks[s->n++] = reco_hash64(is_whole ? from : s->part, RECO_SEGMENT_BLOCK, 0);
        }
        from += n;
        bytes -= n;
        s->bytes += n;
    }
    return RECO_OK;
}

static void finish(sums *s, reco_segment_entry *entry)
{
    size_t used = s->bytes % RECO_SEGMENT_BLOCK;
    if (used) s->blocks[s->n++] = reco_hash64(s->part, used, 0);
    reco_hash_hex(s->whole, entry->xxh3);
    s->whole = NULL;
    entry->bytes = (int64_t)s->bytes;
}

static reco_status stage(reco_ctx *ctx, const sums *s, reco_catalog *c, const reco_segment_entry *entry)
{
    return reco_catalog_stage_blocks(ctx, c, entry->number, RECO_SEGMENT_BLOCK, s->blocks, s->n);
}

void reco_segment_abort(reco_segment_file *f)
{
    if (!f) return;
    reco_file_abort(f->file);
    reco_free(f->sums.whole);
    reco_free(f->sums.blocks);
    reco_free(f->sums.part);
    reco_free(f);
}

static reco_status begin_file(reco_ctx *ctx, reco_file **file, reco_segment_entry *entry, const char *dir,
                              size_t rows, size_t d, bool holes)
{
    snprintf(entry->file, sizeof entry->file, RECO_SEGMENT_NAME, (long long)entry->number);
    entry->rows = (int64_t)rows;
    char *path = reco_format(ctx, "%s/vectors/%s", dir, entry->file), first[24];
    if (!path) return RECO_E_NOMEM;
    /* The first id is in the database; here it lets a person match files and captions if that is lost. */
    snprintf(first, sizeof first, "%lld", (long long)entry->first);
    const reco_meta meta[] = {{"format", "reco-bank-1"}, {"first", first}};
    const reco_tensor tensors[] = {
        {.name = "image", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {rows, d}},
        {.name = "text", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {rows, d}},
        {.name = "id",
         .dtype = RECO_DTYPE_I64,
         .rank = 1,
         .shape = {rows}}, /* last: vectors stay aligned */
    };
    reco_status status = reco_safetensors_begin(ctx, file, path, tensors, holes ? 3 : 2, meta, 2);
    reco_free(path);
    return status;
}

reco_status reco_segment_begin(reco_ctx *ctx, reco_segment_file **out, reco_segment_entry *entry,
                               const char *dir, size_t rows, size_t d, bool holes)
{
    size_t header;
    reco_status status = RECO_E_NOMEM;
    *out = NULL;
    reco_segment_file *f = reco_alloc(ctx, 1, sizeof *f, "segment");
    if (!f) return RECO_E_NOMEM;
    f->sums.part = reco_alloc(ctx, RECO_SEGMENT_BLOCK, 1, "checksums");
    if (!f->sums.part) goto out;
    RECO_GO(reco_hash_new(ctx, &f->sums.whole));
    RECO_GO(begin_file(ctx, &f->file, entry, dir, rows, d, holes));
    const void *text = reco_file_pending(f->file, &header);
    f->sums.room = (header + rows * (2 * d * sizeof(uint16_t) + sizeof(int64_t))) / RECO_SEGMENT_BLOCK + 2;
    f->sums.blocks = reco_alloc(ctx, f->sums.room, sizeof *f->sums.blocks, "checksums");
    if (!f->sums.blocks) RECO_GO(RECO_E_NOMEM);
    RECO_GO(add(ctx, &f->sums, text, header));
    *out = f;
    f = NULL;
out:
    reco_segment_abort(f);
    return status;
}

reco_status reco_segment_put(reco_ctx *ctx, reco_segment_file *f, const void *data, size_t bytes)
{
    RECO_TRY(add(ctx, &f->sums, data, bytes));
    return reco_file_write(ctx, f->file, data, bytes);
}

static reco_status commit(reco_ctx *ctx, reco_segment_file *f)
{
    reco_file *file = f->file;
    f->file = NULL;
    return reco_file_commit(ctx, file);
}

reco_status reco_segment_commit(reco_ctx *ctx, reco_segment_file *f, reco_catalog *c,
                                reco_segment_entry *entry)
{
    reco_status status;
    RECO_GO(commit(ctx, f));
    finish(&f->sums, entry);
    status = stage(ctx, &f->sums, c, entry);
out:
    reco_segment_abort(f);
    return status;
}

/* ---- while the caller goes on ---- */

static void *write_vectors(void *arg)
{
    reco_segment_job *j = arg;
    size_t bytes = j->rows * j->d * sizeof *j->vectors[0];
    reco_status status;
    RECO_GO(reco_file_write(j->ctx[0], j->file->file, j->vectors[RECO_IMAGE], bytes));
    RECO_GO(reco_file_write(j->ctx[0], j->file->file, j->vectors[RECO_TEXT], bytes));
    status = commit(j->ctx[0], j->file);
out:
    j->status[0] = status;
    return NULL;
}

/* The scan file names its segment's sum. */
static void *sum_and_scan(void *arg)
{
    reco_segment_job *j = arg;
    size_t bytes = j->rows * j->d * sizeof *j->vectors[0];
    reco_segment s = {.vectors = {j->vectors[0], j->vectors[1]}, .rows = j->rows};
    reco_status status;
    RECO_GO(add(j->ctx[1], &j->file->sums, j->vectors[RECO_IMAGE], bytes));
    RECO_GO(add(j->ctx[1], &j->file->sums, j->vectors[RECO_TEXT], bytes));
    finish(&j->file->sums, &j->entry);
    /* What fails here the commit tries again, and reports. */
    if (!j->scan) goto out;
    reco_directions x;
    if (j->directions)
        (void)reco_segments_directions(j->ctx[1], &x, j->dir, &s, 1, j->d);
    else
        (void)reco_directions_open(j->ctx[1], &x, j->dir, j->d);
    (void)reco_scan_write(j->ctx[1], &s, j->dir, &j->entry, j->d, &x);
    reco_directions_close(&x);
out:
    j->status[1] = status;
    return NULL;
}

reco_status reco_segment_start(reco_ctx *ctx, reco_segment_job *j)
{
    static void *(*const bodies[2])(void *) = {write_vectors, sum_and_scan};
    for (size_t i = 0; i < 2; i++)
        if (!j->ctx[i]) RECO_TRY(reco_ctx_worker(ctx, &j->ctx[i]));
    RECO_TRY(reco_segment_begin(ctx, &j->file, &j->entry, j->dir, j->rows, j->d, false));
    for (size_t i = 0; i < 2; i++) {
        j->runs[i] = reco_ctx_threads(ctx) > 1 && pthread_create(&j->thread[i], NULL, bodies[i], j) == 0;
        if (!j->runs[i]) bodies[i](j);
    }
    return RECO_OK;
}

reco_status reco_segment_join(reco_ctx *ctx, reco_segment_job *j, reco_catalog *c)
{
    reco_status status = RECO_OK;
    if (!j->file) return RECO_OK;
    for (size_t i = 0; i < 2; i++) {
        if (j->runs[i]) pthread_join(j->thread[i], NULL);
        if (status == RECO_OK && j->status[i] != RECO_OK)
            status = reco_fail(ctx, j->status[i], "%s", reco_ctx_error(j->ctx[i]));
    }
    if (status == RECO_OK) status = stage(ctx, &j->file->sums, c, &j->entry);
    reco_segment_abort(j->file);
    j->file = NULL;
    return status;
}

void reco_segment_job_free(reco_segment_job *j)
{
    for (size_t i = 0; i < 2 && j->file; i++)
        if (j->runs[i]) pthread_join(j->thread[i], NULL);
    reco_segment_abort(j->file);
    for (size_t i = 0; i < 2; i++) reco_ctx_free(j->ctx[i]);
}
