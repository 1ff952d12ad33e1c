#include "io/embeddings.h"

#include <stdlib.h>

enum { ENDINGS = 8, PARQUET = 6 };
static const char *const npy_endings[ENDINGS] = {".npy"};
static const char *const table_endings[ENDINGS] = {".jsonl",  ".ndjson", ".jsonl.gz", ".csv",
                                                   ".csv.gz", ".tsv",    ".parquet"};

typedef struct part {
    reco_npy side[2];
    char *file[2];  /* NULL where the side is missing */
    char *metadata; /* NULL: none that can be read */
    size_t first, rows;
} part;

struct reco_embeddings {
    char *dir;
    size_t nparts, nmetadata, rows, width; /* parts with metadata */
    bool has[2];
    char *parquet; /* the first part of metadata that is there so alone */
    char **holes;  /* [nholes] what is missing of the parts */
    size_t nholes;
    const reco_table_opts *table;
    reco_records_counts counts; /* of the parts whose metadata were read */
    reco_dtype dtype;
    part *parts;
    reco_records *records; /* of part `at`; NULL before its first */
    size_t at;
    uint64_t records_read;
};

/* One file of a folder SUB: SUB_12.jsonl is number 12, ending 0 of {".jsonl", ".csv", ".parquet"}. */
typedef struct found {
    size_t number, ending;
    char *path;
} found;

typedef struct listing {
    found *files;
    size_t n;
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

/* Sort, and keep the first ending of each number. */
static reco_status number_parts(reco_ctx *ctx, listing *list)
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
        found first = *file; /* swapped, so that every path is still freed once */
        *file = list->files[kept];
        list->files[kept++] = first;
    }
    while (list->n > kept) free(list->files[--list->n].path);
    return RECO_OK;
}

static reco_status find_parts(reco_ctx *ctx, listing *list, const char *dir, const char *sub,
                              const char *const endings[ENDINGS])
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
        for (size_t k = 0; k < ENDINGS && endings[k]; k++)
            if (strcmp(ending, endings[k]) == 0) {
                list->files[list->n++] = (found){number, k, paths[i]};
                paths[i] = NULL;
                break;
            }
    }
    status = number_parts(ctx, list);
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
    if (npy->dtype != RECO_DTYPE_F16 && npy->dtype != RECO_DTYPE_F32 && npy->dtype != RECO_DTYPE_F64)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: dtype is %s, want F16, F32 or F64", path,
                         reco_dtype_name(npy->dtype));
    if (npy->rank != 2)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: shape [%zu], want [rows][columns]", path, npy->rows);
    if (npy->cols == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: rows have no columns", path);
    if (e->width && npy->cols != e->width)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: rows have %zu columns, want %zu as in %s", path,
                         npy->cols, e->width, e->parts[0].file[e->parts[0].file[0] ? 0 : 1]);
    e->width = npy->cols;
    if (npy->dtype != RECO_DTYPE_F16) e->dtype = RECO_DTYPE_F32;
    return RECO_OK;
}

static reco_status open_part(reco_ctx *ctx, reco_embeddings *e, part *p)
{
    for (int side = 0; side < 2; side++)
        if (p->file[side]) RECO_TRY(open_side(ctx, e, p, side));
    if (p->file[0] && p->file[1] && p->side[0].rows != p->side[1].rows)
        return reco_fail(ctx, RECO_E_FORMAT, "%s has %zu row%s, %s has %zu", p->file[0], p->side[0].rows,
                         reco_s(p->side[0].rows), p->file[1], p->side[1].rows);
    p->first = e->rows;
    p->rows = p->side[p->file[0] ? 0 : 1].rows;
    e->rows += p->rows;
    return RECO_OK;
}

/* ---- which parts there are ---- */

static reco_status add_hole(reco_ctx *ctx, reco_embeddings *e, char *text)
{
    if (!text) return RECO_E_NOMEM;
    char **grown = reco_alloc(ctx, e->nholes + 1, sizeof *grown, "list of parts");
    if (!grown) {
        reco_free(text);
        return RECO_E_NOMEM;
    }
    if (e->nholes) memcpy(grown, e->holes, e->nholes * sizeof *grown);
    reco_free(e->holes);
    e->holes = grown;
    e->holes[e->nholes++] = text;
    return RECO_OK;
}

/* The file of this number, taken out of the list; lists are gone through in the order of numbers. */
static char *take_file(listing *list, size_t *at, size_t number)
{
    if (*at == list->n || list->files[*at].number != number) return NULL;
    char *path = list->files[*at].path;
    list->files[(*at)++].path = NULL;
    return path;
}

static size_t number_at(const listing *list, size_t at)
{
    return at < list->n ? list->files[at].number : SIZE_MAX;
}

/* A part is there where every side that is there at all has it. What is missing between the first and the last is a hole, and
 * costs its own rows alone. */
static reco_status join_parts(reco_ctx *ctx, reco_embeddings *e, listing side[2], listing *metadata)
{
    static const char *const names[] = {"img_emb", "text_emb"};
    size_t at[2] = {0, 0}, told = 0, last = SIZE_MAX;
    for (;;) {
        size_t number = reco_min(number_at(&side[0], at[0]), number_at(&side[1], at[1]));
        while (told < metadata->n && number_at(metadata, told) < number)
            RECO_TRY(
                add_hole(ctx, e, reco_format(ctx, "%s has no embeddings", metadata->files[told++].path)));
        if (number == SIZE_MAX) return RECO_OK;
        if (last != SIZE_MAX && number > last + 1)
            RECO_TRY(add_hole(
                ctx, e,
                number == last + 2
                    ? reco_format(ctx, "%s: part %zu is missing", e->dir, last + 1)
                    : reco_format(ctx, "%s: parts %zu to %zu are missing", e->dir, last + 1, number - 1)));
        last = number;
        part *p = &e->parts[e->nparts];
        bool parquet = told < metadata->n && metadata->files[told].ending == PARQUET;
        p->metadata = take_file(metadata, &told, number);
        if (p->metadata && parquet) {
            if (!e->parquet) e->parquet = p->metadata;
            if (e->parquet != p->metadata) free(p->metadata);
            p->metadata = NULL;
        }
        for (int s = 0; s < 2; s++) p->file[s] = take_file(&side[s], &at[s], number);
        e->nparts++;
        for (int s = 0; s < 2; s++)
            if (e->has[s] && !p->file[s]) {
                RECO_TRY(
                    add_hole(ctx, e, reco_format(ctx, "%s: %s has no part %zu", e->dir, names[s], number)));
                free(p->file[!s]);
                free(p->metadata);
                *p = (part){0};
                e->nparts--;
                break;
            }
    }
}

static reco_status find_all(reco_ctx *ctx, reco_embeddings *e, listing side[2], listing *metadata)
{
    RECO_TRY(find_parts(ctx, &side[0], e->dir, "img_emb", npy_endings));
    RECO_TRY(find_parts(ctx, &side[1], e->dir, "text_emb", npy_endings));
    RECO_TRY(find_parts(ctx, metadata, e->dir, "metadata", table_endings));
    for (int s = 0; s < 2; s++) e->has[s] = side[s].n > 0;
    if (side[0].n + side[1].n == 0) {
        if (!reco_path_is_dir(e->dir)) return reco_fail(ctx, RECO_E_IO, "%s: is not a folder", e->dir);
        return reco_fail(ctx, RECO_E_NOTFOUND,
                         "%s: has neither img_emb/img_emb_0.npy nor text_emb/text_emb_0.npy", e->dir);
    }
    e->parts = reco_alloc(ctx, side[0].n + side[1].n, sizeof *e->parts, "list of parts");
    if (!e->parts) return RECO_E_NOMEM;
    size_t first = reco_min(number_at(&side[0], 0), number_at(&side[1], 0));
    if (first) reco_log(ctx, RECO_LOG_WARN, "%s: its parts begin with number %zu", e->dir, first);
    RECO_TRY(join_parts(ctx, e, side, metadata));
    if (e->nparts == 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: img_emb and text_emb have no part in common", e->dir);
    return RECO_OK;
}

reco_status reco_embeddings_open(reco_ctx *ctx, reco_embeddings **out, const char *dir)
{
    *out = NULL;
    listing side[2] = {0}, metadata = {0};
    reco_embeddings *e = reco_alloc(ctx, 1, sizeof *e, "embeddings");
    if (!e) return RECO_E_NOMEM;
    reco_status status = RECO_E_NOMEM;
    e->dtype = RECO_DTYPE_F16;
    e->dir = reco_strdup(ctx, dir);
    if (!e->dir) goto out;
    RECO_GO(find_all(ctx, e, side, &metadata));
    for (size_t i = 0; i < e->nparts; i++) {
        RECO_GO(open_part(ctx, e, &e->parts[i]));
        e->nmetadata += e->parts[i].metadata != NULL;
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
    for (size_t i = 0; i < e->nholes; i++) reco_free(e->holes[i]);
    reco_free(e->holes);
    free(e->parquet);
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
    if (!e->parquet) return RECO_OK;
    return reco_fail(
        ctx, RECO_E_UNSUPPORTED,
        "%s: parquet is not read, so captions would be missing; convert the metadata: python3 -c "
        "\"import glob, pandas; [pandas.read_parquet(f).to_json(f[:-7] + 'jsonl', orient='records', "
        "lines=True) for f in glob.glob('%s/metadata/*.parquet')]\"",
        e->parquet, e->dir);
}

size_t reco_embeddings_holes(const reco_embeddings *e, const char *const **holes)
{
    *holes = (const char *const *)e->holes;
    return e->nholes;
}

static void add_counts(reco_records_counts *to, reco_records_counts more)
{
    to->dropped += more.dropped;
    to->repaired += more.repaired;
    to->joined += more.joined;
}

reco_records_counts reco_embeddings_count(const reco_embeddings *e)
{
    reco_records_counts counts = e->counts;
    if (e->records) add_counts(&counts, reco_records_count(e->records));
    return counts;
}

void reco_embeddings_read_as(reco_embeddings *e, const reco_table_opts *table) { e->table = table; }

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
    e->counts = (reco_records_counts){0};
    e->at = 0;
    return RECO_OK;
}

size_t reco_embeddings_skip(reco_embeddings *e, size_t row)
{
    while (e->at + 1 < e->nparts && e->parts[e->at + 1].first <= row) e->at++;
    return e->parts[e->at].first;
}

/* A record is a row by its position, so a part of the middle that has fewer would shift all behind it; so would a blank
 * line in the place of a record, which can't be told from one between two. */
static reco_status end_part(reco_ctx *ctx, reco_embeddings *e)
{
    const part *p = &e->parts[e->at];
    bool more = false;
    for (size_t i = e->at + 1; i < e->nparts; i++) more |= e->parts[i].metadata != NULL;
    if (e->records_read < p->rows && more)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has %llu record%s, want %zu, one a row", p->metadata,
                         (unsigned long long)e->records_read, reco_s(e->records_read), p->rows);
    if (e->records_read < p->rows && reco_records_have_gap(e->records))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has %llu record%s and blank lines, want %zu, one a row",
                         p->metadata, (unsigned long long)e->records_read, reco_s(e->records_read),
                         p->rows);
    add_counts(&e->counts, reco_records_count(e->records));
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
    while (e->at < e->nparts && e->nmetadata) {
        const part *p = &e->parts[e->at];
        if (!p->metadata && e->records_read < p->rows) {
            *number = p->first + e->records_read++;
            *bad = "its part has no metadata";
            return RECO_OK;
        }
        if (!p->metadata ||
            p->rows == 0) { /* an empty part may have an empty file, without so much as a header */
            e->records_read = 0;
            e->at++;
            continue;
        }
        if (!e->records) RECO_TRY(reco_records_open(ctx, &e->records, p->metadata, e->table));
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
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has more records than the %zu row%s of its part",
                         p->metadata, p->rows, reco_s(p->rows));
    }
    return RECO_OK;
}
