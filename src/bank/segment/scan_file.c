#include "bank/segment/segment.h"
#include "kernels/scan.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

/* A scan file says nothing that its segment does not: it names the segment's checksum, and no commit names it. So it
 * may be missing, old or damaged, and can be made again at any time. Its bounds are what a wrong answer could come
 * from; they are checked against the rows themselves. */

#define FORMAT "reco-scan-int8-1"

enum { CODE, BOUND, MEAN, FIRST, FIRST_BOUND, SECOND, SECOND_BOUND, NAMES };
static const char *const names[2][NAMES] = {{"image.code", "image.bound", "image.mean", "image.first",
                                             "image.first_bound", "image.second", "image.second_bound"},
                                            {"text.code", "text.bound", "text.mean", "text.first",
                                             "text.first_bound", "text.second", "text.second_bound"}};

static size_t groups_of(const reco_segment *s) { return (s->rows + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP; }

char *reco_scan_path(reco_ctx *ctx, const char *dir, int64_t number)
{
    return reco_format(ctx, "%s/vectors/segment-%06lld" RECO_SCAN_ENDING, dir, (long long)number);
}

/* ---- reading ---- */

static reco_status read_stages(reco_ctx *ctx, const reco_segment *s, const reco_safetensors *file, int side,
                               const reco_directions_side *x, reco_scan_stages *out)
{
    size_t groups = groups_of(s);
    const size_t first[] = {groups, reco_scan_width(x->first) / 4, RECO_SCAN_GROUP, 4},
                 second[] = {s->rows, reco_scan_width(x->second)}, bound[] = {groups, 5, RECO_SCAN_GROUP};
    const void *codes[2] = {0}, *bounds[2] = {0};
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][FIRST], RECO_DTYPE_U8, 4, first, &codes[0]));
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][SECOND], RECO_DTYPE_U8, 2, second, &codes[1]));
    RECO_TRY(
        reco_derived_tensor(ctx, file, names[side][FIRST_BOUND], RECO_DTYPE_F32, 3, bound, &bounds[0]));
    RECO_TRY(
        reco_derived_tensor(ctx, file, names[side][SECOND_BOUND], RECO_DTYPE_F32, 3, bound, &bounds[1]));
    *out = (reco_scan_stages){x, codes[0], codes[1], bounds[0], bounds[1]};
    return RECO_OK;
}

static reco_status read_side(reco_ctx *ctx, const reco_segment *s, reco_safetensors *file, int side,
                             size_t d, const reco_directions *directions, reco_scan_source *out)
{
    size_t groups = groups_of(s);
    const size_t code[] = {groups, reco_scan_width(d) / 4, RECO_SCAN_GROUP, 4},
                 bound[] = {groups, 3, RECO_SCAN_GROUP}, mean[] = {d};
    const void *codes = NULL, *bounds = NULL, *means = NULL;
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][CODE], RECO_DTYPE_U8, 4, code, &codes));
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][BOUND], RECO_DTYPE_F32, 3, bound, &bounds));
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][MEAN], RECO_DTYPE_F32, 1, mean, &means));
    *out = (reco_scan_source){
        .codes = codes, .bounds = bounds, .mean = means, .base = s->base, .rows = s->rows};
    for (size_t i = 0; i < d; i++)
        if (!isfinite(out->mean[i]))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: %s is not finite at %zu", reco_safetensors_path(file),
                             names[side][MEAN], i);
    return directions && directions->side[side].rows
               ? read_stages(ctx, s, file, side, &directions->side[side], &out->stages)
               : RECO_OK;
}

static reco_status open_file(reco_ctx *ctx, reco_segment *s, const char *path,
                             const reco_segment_entry *entry, size_t d, const reco_directions *directions)
{
    reco_safetensors *file;
    reco_scan_source sides[2];
    reco_status status;
    RECO_TRY(reco_safetensors_open(ctx, &file, path));
    const char *format = reco_safetensors_meta(file, "format"),
               *of = reco_safetensors_meta(file, "segment");
    if (!format || strcmp(format, FORMAT) != 0 || !of || strcmp(of, entry->xxh3) != 0)
        RECO_GO(
            reco_fail(ctx, RECO_E_FORMAT, "%s: was made from another version of %s", path, entry->file));
    const char *along = reco_safetensors_meta(file, "directions");
    if (directions && (!along || strcmp(along, directions->hash) != 0)) directions = NULL;
    /* A bank has thousands of such files, and a mean is a page or two. */
    reco_safetensors_pieces(file, true);
    for (int side = 0; side < 2; side++)
        RECO_GO(read_side(ctx, s, file, side, d, directions, &sides[side]));
    reco_safetensors_pieces(file, false);
    memcpy(s->source, sides, sizeof sides);
    s->scan_file = file;
    file = NULL;
out:
    reco_safetensors_close(file);
    return status;
}

reco_status reco_scan_open(reco_ctx *ctx, reco_segment *s, const char *dir, const reco_segment_entry *entry,
                           size_t d, const reco_directions *directions, bool *is_there)
{
    struct stat info;
    *is_there = false;
    char *path = reco_scan_path(ctx, dir, entry->number);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (stat(path, &info) == 0 || errno != ENOENT) {
        *is_there = true;
        status = open_file(ctx, s, path, entry, d, directions);
        if (status != RECO_OK && status != RECO_E_NOMEM && status != RECO_E_IO) status = RECO_E_FORMAT;
    }
    reco_free(path);
    return status;
}

void reco_scan_close(reco_segment *s)
{
    reco_safetensors_close(s->scan_file);
    s->scan_file = NULL;
    for (size_t side = 0; side < 2; side++)
        s->source[side] = (reco_scan_source){.base = s->base, .rows = s->rows};
}

/* ---- writing ---- */

typedef struct one_side {
    const uint16_t *vectors;
    size_t d;
} one_side;

static const uint16_t *get_row(const void *arg, size_t i)
{
    const one_side *s = arg;
    return s->vectors + i * s->d;
}

typedef struct all_rows {
    const reco_segment *segments;
    size_t n, d;
    size_t side;
} all_rows;

static const uint16_t *get_any(const void *arg, size_t i)
{
    const all_rows *a = arg;
    const reco_segment *s = a->segments;
    for (; i >= s->rows; s++) i -= s->rows;
    return s->vectors[a->side] + i * a->d;
}

reco_status reco_segments_directions(reco_ctx *ctx, reco_directions *out, const char *dir,
                                     const reco_segment *segments, size_t n, size_t d)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += segments[i].rows;
    reco_status status = reco_directions_open(ctx, out, dir, d);
    if (out->file || status == RECO_E_NOMEM ||
        total < reco_min(RECO_SCAN_DEFAULT_ROWS, reco_segment_most(d)))
        return status == RECO_E_NOMEM ? status : RECO_OK;
    const all_rows from[] = {{segments, n, d, RECO_IMAGE}, {segments, n, d, RECO_TEXT}};
    const reco_scan_rows rows[] = {{get_any, &from[0], total, d}, {get_any, &from[1], total, d}};
    RECO_TRY(reco_directions_make(ctx, dir, rows, 0, 0));
    return reco_directions_open(ctx, out, dir, d);
}

bool reco_scan_is_whole(const reco_segment *s, const reco_directions *directions)
{
    for (int side = 0; side < 2; side++)
        if (directions->side[side].rows && !s->source[side].stages.directions) return false;
    return true;
}

/* The tensors of a file, in memory that is the scratch's. Codes first: the vectors that follow stay aligned, whatever d is. */
typedef struct tensors {
    reco_tensor all[2 * NAMES];
    size_t n;
} tensors;

static void put(tensors *t, int side, int name, reco_dtype dtype, const size_t *shape, size_t rank,
                const void *data)
{
    reco_tensor *x = &t->all[t->n++];
    *x = (reco_tensor){.name = names[side][name], .dtype = dtype, .rank = rank, .data = data};
    memcpy(x->shape, shape, rank * sizeof *shape);
}

static reco_status encode_side(reco_ctx *ctx, tensors *codes, tensors *floats, int side,
                               const reco_scan_rows *rows, const reco_directions_side *x)
{
    size_t d = rows->d, groups = (rows->n + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP,
           width = reco_scan_width(d);
    uint8_t *code = reco_scratch(ctx, groups, RECO_SCAN_GROUP * width, "codes of a segment");
    float *bound = reco_scratch(ctx, groups, RECO_SCAN_BOUNDS * sizeof *bound, "codes of a segment");
    float *mean = reco_scratch(ctx, d, sizeof *mean, "scan file"),
          *row = reco_scratch(ctx, d, sizeof *row, "scan file");
    if (!code || !bound || !mean || !row) return RECO_E_NOMEM;
    reco_scan_find_mean(mean, row, rows);
    RECO_TRY(reco_scan_encode(ctx, code, bound, rows, mean));
    put(codes, side, CODE, RECO_DTYPE_U8, (const size_t[]){groups, width / 4, RECO_SCAN_GROUP, 4}, 4, code);
    put(floats, side, BOUND, RECO_DTYPE_F32, (const size_t[]){groups, 3, RECO_SCAN_GROUP}, 3, bound);
    put(floats, side, MEAN, RECO_DTYPE_F32, &d, 1, mean);
    if (!x) return RECO_OK;
    reco_scan_stages_room to;
    const size_t stage_bound[] = {groups, 5, RECO_SCAN_GROUP};
    RECO_TRY(reco_scan_stages_new(ctx, &to, x, rows->n));
    RECO_TRY(reco_scan_stages_encode(ctx, &to, x, rows, mean));
    put(codes, side, FIRST, RECO_DTYPE_U8,
        (const size_t[]){groups, reco_scan_width(x->first) / 4, RECO_SCAN_GROUP, 4}, 4, to.codes[0]);
    put(codes, side, SECOND, RECO_DTYPE_U8, (const size_t[]){rows->n, reco_scan_width(x->second)}, 2,
        to.codes[1]);
    put(floats, side, FIRST_BOUND, RECO_DTYPE_F32, stage_bound, 3, to.bounds[0]);
    put(floats, side, SECOND_BOUND, RECO_DTYPE_F32, stage_bound, 3, to.bounds[1]);
    return RECO_OK;
}

reco_status reco_scan_write(reco_ctx *ctx, const reco_segment *s, const char *dir,
                            const reco_segment_entry *entry, size_t d, const reco_directions *directions)
{
    reco_mark start = reco_scratch_mark(ctx);
    tensors codes = {0}, floats = {0};
    reco_status status = RECO_E_NOMEM;
    char *path = reco_scan_path(ctx, dir, entry->number);
    if (!path) goto out;
    bool turned = directions && directions->file;
    for (int side = 0; side < 2; side++) {
        const one_side from = {s->vectors[side], d};
        const reco_scan_rows rows = {get_row, &from, s->rows, d};
        const reco_directions_side *x = turned ? &directions->side[side] : NULL;
        RECO_GO(encode_side(ctx, &codes, &floats, side, &rows, x && x->rows ? x : NULL));
    }
    memcpy(codes.all + codes.n, floats.all, floats.n * sizeof *floats.all);
    const reco_meta meta[] = {
        {"format", FORMAT}, {"segment", entry->xxh3}, {"directions", turned ? directions->hash : ""}};
    status = reco_safetensors_write(ctx, path, codes.all, codes.n + floats.n, meta, turned ? 3 : 2);
out:
    reco_free(path);
    reco_scratch_release(ctx, start);
    return status;
}

/* ---- checking ---- */

/* In double, from the definition: is the row's distance from its codes within the bound, and their norm too? */
bool reco_scan_holds(const reco_scan_source *side, size_t row, const float *x, size_t d)
{
    size_t group = row / RECO_SCAN_GROUP, r = row % RECO_SCAN_GROUP;
    const uint8_t *codes = side->codes + group * RECO_SCAN_GROUP * reco_scan_width(d);
    const float *bound = side->bounds + group * RECO_SCAN_BOUNDS + r;
    double scale = (double)bound[0], error = 0, norm = 0;
    if (!isfinite(bound[0]) || isnan(bound[32])) return false;
    if (bound[16] == INFINITY) return bound[32] >= 0;
    for (size_t i = 0; i < reco_scan_width(d); i++) {
        double y = scale * (codes[(i / 4 * RECO_SCAN_GROUP + r) * 4 + i % 4] - 128);
        double e = i < d ? (double)x[i] - (double)side->mean[i] - y : 0; /* padding meets queries' zeros */
        error += e * e;
        norm += i < d ? y * y : 0;
    }
    return sqrt(error) <= (double)bound[16] && sqrt(norm) <= (double)bound[32];
}

reco_status reco_scan_check(reco_ctx *ctx, const reco_segment *s, reco_side side, size_t d, size_t *bad)
{
    const reco_scan_source *source = &s->source[side];
    float *x = reco_alloc(ctx, d, sizeof *x, "row");
    if (!x) return RECO_E_NOMEM;
    size_t row = 0;
    for (bool fits = true; fits && row < s->rows; row += fits) {
        reco_f16_to_f32_n(x, s->vectors[side] + row * d, d);
        fits = reco_scan_holds(source, row, x, d);
    }
    reco_free(x);
    *bad = row;
    if (row < s->rows || !source->stages.directions) return RECO_OK;
    const one_side from = {s->vectors[side], d};
    const reco_scan_rows rows = {get_row, &from, s->rows, d};
    return reco_scan_stages_check(ctx, &source->stages, &rows, source->mean, bad);
}
