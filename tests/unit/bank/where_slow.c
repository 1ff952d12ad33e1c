/* Slow functions in conditions end when they are told to. */
#include "bank_test.h"

static int stop(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what, (void)done, (void)total;
    return ++*(int *)user == 3;
}

/* Values as long as they can be, and the worst of needles in them: the user who wants to stop waits for one call. */
static void test_stops(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "instr(meta, substr(meta, 3, 900) || 'b') + id",
        "length(replace(meta, substr(meta, 3, 900) || 'b', 'c')) + id",
        "meta LIKE '%' || substr(meta, 3, 300) || 'b%' OR id < 0",
        "meta GLOB '*' || substr(meta, 3, 300) || 'b*' OR id < 0",
        "trim(meta, '{\":1}' || substr(meta, 3, 900)) || id = 'b'",
        "like('%' || substr(meta, 3, 300) || 'b%', meta) + id",
    };
    reco_ctx_free(ctx);
    int asked = 0;
    ok(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1, .progress = stop, .user = &asked}));
    build_numbered(in("b"), 4, 100, 3);
    sql(in("b/bank.sqlite"),
        "UPDATE pair SET meta = '{\"' || replace(hex(zeroblob(500000)), '0', 'a') || '\":1}'");
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        reco_bank *bank;
        reco_bank_filter *filter;
        char where[8192] = "id IN (0";
        for (int j = 0; j < 10; j++) { /* many calls and no loop, where SQLite itself looks up */
            strcat(where, ", ");
            strcat(where, hostile[i]);
        }
        strcat(where, ")");
        asked = 0;
        ok(reco_bank_open(ctx, &bank, in("b")));
        double began = reco_now();
        reco_status status = reco_bank_filter_where(ctx, &filter, bank, where);
        double took = reco_now() - began;
        if (status != RECO_E_CANCELLED || asked != 3 || took > 30)
            fail_msg("%s: %s, asked %d times, %.1f s", hostile[i], reco_status_name(status), asked, took);
        printf("%.2f s: %s\n", took, hostile[i]);
        reco_bank_close(bank);
    }
}

/* However much a condition would hold at once, it ends with an answer or a refusal before that much memory is taken. */
static void test_memory(void **state)
{
    (void)state;
    static const struct {
        const char *begin, *again, *end;
        int times;
    } hostile[] = {
        {"id IN (1", ", meta || 1", ")", 900},
        {"max(meta", ", max(meta || 1, meta || 2)", ") > 1", 90},
        {"length(''", " || meta", ") > 1", 400},
        {"(SELECT length(json_array(1", ", a.meta || 1, b.meta || 2", ")) FROM pair a, pair b) > 1", 40},
        {"id IN (SELECT a.id FROM pair a, pair b WHERE a.meta", " || b.meta", " < 'b')", 20},
        {"(SELECT count(*) FROM json_each(meta)", ", json_each('[' || meta || ']')", ") > 1", 30},
        {"(SELECT length(json_group_array(a.meta", " || b.meta", ")) FROM pair a, pair b, pair c) > 1", 1},
    };
    build_numbered(in("m"), 4, 40, 1);
    for (size_t n = 0; n < 2 * (sizeof hostile / sizeof *hostile); n++) {
        size_t i = n / 2; /* rows of a million bytes and of 60,000 */
        sql(in("m/bank.sqlite"),
            n % 2 ? "UPDATE pair SET meta = '[\"' || replace(hex(zeroblob(30000)), '0', 'a') || '\"]'"
                  : "UPDATE pair SET meta = '[\"' || replace(hex(zeroblob(500000)), '0', 'a') || '\"]'");
        reco_bank *bank;
        reco_bank_filter *filter;
        char *where = calloc(100000, 1), *to = stpcpy(where, hostile[i].begin);
        for (int j = 0; j < hostile[i].times; j++) to = stpcpy(to, hostile[i].again);
        strcpy(to, hostile[i].end);
        ok(reco_bank_open(ctx, &bank, in("m")));
        sqlite3_memory_highwater(1);
        double began = reco_now();
        reco_status status = reco_bank_filter_where(ctx, &filter, bank, where);
        double took = reco_now() - began, most = (double)sqlite3_memory_highwater(0) / 1e6;
        if (status != RECO_OK && status != RECO_E_ARG)
            fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
        printf("%5.1f MB, %.2f s: %s...: %s\n", most, took, hostile[i].begin,
               status ? reco_ctx_error(ctx) : "ok");
        if (most > 256 || took > 30) fail_msg("%.0f MB, %.1f s", most, took);
        if (status == RECO_OK) reco_bank_filter_free(filter);
        reco_bank_close(bank);
        free(where);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
