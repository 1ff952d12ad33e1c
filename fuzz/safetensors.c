/* A file of tensors is refused, or every tensor of it reads within bounds and it survives being written again. */
#include "io_input.h"

static void read_all(reco_ctx *ctx, const reco_tensor *t)
{
    float x[256];
    const uint8_t *bytes = t->data;
    volatile uint8_t last = t->bytes ? bytes[t->bytes - 1] : 0;
    (void)last;
    for (size_t from = 0; from < t->count; from += reco_min(256, t->count - from))
        if (reco_tensor_f32(ctx, t, from, reco_min(256, t->count - from), x) != RECO_OK) return;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    reco_ctx *ctx = fuzz_ctx();
    reco_safetensors *st;
    const char *path = fuzz_file(".safetensors", data, bytes);
    if (reco_safetensors_open(ctx, &st, path) != RECO_OK) return 0;
    size_t n = reco_safetensors_count(st);
    for (size_t i = 0; i < n; i++) {
        const reco_tensor *t = reco_safetensors_at(st, i), *same;
        if (reco_safetensors_need(ctx, st, &same, t->name, (int)t->rank, t->shape) != RECO_OK || same != t)
            abort();
        read_all(ctx, t);
    }
    if (reco_safetensors_write(ctx, path, n ? reco_safetensors_at(st, 0) : NULL, n, NULL, 0) != RECO_OK)
        abort();
    reco_safetensors_close(st);
    if (reco_safetensors_open(ctx, &st, path) != RECO_OK || reco_safetensors_count(st) != n) abort();
    reco_safetensors_close(st);
    return 0;
}
