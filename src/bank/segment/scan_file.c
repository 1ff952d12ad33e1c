#include "bank/segment/segment.h"
#include "kernels/scan.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

/* A scan file says nothing that its segment does not: it names the segment's checksum, and no commit names it. So it
 * may be missing, old or damaged, and can be made again at any time. Its bounds are what a wrong answer could come
 * from; they are checked against the rows themselves. */

#define FORMAT "reco-scan-int8-1"

static const char *const names[2][3] = {{"image.code", "image.bound", "image.mean"},
                                        {"text.code", "text.bound", "text.mean"}};

static size_t groups_of(const reco_segment *s) { return (s->rows + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP; }

char *reco_scan_path(reco_ctx *ctx, const char *dir, int64_t number)
{
    return reco_format(ctx, "%s/vectors/segment-%06lld" RECO_SCAN_ENDING, dir, (long long)number);
}

/* ---- reading ---- */

static reco_status need(reco_ctx *ctx, const reco_safetensors *file, const char *name, reco_dtype dtype,
                        size_t rank, const size_t *shape, const void **out)
{
    const reco_tensor *t;
    RECO_TRY(reco_safetensors_need(ctx, file, &t, name, (int)rank, shape));
    if (t->dtype_name || t->dtype != dtype || (uintptr_t)t->data % sizeof(float) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %s is no aligned %s", reco_safetensors_path(file),
                         name, reco_dtype_name(dtype));
    *out = t->data;
    return RECO_OK;
}

static reco_status read_side(reco_ctx *ctx, const reco_segment *s, reco_safetensors *file, int side,
                             size_t d, reco_scan_source *out)
{
    size_t groups = groups_of(s);
    const size_t code[] = {groups, reco_scan_width(d) / 4, RECO_SCAN_GROUP, 4},
                 bound[] = {groups, 3, RECO_SCAN_GROUP}, mean[] = {d};
    const void *codes = NULL, *bounds = NULL, *means = NULL;
    RECO_TRY(need(ctx, file, names[side][0], RECO_DTYPE_U8, 4, code, &codes));
    RECO_TRY(need(ctx, file, names[side][1], RECO_DTYPE_F32, 3, bound, &bounds));
    RECO_TRY(need(ctx, file, names[side][2], RECO_DTYPE_F32, 1, mean, &means));
    *out = (reco_scan_source){
        .codes = codes, .bounds = bounds, .mean = means, .base = s->base, .rows = s->rows};
    for (size_t i = 0; i < d; i++)
        if (!isfinite(out->mean[i]))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: %s is not finite at %zu", reco_safetensors_path(file),
                             names[side][2], i);
    return RECO_OK;
}

static reco_status open_file(reco_ctx *ctx, reco_segment *s, const char *path,
                             const reco_segment_entry *entry, size_t d)
{
    reco_safetensors *file;
    reco_scan_source sides[2];
    reco_status status;
    RECO_TRY(reco_safetensors_open(ctx, &file, path));
    const char *format = reco_safetensors_meta(file, "format"),
               *of = reco_safetensors_meta(file, "segment");
    if (!format || strcmp(format, FORMAT) != 0 || !of || strcmp(of, entry->xxh3) != 0)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: was not made of %s as it is", path, entry->file));
    for (int side = 0; side < 2; side++) RECO_GO(read_side(ctx, s, file, side, d, &sides[side]));
    memcpy(s->source, sides, sizeof sides);
    s->scan_file = file;
    file = NULL;
out:
    reco_safetensors_close(file);
    return status;
}

reco_status reco_scan_open(reco_ctx *ctx, reco_segment *s, const char *dir, const reco_segment_entry *entry,
                           size_t d, bool *is_there)
{
    struct stat info;
    *is_there = false;
    char *path = reco_scan_path(ctx, dir, entry->number);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (stat(path, &info) == 0 || errno != ENOENT) {
        *is_there = true;
        status = open_file(ctx, s, path, entry, d);
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

reco_status reco_scan_write(reco_ctx *ctx, const reco_segment *s, const char *dir,
                            const reco_segment_entry *entry, size_t d)
{
    size_t groups = groups_of(s), width = reco_scan_width(d);
    reco_mark start = reco_scratch_mark(ctx);
    reco_tensor tensors[6];
    reco_status status = RECO_E_NOMEM;
    char *path = reco_scan_path(ctx, dir, entry->number);
    float *row = reco_scratch(ctx, d, sizeof *row, "scan file");
    uint8_t *codes[2] = {0};
    float *bounds[2] = {0};
    if (!path || !row) goto out;
    for (size_t side = 0; side < 2; side++) {
        codes[side] = reco_scratch(ctx, groups, RECO_SCAN_GROUP * width, "codes of a segment");
        bounds[side] = reco_scratch(ctx, groups, RECO_SCAN_BOUNDS * sizeof(float), "codes of a segment");
        float *mean = reco_scratch(ctx, d, sizeof *mean, "scan file");
        if (!codes[side] || !bounds[side] || !mean) goto out;
        const one_side from = {s->vectors[side], d};
        const reco_scan_rows rows = {get_row, &from, s->rows, d};
        reco_scan_find_mean(mean, row, &rows);
        RECO_GO(reco_scan_encode(ctx, codes[side], bounds[side], &rows, mean));
        status = RECO_E_NOMEM;
        /* Codes first: the vectors that follow stay aligned, whatever d is. */
        tensors[side] = (reco_tensor){.name = names[side][0],
                                      .dtype = RECO_DTYPE_U8,
                                      .rank = 4,
                                      .shape = {groups, width / 4, RECO_SCAN_GROUP, 4},
                                      .data = codes[side]};
        tensors[2 + side] = (reco_tensor){.name = names[side][1],
                                          .dtype = RECO_DTYPE_F32,
                                          .rank = 3,
                                          .shape = {groups, 3, RECO_SCAN_GROUP},
                                          .data = bounds[side]};
        tensors[4 + side] = (reco_tensor){
            .name = names[side][2], .dtype = RECO_DTYPE_F32, .rank = 1, .shape = {d}, .data = mean};
    }
    const reco_meta meta[] = {{"format", FORMAT}, {"segment", entry->xxh3}};
    status = reco_safetensors_write(ctx, path, tensors, 6, meta, 2);
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

size_t reco_scan_check(const reco_segment *s, reco_side side, size_t d, float *x)
{
    for (size_t row = 0; row < s->rows; row++) {
        reco_f16_to_f32_n(x, s->vectors[side] + row * d, d);
        if (!reco_scan_holds(&s->source[side], row, x, d)) return row;
    }
    return s->rows;
}
