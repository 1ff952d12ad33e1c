#include "recall.h"

static const struct argp_child children[] = {{&cli_bank, 0, NULL, 0}, {0}};
static const struct argp argp = {
    NULL,
    NULL,
    "BANK",
    "Show what a bank holds: rows, sizes and encoder; with --json, every vector file too.\v"
    "Example:\n  reco bank info shop.bank",
    children,
    NULL,
    NULL};

static json_t *files(const reco_bank *bank, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        reco_segment_info s = *reco_bank_get_segment(bank, i);
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:s}", "file", s.file, "first",
                                              (json_int_t)s.first, "rows", (json_int_t)s.rows, "bytes",
                                              (json_int_t)s.bytes, "xxh3", s.xxh3));
    }
    return list;
}

int cmd_bank_info(int argc, char **argv)
{
    cli c = {0};
    if (!cli_begin(&c, argc, argv, &argp, &c)) return 1;
    reco_bank *bank = NULL;
    reco_status status = reco_bank_open(c.ctx, &bank, c.bank);
    if (status != RECO_OK) return cli_end(&c, status);
    reco_bank_info i = *reco_bank_get_info(bank);
    if (c.json) {
        json_t *answer = json_pack(
            "{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:s, s:f, s:I, s:o, s:o, s:o}",
            "format", i.format, "dimensions", (json_int_t)i.d, "rows", (json_int_t)i.rows, "deleted",
            (json_int_t)i.deleted, "next_id", (json_int_t)i.next_id, "segments", (json_int_t)i.segments,
            "vector_bytes", (json_int_t)i.vector_bytes, "database_bytes", (json_int_t)i.database_bytes,
            "scan_rows", (json_int_t)i.scan_rows, "complete", i.complete, "encoder", cli_text(i.encoder),
            "fingerprint", i.fingerprint, "logit_scale", (double)i.logit_scale, "list_rows",
            (json_int_t)i.list_rows, "list_recall", i.list_rows ? cli_weight(i.list_recall) : json_null(),
            "recall", cli_recall_table(bank), "files", files(bank, i.segments));
        if (i.shards) json_object_set_new(answer, "shards", json_integer((json_int_t)i.shards));
        cli_print(answer);
    } else {
        printf("rows         %lld (%lld deleted), next id %lld\ndimensions   %zu\n"
               "%s     %zu, %llu bytes of %s\n",
               (long long)i.rows, (long long)i.deleted, (long long)i.next_id, i.d,
               i.shards ? "servers " : "segments", i.shards ? i.shards : i.segments,
               (unsigned long long)i.vector_bytes, i.shards ? "tables" : "vectors");
        if (!i.shards) printf("database     %llu bytes\n", (unsigned long long)i.database_bytes);
        cli_say("encoder      %s %s", *i.encoder ? i.encoder : "not recorded", i.fingerprint);
        printf("format       %d%s\n", i.format,
               i.complete ? ""
                          : ", unfinished: run the same build again (if its source has changed, use add)");
    }
    if (!c.json) cli_print_recall(bank);
    reco_bank_close(bank);
    return cli_end(&c, RECO_OK);
}
