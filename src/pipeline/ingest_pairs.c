#include "pipeline/pair_stream.h"

static reco_status take(reco_ctx *ctx, reco_pair_stream *g, json_t *record, const char *file,
                        uint64_t number, const char *bad)
{
    char item[64];
    snprintf(item, sizeof item, "record %llu", (unsigned long long)number);
    if (!record) return reco_pair_stream_fail(ctx, g, item, bad, number);
    reco_pair_row row;
    const char *reason;
    reco_status status = reco_pair_row_read(ctx, &row, record, file, RECO_NEED_BOTH, &reason);
    if (status == RECO_OK && !reason) return reco_pair_stream_take(ctx, g, &row, number);
    if (status == RECO_OK)
        status = reco_pair_stream_fail(ctx, g, row.uri && *row.uri ? row.uri : item, reason, number);
    reco_pair_row_free(&row);
    return status;
}

reco_status reco_bank_ingest_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                   const char *bank, int build, const reco_stream_opts *opts,
                                   reco_stream_result *result)
{
    RECO_TRY(reco_model_embed_pixels(ctx, model, NULL, 0, NULL)); /* has it both towers? */
    RECO_TRY(reco_model_embed_texts(ctx, model, NULL, 0, NULL, NULL));
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_pair_stream g = {0};
    reco_status status = RECO_OK;
    reco_records *records = NULL;
    json_t *record = NULL;
    char content[33];
    uint64_t number = 0, seen = 0;
    RECO_GO(reco_hash_file(ctx, pairs, content));
    RECO_GO(reco_records_open(ctx, &records, pairs));
    RECO_GO(reco_pair_columns(ctx, records, pairs));
    RECO_GO(reco_pair_stream_open(ctx, &g, model, bank, build, "pairs", content, opts, result));
    if (g.nothing) goto out;
    for (;;) {
        const char *bad = NULL;
        RECO_GO(reco_records_next(ctx, records, &record, &number, &bad));
        if (!record && !bad) break;
        seen = number + 1;
        if (number >= g.next) RECO_GO(take(ctx, &g, record, pairs, number, bad));
        json_decref(record);
        record = NULL;
        RECO_GO(reco_pair_stream_seen(ctx, &g, seen));
    }
    status = reco_pair_stream_finish(ctx, &g, seen);
out:
    result->failures = g.failures.count;
    result->seconds = reco_now() - start;
    json_decref(record);
    reco_records_close(records);
    reco_pair_stream_close(&g);
    return status;
}
