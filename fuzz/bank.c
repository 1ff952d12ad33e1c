/* A small good bank with some bytes changed is refused, or can be read, searched and written to. The input is a list
 * of changes: two bytes of position (the database's log first, then a vector file, then the database), one byte to put
 * there. */
#include "folder.h"
#include "reco/bank.h"

#include <stdlib.h>

enum { LOG, VECTORS, DATABASE, FILES };

static const char *folder;
static char files[FILES][300];
static char *good[FILES];
static size_t lengths[FILES];

static void build(reco_ctx *ctx)
{
    reco_bank_spec spec = {.d = 2};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    const float rows[] = {1, 0, 0, 1, 0.6f, 0.8f};
    const reco_pair pairs[] = {
        {.caption = "a", .uri = "u"}, {.caption = "b", .meta = "{}"}, {.caption = "c"}};
    const int64_t gone = 1;
    folder = fuzz_folder();
    fuzz_need(reco_bank_writer_open(ctx, &w, folder, &spec, "job", &next, &done));
    fuzz_need(reco_bank_append(ctx, w, rows, rows, pairs, 3));
    fuzz_need(reco_bank_commit(ctx, w, 3, 1));
    reco_bank_writer_close(w);
    reco_bank *reader; /* as long as it is there, what comes stays in the log */
    fuzz_need(reco_bank_open(ctx, &reader, folder));
    fuzz_need(reco_bank_delete(ctx, folder, &(reco_bank_rows){.ids = &gone, .nids = 1}, NULL, NULL));
    snprintf(files[LOG], sizeof files[LOG], "%s/bank.sqlite-wal", folder);
    snprintf(files[VECTORS], sizeof files[VECTORS], "%s/vectors/segment-000000.safetensors", folder);
    snprintf(files[DATABASE], sizeof files[DATABASE], "%s/bank.sqlite", folder);
    for (int i = 0; i < FILES; i++)
        fuzz_need(reco_read_file(ctx, &good[i], &lengths[i], files[i], 1 << 20));
    reco_bank_close(reader);
    if (lengths[LOG] < 1000) abort();
}

static void put(const char *path, const char *data, size_t bytes)
{
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) abort();
}

static void restore(const uint8_t *changes, size_t bytes)
{
    char index[320];
    snprintf(index, sizeof index, "%s-shm", files[DATABASE]);
    remove(index);
    size_t begin = 0;
    for (int i = 0; i < FILES; begin += lengths[i++]) {
        char *data = malloc(lengths[i]);
        memcpy(data, good[i], lengths[i]);
        for (const uint8_t *c = changes; c + 3 <= changes + bytes; c += 3) {
            size_t at = ((size_t)c[0] << 8 | c[1]) - begin;
            if (at < lengths[i]) data[at] = (char)c[2];
        }
        put(files[i], data, lengths[i]);
        free(data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static reco_ctx *ctx;
    if (!ctx) {
        fuzz_need(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}));
        build(ctx);
    }
    restore(data, bytes);
    reco_bank *bank;
    if (reco_bank_open(ctx, &bank, folder) == RECO_OK) {
        int64_t ids[10], n = reco_bank_get_info(bank)->next_id;
        float scores[10], row[2];
        const float query[2] = {0.8f, 0.6f};
        size_t count;
        if (reco_bank_get_info(bank)->d == 2) {
            reco_bank_search(ctx, bank, RECO_IMAGE, query, 1, NULL,
                             &(reco_hits){.ids = ids, .scores = scores, .counts = &count});
            for (int64_t id = 0; id < 4 && id < n; id++)
                reco_bank_gather(ctx, bank, RECO_TEXT, &id, 1, row);
        }
        for (int64_t id = 0; id < 4; id++) {
            reco_pair pair;
            if (reco_bank_get(ctx, bank, id, &pair) == RECO_OK) reco_pair_free(&pair);
        }
        reco_bank_select(ctx, bank, NULL, 0, 10, ids, &count);
        reco_bank_close(bank);
    }
    const int64_t id = 2;
    reco_bank_health health;
    bool whole = reco_bank_verify(ctx, folder, NULL, NULL, &health) == RECO_OK && health.problems == 0;
    reco_status deleted =
        reco_bank_delete(ctx, folder, &(reco_bank_rows){.ids = &id, .nids = 1}, NULL, NULL);
    reco_status compacted = reco_bank_compact(ctx, folder, NULL, NULL);
    if (whole) { /* what verify passes can be written to, and stays whole */
        fuzz_need(deleted);
        fuzz_need(compacted);
        fuzz_need(reco_bank_verify(ctx, folder, NULL, NULL, &health));
        if (health.problems) abort();
    }
    return 0;
}
