/* Scan files with stages, and their directions, of a small good bank with some bytes changed: searches answer from rows that are there,
 * with right scores; what verify passes finds what the good ones do. The input is a list of changes: two bytes of position (directions,
 * then a scan file), one byte to put there. */
#include "bank/segment/directions.h"
#include "folder.h"
#include "reco/bank.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 24, D = 4, K = 5, FILES = 2 };

static const char *folder;
static char files[FILES][300], *good[FILES];
static size_t lengths[FILES];
static float rows[ROWS][D];
static uint16_t halves[ROWS][D];
static int64_t found[ROWS * K];

static const uint16_t *half_row(const void *arg, size_t i)
{
    (void)arg;
    return halves[i];
}

static void search(reco_ctx *ctx, int64_t *ids)
{
    reco_bank *bank;
    float scores[ROWS * K];
    fuzz_need(reco_bank_open(ctx, &bank, folder));
    reco_search_opts opts = {.k = K, .min_similarity = -1};
    fuzz_need(reco_bank_search(ctx, bank, RECO_IMAGE, rows[0], ROWS, &opts,
                               &(reco_hits){.ids = ids, .scores = scores}));
    for (int i = 0; i < ROWS * K; i++) {
        if (ids[i] < -1 || ids[i] >= ROWS) abort();
        if (ids[i] < 0) continue;
        float dot = 0;
        for (int j = 0; j < D; j++) dot += rows[i / K][j] * rows[ids[i]][j];
        if (!(fabsf(dot - scores[i]) < 2e-3f)) abort();
    }
    reco_bank_close(bank);
}

static void build(reco_ctx *ctx)
{
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    folder = fuzz_folder();
    fuzz_need(reco_bank_writer_open(ctx, &w, folder, &spec, "job", &next, &done));
    for (int i = 0; i < ROWS; i++) {
        const float x[D] = {(float)cos(0.3 * i), (float)sin(0.3 * i), 1, (float)(0.1 * (i % 3))};
        float norm = sqrtf(2 + x[3] * x[3]);
        for (int j = 0; j < D; j++) rows[i][j] = x[j] / norm;
        for (int j = 0; j < D; j++) halves[i][j] = reco_f32_to_f16(rows[i][j]);
        fuzz_need(reco_bank_append(ctx, w, rows[i], rows[i], &(reco_pair){.caption = "a"}, 1));
    }
    fuzz_need(reco_bank_commit(ctx, w, ROWS, 1));
    reco_bank_writer_close(w);
    const reco_scan_rows both[] = {{half_row, NULL, ROWS, D}, {half_row, NULL, ROWS, D}};
    fuzz_need(reco_directions_make(ctx, folder, both, 2, 3));
    fuzz_need(reco_bank_index(ctx, folder, RECO_SCAN_INT8, NULL));
    snprintf(files[0], sizeof files[0], "%s/vectors/" RECO_DIRECTIONS_FILE, folder);
    snprintf(files[1], sizeof files[1], "%s/vectors/segment-000000.scan-int8.safetensors", folder);
    for (int i = 0; i < FILES; i++)
        fuzz_need(reco_read_file(ctx, &good[i], &lengths[i], files[i], 1 << 20));
    search(ctx, found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static reco_ctx *ctx;
    if (!ctx) {
        fuzz_need(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}));
        build(ctx);
    }
    size_t begin = 0;
    for (int i = 0; i < FILES; begin += lengths[i++]) {
        char *changed = malloc(lengths[i]);
        memcpy(changed, good[i], lengths[i]);
        for (const uint8_t *c = data; c + 3 <= data + bytes; c += 3) {
            size_t at = ((size_t)c[0] << 8 | c[1]) - begin;
            if (at < lengths[i]) changed[at] = (char)c[2];
        }
        fuzz_need(reco_write_file(ctx, files[i], changed, lengths[i]));
        free(changed);
    }
    int64_t ids[ROWS * K];
    reco_bank_health health;
    search(ctx, ids);
    fuzz_need(reco_bank_verify(ctx, folder, NULL, NULL, &health));
    if (health.problems == 0 && memcmp(ids, found, sizeof ids) != 0) abort();
    return 0;
}
