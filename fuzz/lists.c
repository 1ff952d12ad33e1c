/* Lists of a small good bank with some bytes changed: searches answer from rows that are there, each once, with right scores; what verify
 * passes, too. The input is a list of changes: two bytes of position, one byte to put there; a last odd byte cuts the file, in 256ths. */
#include "folder.h"
#include "reco/bank.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 24, CELLS = 4, K = 10 };

static const char *folder;
static char file[300], *good;
static size_t length;
static float rows[ROWS][2];

static void build(reco_ctx *ctx)
{
    reco_bank_spec spec = {.d = 2};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    folder = fuzz_folder();
    fuzz_need(reco_bank_writer_open(ctx, &w, folder, &spec, "job", &next, &done));
    for (int i = 0; i < ROWS; i++) {
        rows[i][0] = (float)cos(0.01 * i + i % CELLS);
        rows[i][1] = (float)sin(0.01 * i + i % CELLS);
        fuzz_need(reco_bank_append(ctx, w, rows[i], rows[i], &(reco_pair){.caption = "a"}, 1));
    }
    fuzz_need(reco_bank_commit(ctx, w, ROWS, 1));
    reco_bank_writer_close(w);
    fuzz_need(reco_bank_index_lists(ctx, folder, &(reco_lists_opts){.cells = CELLS, .recall = 0.5f}, NULL));
    snprintf(file, sizeof file, "%s/vectors/lists.safetensors", folder);
    fuzz_need(reco_read_file(ctx, &good, &length, file, 1 << 20));
}

static void search(reco_ctx *ctx)
{
    reco_bank *bank;
    fuzz_need(reco_bank_open(ctx, &bank, folder));
    int64_t ids[ROWS * K];
    float scores[ROWS * K];
    reco_search_opts opts = {.k = K, .min_similarity = -1, .recall = 0.5f};
    for (int side = 0; side < 2; side++) {
        fuzz_need(reco_bank_search(ctx, bank, (reco_side)side, rows[0], ROWS, &opts,
                                   &(reco_hits){.ids = ids, .scores = scores}));
        for (int i = 0; i < ROWS * K; i++) {
            if (ids[i] < -1 || ids[i] >= ROWS) abort();
            if (ids[i] < 0) continue;
            const float *q = rows[i / K], *x = rows[ids[i]];
            if (!(fabsf(q[0] * x[0] + q[1] * x[1] - scores[i]) < 2e-3f)) abort();
        }
    }
    reco_bank_close(bank);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static reco_ctx *ctx;
    if (!ctx) {
        fuzz_need(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}));
        build(ctx);
    }
    char *changed = malloc(length);
    size_t left = bytes % 3 == 1 ? length * data[bytes - 1] / 256 : length;
    memcpy(changed, good, length);
    for (const uint8_t *c = data; c + 3 <= data + bytes; c += 3) {
        size_t at = (size_t)c[0] << 8 | c[1];
        if (at < length) changed[at] = (char)c[2];
    }
    bool same = left == length && memcmp(changed, good, length) == 0;
    fuzz_need(reco_write_file(ctx, file, changed, left));
    free(changed);
    search(ctx);
    reco_bank_health health;
    fuzz_need(reco_bank_verify(ctx, folder, NULL, NULL, &health));
    if ((health.problems == 0) != same) abort();
    return 0;
}
