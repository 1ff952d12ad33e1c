/* Records come to an end and are numbered in order. The first byte chooses csv, tsv or jsonl. */
#include "io_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const endings[] = {".csv", ".tsv", ".jsonl"};
    if (bytes == 0) return 0;
    reco_ctx *ctx = fuzz_ctx();
    reco_records *r;
    if (reco_records_open(ctx, &r, fuzz_file(endings[data[0] % 3], data + 1, bytes - 1), NULL) != RECO_OK)
        return 0;
    for (uint64_t want = 0;; want++) {
        json_t *row;
        uint64_t number;
        const char *bad;
        if (reco_records_next(ctx, r, &row, &number, &bad) != RECO_OK || (!row && !bad)) break;
        if (number != want || (row && bad) || want > bytes) abort();
        json_decref(row);
    }
    reco_records_close(r);
    return 0;
}
