/* The functions of conditions give what SQLite's own give, and end when they are told to. */
#include "bank/catalog/sqlite.h"
#include "bank_test.h"

enum { CASES = 20000 };

static uint64_t seed = 1;

static unsigned pick(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* Few letters, so that they meet; wildcards, letters of two and three bytes, and now and then another type. */
static void bind(sqlite3_stmt *const s[2], int at)
{
    static const char *const parts[] = {"a", "b", "A", "%", "_", "*",           "?",
                                        "[", "]", "^", "-", "é", "\xe2\x82\xac"};
    char text[64] = "";
    unsigned kind = pick(20), length = pick(at == 2 ? 4 : 8);
    for (unsigned i = 0; i < length; i++) strcat(text, parts[pick(i % 2 ? 13 : 4)]);
    for (int j = 0; j < 2; j++) {
        if (kind == 0)
            sqlite3_bind_null(s[j], at);
        else if (kind == 1)
            sqlite3_bind_int(s[j], at, (int)length);
        else if (kind == 2)
            sqlite3_bind_double(s[j], at, length / 4.0);
        else if (kind <= 4)
            sqlite3_bind_blob(s[j], at, text, (int)strlen(text), SQLITE_TRANSIENT);
        else
            sqlite3_bind_text(s[j], at, text, -1, SQLITE_TRANSIENT);
    }
}

static void test_like_sqlite(void **state)
{
    (void)state;
    /* Whether LIKE and GLOB take blobs is decided when SQLite is built. */
    static const char query[] =
        "WITH v(a, b, c, s, t) AS (SELECT ?1, ?2, ?3, CAST(?1 AS TEXT), CAST(?2 AS TEXT)) "
        "SELECT instr(a, b), replace(a, b, c), s LIKE t, s LIKE t ESCAPE 'b', s GLOB t, trim(a, b), "
        "ltrim(a, b), "
        "rtrim(a, b) FROM v";
    reco_catalog ours = {0};
    sqlite3 *theirs;
    sqlite3_stmt *s[2];
    assert_int_equal(sqlite3_open(":memory:", &ours.db), 0);
    assert_int_equal(sqlite3_open(":memory:", &theirs), 0);
    ok(reco_where_functions(ctx, &ours));
    assert_int_equal(sqlite3_prepare_v2(ours.db, query, -1, &s[0], NULL), 0);
    assert_int_equal(sqlite3_prepare_v2(theirs, query, -1, &s[1], NULL), 0);
    unsigned found[8] = {0};
    for (int i = 0; i < CASES; i++) {
        for (int a = 1; a <= 3; a++) bind(s, a);
        for (int j = 0; j < 2; j++) assert_int_equal(sqlite3_step(s[j]), SQLITE_ROW);
        for (int column = 0; column < 8; column++) {
            int type = sqlite3_column_type(s[1], column), bytes = sqlite3_column_bytes(s[1], column);
            const void *got = sqlite3_column_blob(s[0], column), *want = sqlite3_column_blob(s[1], column);
            /* Older releases gave the value back as it was where replace looks for nothing. */
            if (column == 1 && type != SQLITE_NULL) type = SQLITE_TEXT;
            if (sqlite3_column_type(s[0], column) != type || sqlite3_column_bytes(s[0], column) != bytes ||
                (bytes && memcmp(got, want, (size_t)bytes) != 0))
                fail_msg("%s, column %d: \"%s\", want \"%s\"", sqlite3_expanded_sql(s[0]), column,
                         (const char *)sqlite3_column_text(s[0], column),
                         (const char *)sqlite3_column_text(s[1], column));
            found[column] += bytes && ((const char *)want)[0] != '0';
        }
        for (int j = 0; j < 2; j++) sqlite3_reset(s[j]);
    }
    for (int column = 0; column < 8; column++) assert_true(found[column] > CASES / 200);
    for (int j = 0; j < 2; j++) sqlite3_finalize(s[j]);
    sqlite3_close(ours.db);
    sqlite3_close(theirs);
}

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
        "instr(meta, substr(meta, 400000) || 'b') + id",
        "length(replace(meta, substr(meta, 3, 1000) || 'b', 'c')) + id",
        "meta LIKE '%' || substr(meta, 3, 300) || 'b%' OR id < 0",
        "meta GLOB '*' || substr(meta, 3, 300) || 'b*' OR id < 0",
        "trim(meta, substr(meta, 3, 300)) || id = 'b'",
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
        for (int j = 0; j < 60; j++) { /* many calls and no loop, where SQLite itself looks up */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_like_sqlite, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stops, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
