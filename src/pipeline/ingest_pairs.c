#include "pipeline/sink.h"

static reco_status take_record(reco_ctx *ctx, reco_sink *s, json_t *record, const char *file,
                               const reco_table_opts *table, uint64_t number, const char *bad)
{
    char item[64];
    snprintf(item, sizeof item, "record %llu", (unsigned long long)number);
    if (!record) return reco_sink_fail(ctx, s, item, bad, number);
    reco_pair_row row;
    const char *reason;
    reco_status status = reco_pair_row_read(ctx, &row, record, file, table, RECO_NEED_BOTH, &reason);
    if (status == RECO_OK && !reason) return reco_sink_take(ctx, s, &row, number);
    if (status == RECO_OK)
        status = reco_sink_fail(ctx, s, row.uri && *row.uri ? row.uri : item, reason, number);
    reco_pair_row_free(&row);
    return status;
}

/* A list of captions as so many pairs, all of this record. */
static reco_status take_each(reco_ctx *ctx, reco_sink *s, json_t *record, const char *file,
                             const reco_table_opts *table, uint64_t number, const char *bad)
{
    char *name = NULL;
    json_t *captions = NULL, *caption;
    size_t i;
    if (record) RECO_TRY(reco_pair_captions(ctx, record, table, &name, &captions));
    if (!captions) return take_record(ctx, s, record, file, table, number, bad);
    reco_status status = RECO_OK;
    json_array_foreach(captions, i, caption)
    {
        json_t *copy = json_copy(record);
        if (!copy || json_object_set(copy, name, caption) != 0)
            status = reco_fail_nomem(ctx, 0, "captions");
        else
            status = take_record(ctx, s, copy, file, table, number, NULL);
        json_decref(copy);
        if (status != RECO_OK) break;
    }
    reco_free(name);
    json_decref(captions);
    return status;
}

/* Which records are this shard's: the file is gone through once to be counted. */
static reco_status find_part(reco_ctx *ctx, const char *pairs, reco_shard shard,
                             const reco_table_opts *table, reco_part *part)
{
    uint64_t total = 0;
    json_t *record = NULL;
    const char *bad;
    reco_records *records;
    reco_status status = RECO_OK;
    *part = reco_part_of(shard, 0);
    if (!reco_is_part(shard)) return RECO_OK;
    RECO_TRY(reco_records_open(ctx, &records, pairs, table));
    do {
        uint64_t number;
        status = reco_records_next(ctx, records, &record, &number, &bad);
        total += record || bad;
        json_decref(record);
    } while (status == RECO_OK && (record || bad));
    reco_records_close(records);
    *part = reco_part_of(shard, total);
    return status;
}

/* spec: what the callers know of it. */
static reco_status ingest(reco_ctx *ctx, reco_sink_spec spec, const reco_ingest_opts *opts,
                          reco_stream_result *result)
{
    const reco_model *model = spec.model;
    const char *pairs = spec.source;
    const reco_shard shard = opts ? opts->shard : (reco_shard){0};
    RECO_TRY(reco_reserved(ctx, "ingest", opts ? opts->reserved : NULL));
    RECO_TRY(reco_part_check(ctx, shard));
    if (spec.update && reco_is_part(shard)) return reco_fail(ctx, RECO_E_ARG, "shard: not for an update");
    RECO_TRY(reco_model_embed_pixels(ctx, model, NULL, 0, NULL)); /* has it both towers? */
    RECO_TRY(reco_model_embed_texts(ctx, model, NULL, 0, NULL, NULL));
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_sink *s = NULL;
    reco_status status = RECO_OK;
    reco_records *records = NULL;
    json_t *record = NULL;
    char content[33];
    const reco_table_opts *table = opts ? opts->table : NULL;
    const bool several = opts && opts->several_captions;
    uint64_t number = 0, seen = 0;
    reco_part part;
    reco_records_counts before = {0}; /* of what is not this shard's */
    RECO_GO(reco_hash_file(ctx, pairs, content));
    RECO_GO(reco_records_open(ctx, &records, pairs, table));
    RECO_GO(reco_pair_columns(ctx, records));
    RECO_GO(find_part(ctx, pairs, shard, table, &part));
    spec.kind = "pairs";
    spec.content = content;
    spec.first = part.begin;
    RECO_GO(reco_sink_open(ctx, &s, &spec, opts, result));
    if (reco_sink_is_done(s)) goto out;
    while (seen < part.end) {
        const char *bad = NULL;
        RECO_GO(reco_records_next(ctx, records, &record, &number, &bad));
        if (!record && !bad) break;
        seen = number + 1;
        if (number < part.begin)
            before = reco_records_count(records);
        else if (number >= reco_sink_next(s))
            RECO_GO((several ? take_each : take_record)(ctx, s, record, pairs, table, number, bad));
        json_decref(record);
        record = NULL;
        RECO_GO(reco_sink_seen(ctx, s, seen));
    }
    status = reco_sink_finish(ctx, s, seen);
out:
    if (records) {
        reco_records_counts counts = reco_records_count(records);
        result->dropped = counts.dropped - before.dropped;
        result->repaired = counts.repaired - before.repaired;
        result->joined = counts.joined - before.joined;
    }
    result->seconds = reco_now() - start;
    json_decref(record);
    reco_records_close(records);
    reco_sink_close(s);
    return status;
}

reco_status reco_bank_ingest_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                   const char *bank, int build, const reco_ingest_opts *opts,
                                   reco_stream_result *result)
{
    return ingest(ctx, (reco_sink_spec){.bank = bank, .build = build != 0, .source = pairs, .model = model},
                  opts, result);
}

reco_status reco_bank_update_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                   const char *bank, const char *key, const reco_ingest_opts *opts,
                                   reco_stream_result *result)
{
    return ingest(
        ctx, (reco_sink_spec){.bank = bank, .update = true, .key = key, .source = pairs, .model = model},
        opts, result);
}
