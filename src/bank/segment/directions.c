#include "bank/segment/directions.h"
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#define FORMAT "reco-directions-1"

static const char *const names[2][3] = {{"image.direction", "image.loose", "image.stages"},
                                        {"text.direction", "text.loose", "text.stages"}};

/* Of all that the file says: what was made along other directions does not fit. */
static reco_status sum(reco_ctx *ctx, const reco_directions_side sides[2], size_t d, char hex[33])
{
    reco_hash *hash;
    RECO_TRY(reco_hash_new(ctx, &hash));
    for (int i = 0; i < 2; i++) {
        const uint64_t sizes[] = {sides[i].first, sides[i].second, d};
        reco_hash_update(hash, sizes, sizeof sizes);
        reco_hash_update(hash, &sides[i].loose, sizeof sides[i].loose);
        if (sides[i].rows) reco_hash_update(hash, sides[i].rows, sides[i].second * d * sizeof(float));
    }
    reco_hash_hex(hash, hex);
    return RECO_OK;
}

reco_status reco_derived_tensor(reco_ctx *ctx, const reco_safetensors *file, const char *name,
                                reco_dtype dtype, size_t rank, const size_t *shape, const void **out)
{
    const reco_tensor *t;
    RECO_TRY(reco_safetensors_need(ctx, file, &t, name, (int)rank, shape));
    if (t->dtype_name || t->dtype != dtype || (uintptr_t)t->data % sizeof(float) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %s is not aligned %s", reco_safetensors_path(file),
                         name, reco_dtype_name(dtype));
    *out = t->data;
    return RECO_OK;
}

static reco_status read_side(reco_ctx *ctx, const reco_safetensors *file, int side, size_t d,
                             reco_directions_side *out)
{
    const size_t two = 2, one = 1;
    const void *stages = NULL, *loose = NULL, *rows = NULL;
    *out = (reco_directions_side){0};
    if (!reco_safetensors_find(file, names[side][0])) return RECO_OK;
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][2], RECO_DTYPE_I32, 1, &two, &stages));
    const int32_t *n = stages;
    if (n[0] < 1 || n[1] <= n[0] || (size_t)n[1] > reco_min(d, RECO_DIRECTIONS_MOST))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s = %d and %d, want two ascending within 1..%zu",
                         reco_safetensors_path(file), names[side][2], n[0], n[1],
                         reco_min(d, RECO_DIRECTIONS_MOST));
    const size_t shape[] = {(size_t)n[1], d};
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][1], RECO_DTYPE_F32, 1, &one, &loose));
    RECO_TRY(reco_derived_tensor(ctx, file, names[side][0], RECO_DTYPE_F32, 2, shape, &rows));
    *out = (reco_directions_side){rows, (size_t)n[0], (size_t)n[1], *(const float *)loose};
    bool is_finite = out->loose >= 0 && out->loose < 1e-3f;
    for (size_t i = 0; i < out->second * d && is_finite; i++) is_finite = fabsf(out->rows[i]) <= 1.001f;
    return is_finite ? RECO_OK
                     : reco_fail(ctx, RECO_E_FORMAT, "%s: %s is not orthonormal",
                                 reco_safetensors_path(file), names[side][0]);
}

static char *path_of(reco_ctx *ctx, const char *dir)
{
    return reco_format(ctx, "%s/vectors/" RECO_DIRECTIONS_FILE, dir);
}

reco_status reco_directions_open(reco_ctx *ctx, reco_directions *out, const char *dir, size_t d)
{
    struct stat info;
    *out = (reco_directions){0};
    char *path = path_of(ctx, dir);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (stat(path, &info) != 0 && errno == ENOENT) goto out;
    RECO_GO(reco_safetensors_open(ctx, &out->file, path));
    const char *format = reco_safetensors_meta(out->file, "format");
    if (!format || strcmp(format, FORMAT) != 0)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: format is %s, want " FORMAT, path,
                          format ? format : "not given"));
    for (int side = 0; side < 2; side++) RECO_GO(read_side(ctx, out->file, side, d, &out->side[side]));
    RECO_GO(sum(ctx, out->side, d, out->hash));
    const char *want = reco_safetensors_meta(out->file, "xxh3");
    if (!want || strcmp(want, out->hash) != 0)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: is damaged: its checksum differs", path));
out:
    reco_free(path);
    if (status != RECO_OK) reco_directions_close(out);
    if (status != RECO_OK && status != RECO_E_NOMEM && status != RECO_E_IO) status = RECO_E_FORMAT;
    return status;
}

void reco_directions_close(reco_directions *x)
{
    reco_safetensors_close(x->file);
    *x = (reco_directions){0};
}

reco_status reco_directions_write(reco_ctx *ctx, const char *dir, const reco_directions_side sides[2],
                                  size_t d)
{
    reco_tensor tensors[6];
    int32_t stages[2][2];
    char hex[33];
    size_t n = 0;
    RECO_TRY(sum(ctx, sides, d, hex));
    for (int i = 0; i < 2; i++) {
        const reco_directions_side *s = &sides[i];
        if (!s->rows) continue;
        stages[i][0] = (int32_t)s->first;
        stages[i][1] = (int32_t)s->second;
        const reco_tensor three[] = {
            {.name = names[i][0],
             .dtype = RECO_DTYPE_F32,
             .rank = 2,
             .shape = {s->second, d},
             .data = s->rows},
            {.name = names[i][1], .dtype = RECO_DTYPE_F32, .rank = 1, .shape = {1}, .data = &s->loose},
            {.name = names[i][2], .dtype = RECO_DTYPE_I32, .rank = 1, .shape = {2}, .data = stages[i]}};
        memcpy(tensors + n, three, sizeof three);
        n += 3;
    }
    char *path = path_of(ctx, dir);
    if (!path) return RECO_E_NOMEM;
    const reco_meta meta[] = {{"format", FORMAT}, {"xxh3", hex}};
    reco_status status = reco_safetensors_write(ctx, path, tensors, n, meta, 2);
    reco_free(path);
    return status;
}

double reco_directions_loose(const reco_ctx *ctx, const float *rows, size_t n, size_t d)
{
    double square = 0; /* of Frobenius' norm */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double e = reco_dot_wide(ctx, rows + i * d, rows + j * d, d) - (i == j);
            square += (i == j ? 1 : 2) * e * e;
        }
    return sqrt(square) * (1 + 1e-6) + 1e-12;
}
