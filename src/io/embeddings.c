#include "io/embeddings.h"

#include <stdlib.h>

typedef struct part {
    reco_npy side[2];
    char *file[2]; /* NULL where the side is missing */
    char *metadata;
    size_t first, rows;
} part;

struct reco_embeddings {
    char *dir;
    size_t nparts, nmetadata, rows, width; /* metadata may end early */
    bool has[2], has_parquet;
    reco_dtype dtype;
    part *parts;
    reco_records *records; /* of part `at`; NULL before its first */
    size_t at;
    uint64_t records_read;
};

/* One file of a folder SUB: SUB_12.jsonl is number 12, ending 0 of {".jsonl", ".csv"}. */
typedef struct found {
    size_t number, ending;
    char *path;
} found;

typedef struct listing {
    found *files;
    size_t n;
    bool has_parquet;
} listing;

static void free_listing(listing *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->files[i].path);
    reco_free(list->files);
    *list = (listing){0};
}

/* The number within "img_emb_007.npy"; false for other names. Nine digits are more parts than fit a disk. */
static bool parse_name(const char *name, const char *sub, size_t *number, const char **ending)
{
    size_t n = strlen(sub), digits = 0;
    if (strncmp(name, sub, n) != 0 || name[n] != '_') return false;
    *number = 0;
    for (const char *c = name + n + 1; *c >= '0' && *c <= '9' && digits < 10; c++, digits++)
        *number = 10 * *number + (size_t)(*c - '0');
    *ending = name + n + 1 + digits;
    return digits > 0 && digits < 10;
}

static int by_number(const void *a, const void *b)
{
    const found *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    if (x->ending != y->ending) return x->ending < y->ending ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Sort, keep the first ending of each number, and require 0, 1, 2, ... */
static reco_status number_parts(reco_ctx *ctx, listing *list, const char *folder)
{
    if (list->n) qsort(list->files, list->n, sizeof *list->files, by_number);
    size_t kept = 0;
    for (size_t i = 0; i < list->n; i++) {
        found *file = &list->files[i];
        if (kept && file->number == list->files[kept - 1].number) {
            if (file->ending == list->files[kept - 1].ending)
                return reco_fail(ctx, RECO_E_FORMAT, "%s and %s: both are part %zu",
                                 list->files[kept - 1].path, file->path, file->number);
            continue;
        }
        if (file->number != kept)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: part %zu is missing, %s is there", folder, kept,
                             file->path);
        found first = *file; /* swapped, so that every path is still freed once */
        *file = list->files[kept];
        list->files[kept++] = first;
    }
    while (list->n > kept) free(list->files[--list->n].path);
    return RECO_OK;
}

static reco_status find_parts(reco_ctx *ctx, listing *list, const char *dir, const char *sub,
                              const char *const endings[2])
{
    *list = (listing){0};
    char *folder = reco_path_join(ctx, dir, sub);
    if (!folder) return RECO_E_NOMEM;
    char **paths = NULL;
    size_t n = 0;
    reco_status status = RECO_OK;
    if (!reco_path_exists(folder)) goto out;
    RECO_GO(reco_list_files(ctx, &paths, &n, folder, false, NULL));
    list->files = reco_alloc(ctx, n, sizeof *list->files, "list of parts");
    if (!list->files) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) {
        size_t number;
        const char *ending;
        if (!parse_name(strrchr(paths[i], '/') + 1, sub, &number, &ending)) continue;
        if (strcmp(ending, ".parquet") == 0) list->has_parquet = true;
        for (size_t k = 0; k < 2 && endings[k]; k++)
            if (strcmp(ending, endings[k]) == 0) {
                list->files[list->n++] = (found){number, k, paths[i]};
                paths[i] = NULL;
                break;
            }
    }
    status = number_parts(ctx, list, folder);
out:
    for (size_t i = 0; i < n; i++) free(paths[i]);
    free(paths);
    free(folder);
    if (status != RECO_OK) free_listing(list);
    return status;
}

static reco_status open_side(reco_ctx *ctx, reco_embeddings *e, part *p, int side)
{
    reco_npy *npy = &p->side[side];
    const char *path = p->file[side];
    RECO_TRY(reco_npy_open(ctx, npy, path));
    if (npy->dtype != RECO_DTYPE_F16 && npy->dtype != RECO_DTYPE_F32)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: dtype is %s, want F16 or F32", path,
                         reco_dtype_name(npy->dtype));
    if (npy->rank != 2)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: shape [%zu], want [rows][columns]", path, npy->rows);
    if (npy->cols == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: rows have no columns", path);
    if (e->width && npy->cols != e->width)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: rows have %zu columns, want %zu as in %s", path,
                         npy->cols, e->width, e->parts[0].file[e->parts[0].file[0] ? 0 : 1]);
    e->width = npy->cols;
    if (npy->dtype == RECO_DTYPE_F32) e->dtype = RECO_DTYPE_F32;
    return RECO_OK;
}

static reco_status open_part(reco_ctx *ctx, reco_embeddings *e, part *p)
{
    for (int side = 0; side < 2; side++)
        if (p->file[side]) RECO_TRY(open_side(ctx, e, p, side));
    if (p->file[0] && p->file[1] && p->side[0].rows != p->side[1].rows)
        return reco_fail(ctx, RECO_E_FORMAT, "%s has %zu rows, %s has %zu", p->file[0], p->side[0].rows,
                         p->file[1], p->side[1].rows);
    p->first = e->rows;
    p->rows = p->side[p->file[0] ? 0 : 1].rows;
    e->rows += p->rows;
    return RECO_OK;
}

static reco_status find_all(reco_ctx *ctx, reco_embeddings *e, listing side[2], listing *metadata)
{
    RECO_TRY(find_parts(ctx, &side[0], e->dir, "img_emb", (const char *const[2]){".npy"}));
    RECO_TRY(find_parts(ctx, &side[1], e->dir, "text_emb", (const char *const[2]){".npy"}));
    RECO_TRY(find_parts(ctx, metadata, e->dir, "metadata", (const char *const[2]){".jsonl", ".csv"}));
    e->nparts = reco_max(side[0].n, side[1].n);
    e->nmetadata = metadata->n;
    if (e->nparts == 0) {
        if (!reco_path_is_dir(e->dir)) return reco_fail(ctx, RECO_E_IO, "%s: is not a folder", e->dir);
        return reco_fail(ctx, RECO_E_NOTFOUND,
                         "%s: has neither img_emb/img_emb_0.npy nor text_emb/text_emb_0.npy", e->dir);
    }
    if (side[0].n && side[1].n && side[0].n != side[1].n)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: img_emb has %zu parts, text_emb %zu", e->dir, side[0].n,
                         side[1].n);
    if (e->nmetadata > e->nparts)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: metadata has %zu parts, the embeddings %zu", e->dir,
                         e->nmetadata, e->nparts);
    e->has_parquet = metadata->has_parquet;
    return RECO_OK;
}

static char *take(listing *list, size_t i)
{
    char *path = i < list->n ? list->files[i].path : NULL;
    if (path) list->files[i].path = NULL;
    return path;
}

reco_status reco_embeddings_open(reco_ctx *ctx, reco_embeddings **out, const char *dir)
{
    *out = NULL;
    listing side[2] = {{0}, {0}}, metadata = {0};
    reco_embeddings *e = reco_alloc(ctx, 1, sizeof *e, "embeddings");
    if (!e) return RECO_E_NOMEM;
    reco_status status = RECO_E_NOMEM;
    e->dtype = RECO_DTYPE_F16;
    e->dir = reco_strdup(ctx, dir);
    if (!e->dir) goto out;
    RECO_GO(find_all(ctx, e, side, &metadata));
    e->parts = reco_alloc(ctx, e->nparts, sizeof *e->parts, "list of parts");
    if (!e->parts) RECO_GO(RECO_E_NOMEM);
    for (int s = 0; s < 2; s++) e->has[s] = side[s].n > 0;
    for (size_t i = 0; i < e->nparts; i++) {
        part *p = &e->parts[i];
        for (int s = 0; s < 2; s++) p->file[s] = take(&side[s], i);
        p->metadata = take(&metadata, i);
        RECO_GO(open_part(ctx, e, p));
    }
    *out = e;
    e = NULL;
out:
    free_listing(&metadata);
    for (int s = 0; s < 2; s++) free_listing(&side[s]);
    reco_embeddings_close(e);
    return status;
}

void reco_embeddings_close(reco_embeddings *e)
{
    if (!e) return;
    reco_records_close(e->records);
    for (size_t i = 0; e->parts && i < e->nparts; i++) {
        for (int s = 0; s < 2; s++) {
            reco_npy_close(&e->parts[i].side[s]);
            free(e->parts[i].file[s]);
        }
        free(e->parts[i].metadata);
    }
    reco_free(e->parts);
    free(e->dir);
    reco_free(e);
}

size_t reco_embeddings_rows(const reco_embeddings *e) { return e->rows; }
size_t reco_embeddings_width(const reco_embeddings *e) { return e->width; }
bool reco_embeddings_has(const reco_embeddings *e, reco_side side) { return e->has[side]; }
reco_dtype reco_embeddings_dtype(const reco_embeddings *e) { return e->dtype; }

reco_dtype reco_embeddings_side_dtype(const reco_embeddings *e, reco_side side)
{
    for (size_t i = 0; i < e->nparts; i++)
        if (e->parts[i].file[side] && e->parts[i].side[side].dtype != RECO_DTYPE_F16) return RECO_DTYPE_F32;
    return RECO_DTYPE_F16;
}

reco_status reco_embeddings_need_metadata(reco_ctx *ctx, const reco_embeddings *e)
{
    if (!e->has_parquet || e->nmetadata) return RECO_OK;
    return reco_fail(
        ctx, RECO_E_UNSUPPORTED,
        "%s/metadata: parquet is not read, so captions would be missing; convert each part: python3 -c "
        "\"import pandas; pandas.read_parquet('metadata_0.parquet').to_json('metadata_0.jsonl', "
        "orient='records', lines=True)\"",
        e->dir);
}

bool reco_embeddings_has_metadata(const reco_embeddings *e) { return e->nmetadata > 0; }

reco_status reco_embeddings_read(reco_ctx *ctx, const reco_embeddings *e, reco_side side, size_t from,
                                 size_t n, float *out)
{
    if (!e->has[side])
        return reco_fail(ctx, RECO_E_NOTFOUND, "%s: has no %s", e->dir,
                         side == RECO_IMAGE ? "img_emb" : "text_emb");
    if (from > e->rows || n > e->rows - from)
        return reco_fail(ctx, RECO_E_ARG, "%s: %zu rows from %zu, want within %zu", e->dir, n, from,
                         e->rows);
    size_t low = 0, high = e->nparts; /* the last part that begins at or before `from` */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (e->parts[middle].first <= from)
            low = middle;
        else
            high = middle;
    }
    for (const part *p = &e->parts[low]; n; p++) {
        size_t begin = from - p->first, m = reco_min(n, p->rows - begin);
        RECO_TRY(reco_npy_rows(ctx, &p->side[side], begin, m, out));
        out += m * e->width;
        from += m;
        n -= m;
    }
    return RECO_OK;
}

reco_status reco_embeddings_rewind(reco_ctx *ctx, reco_embeddings *e)
{
    (void)ctx;
    reco_records_close(e->records);
    e->records = NULL;
    e->records_read = 0;
    e->at = 0;
    return RECO_OK;
}

/* A record is a row by its position, so a part of the middle that has fewer would shift all behind it; so would a blank
 * line in the place of a record, which can't be told from one between two. */
static reco_status end_part(reco_ctx *ctx, reco_embeddings *e)
{
    const part *p = &e->parts[e->at];
    if (e->records_read < p->rows && e->at + 1 < e->nmetadata)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has %llu records, want %zu, one a row", p->metadata,
                         (unsigned long long)e->records_read, p->rows);
    if (e->records_read < p->rows && reco_records_have_gap(e->records))
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: has %llu records and blank lines, want %zu records, one a row", p->metadata,
                         (unsigned long long)e->records_read, p->rows);
    reco_records_close(e->records);
    e->records = NULL;
    e->records_read = 0;
    e->at++;
    return RECO_OK;
}

reco_status reco_embeddings_next(reco_ctx *ctx, reco_embeddings *e, json_t **row, uint64_t *number,
                                 const char **bad)
{
    *row = NULL;
    *bad = NULL;
    *number = e->at < e->nparts ? e->parts[e->at].first + e->records_read : e->rows;
    while (e->at < e->nmetadata) {
        const part *p = &e->parts[e->at];
        if (!e->records) RECO_TRY(reco_records_open(ctx, &e->records, p->metadata, NULL));
        RECO_TRY(reco_records_next(ctx, e->records, row, number, bad));
        *number += p->first;
        if (!*row && !*bad) {
            RECO_TRY(end_part(ctx, e));
            continue;
        }
        if (e->records_read++ < p->rows) return RECO_OK;
        json_decref(*row);
        *row = NULL;
        *bad = NULL;
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has more records than the %zu rows of its part",
                         p->metadata, p->rows);
    }
    return RECO_OK;
}
