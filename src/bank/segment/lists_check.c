#include "bank/segment/lists.h"
#include "kernels/scan.h"

#include <math.h>

#define PIECE ((size_t)1 << 20)

typedef struct summing {
    reco_hash *hash;
    uint64_t end; /* what follows is the sum itself */
} summing;

static reco_status add_piece(reco_ctx *ctx, void *arg, uint64_t offset, const uint8_t *data, size_t bytes)
{
    summing *s = arg;
    (void)ctx;
    if (!data) return RECO_E_IO;
    if (offset < s->end) reco_hash_update(s->hash, data, reco_min(bytes, (size_t)(s->end - offset)));
    return RECO_OK;
}

/* The last tensor is the XXH3-128 of all that is before it. */
static reco_status check_sum(reco_ctx *ctx, const reco_lists *lists, const char **problem)
{
    summing s = {0};
    char hex[33];
    const char *path = reco_safetensors_path(lists->file);
    const reco_tensor *last = reco_safetensors_at(lists->file, reco_safetensors_count(lists->file) - 1);
    *problem = "is damaged: it has no checksum";
    if (strcmp(last->name, "sum") != 0 || last->bytes != 32) return RECO_OK;
    reco_map map;
    RECO_TRY(reco_map_open(ctx, &map, path));
    s.end = map.bytes - 32;
    reco_map_close(&map);
    RECO_TRY(reco_hash_new(ctx, &s.hash));
    reco_status status = reco_read_pieces(ctx, path, PIECE, add_piece, &s);
    if (status != RECO_OK) {
        reco_free(s.hash);
        return status;
    }
    reco_hash_hex(s.hash, hex);
    *problem = memcmp(hex, last->data, 32) == 0 ? NULL : "is damaged: checksum differs";
    return RECO_OK;
}

/* Each listed row once, in the cell that is told, with bounds that hold. seen: a bit a position. */
static const char *check_side(const reco_lists *lists, reco_side side, const reco_segment *segments,
                              size_t n, size_t d, uint64_t *seen, float *x, float *mean)
{
    const reco_lists_side *s = &lists->side[side];
    size_t listed = 0, at = 0;
    for (size_t i = 0; i < n; i++) listed += segments[i].listed ? segments[i].rows : 0;
    for (size_t c = 0; c < s->ncells; c++) {
        reco_scan_source source = s->sources[c];
        reco_f16_to_f32_n(mean, s->centroids + c * d, d);
        for (size_t j = 0; j < d; j++) mean[j] *= s->length[c];
        source.mean = mean;
        for (size_t r = 0; r < source.rows; r++) {
            size_t p = source.positions[r];
            if (p == UINT32_MAX) continue; /* of a segment that is gone */
            while (at > 0 && p < segments[at].base) at--;
            while (at < n && p - segments[at].base >= segments[at].rows) at++;
            if (at == n) return "names rows that the bank does not have";
            const reco_segment *of = &segments[at];
            if (!of->listed || seen[p / 64] >> p % 64 & 1) return "names a row twice";
            seen[p / 64] |= (uint64_t)1 << p % 64;
            listed--;
            if (s->cell[of->listed - 1 + (p - of->base)] != (int32_t)c)
                return "names a row in a cell that is not its own";
            reco_f16_to_f32_n(x, of->vectors[side] + (p - of->base) * d, d);
            if (!reco_scan_holds(&source, r, x, d))
                return "has a bound that is too small for the row's codes";
        }
    }
    return listed ? "lacks rows" : NULL;
}

reco_status reco_lists_check(reco_ctx *ctx, const reco_lists *lists, const reco_segment *segments, size_t n,
                             size_t d, const char **problem)
{
    size_t words = n ? (segments[n - 1].base + segments[n - 1].rows) / 64 + 1 : 1;
    RECO_TRY(check_sum(ctx, lists, problem));
    uint64_t *seen = reco_alloc(ctx, words, sizeof *seen, "lists");
    float *x = reco_alloc(ctx, d, sizeof *x, "row"), *mean = reco_alloc(ctx, d, sizeof *mean, "row");
    reco_status status = seen && x && mean ? RECO_OK : RECO_E_NOMEM;
    for (int side = 0; status == RECO_OK && side < 2 && !*problem; side++) {
        memset(seen, 0, words * sizeof *seen);
        *problem = check_side(lists, (reco_side)side, segments, n, d, seen, x, mean);
    }
    reco_free(mean);
    reco_free(x);
    reco_free(seen);
    return status;
}
