/* Conditions are rewritten before they run: what they find is what SQLite finds with them as they were written. */
#include "bank_test.h"

enum { CONDITIONS = 1500, WIDTH = 4, ROWS = 8, ROOM = 16384 };

static uint64_t seed = 1;

static unsigned pick(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* \1 stands for a condition, \2 for an operand. */
static const char *const conditions[] = {"\2 < \2",
                                         "\2>=\2",
                                         "\2 = \2",
                                         "\2 <> \2",
                                         "\2!=\2",
                                         "\2 IS \2",
                                         "\2 IS NOT \2",
                                         "\2 IS NOT DISTINCT FROM \2",
                                         "\2 BETWEEN \2 AND \2",
                                         "\2 NOT BETWEEN \2 AND \2",
                                         "\2 IN (\2, \2)",
                                         "\2 NOT IN (\2)",
                                         "\2 IN ()",
                                         "\2 LIKE \2",
                                         "\2 NOT LIKE \2 ESCAPE 'a'",
                                         "\2 GLOB \2",
                                         "\2 ISNULL",
                                         "\2 NOT NULL",
                                         "(\2, \2) < (\2, \2)",
                                         "NOT \1",
                                         "(\1)",
                                         "\1 AND \1",
                                         "\1 OR \1",
                                         "\1 = \1",
                                         "\1 < \1",
                                         "\1 IS NOT \1",
                                         "\1 LIKE \1",
                                         "\1 BETWEEN \1 AND \1",
                                         "EXISTS (SELECT 1 FROM pair p WHERE p.id < pair.id AND \1)",
                                         "id IN (SELECT p.id FROM pair p WHERE \1)"};
static const char *const operands[] = {
    "(\2)",
    "\2 + \2",
    "\2 || \2",
    "\2*\2",
    "\2 & \2",
    "- \2",
    "+\2",
    "CAST(\2 AS REAL)",
    "CAST(\2 AS TEXT)",
    "\2 COLLATE NOCASE",
    "length(\2)",
    "trim(\2, \2)",
    "instr(\2, \2)",
    "replace(\2, \2, \2)",
    "like(\2, \2)",
    "coalesce(\2, \2)",
    "CASE WHEN \1 THEN \2 ELSE \2 END",
    "CASE \2 WHEN \2 THEN \2 END",
    "iif(\1, \2, \2)",
    "(SELECT count(*) FROM pair p WHERE \1)",
    "(SELECT max(value) FROM json_each(pair.meta, '$.s') WHERE value > \2)"};
static const char *const leaves[] = {"5",
                                     "49",
                                     "1e1",
                                     ".5",
                                     "0x10",
                                     "'49'",
                                     "'caption 3'",
                                     "NULL",
                                     "TRUE",
                                     "''",
                                     "\"x y\"",
                                     "json_extract(meta, '$.p')",
                                     "(meta->>'p')",
                                     "(meta -> '$.p')",
                                     "(pair.meta->>'n')",
                                     "id",
                                     "caption",
                                     "uri",
                                     "meta",
                                     "[id]"};
#define ANY(list) (list)[pick(sizeof(list) / sizeof *(list))]

static void grow(char *to, char symbol, int depth)
{
    const char *rule = symbol == 1 && depth < 4 ? ANY(conditions)
                       : depth < 4 && pick(2)   ? ANY(operands)
                                                : ANY(leaves);
    for (; *rule && strlen(to) < ROOM - 100; rule++)
        if (*rule <= 2)
            grow(to, *rule, depth + 1);
        else
            strncat(to, rule, 1);
}

static void test_same(void **state)
{
    (void)state;
    static char where[ROOM], text[ROOM + 300];
    unsigned found = 0, failed = 0;
    build_numbered(in("b"), WIDTH, ROWS, 1);
    sql(in("b/bank.sqlite"), "UPDATE pair SET meta = json_object('n', id, 's', json_array(id, '5'), 'p', "
                             "CASE id WHEN 0 THEN '7.5' WHEN 1 THEN 7.5 WHEN 2 THEN 49 WHEN 3 THEN '49' "
                             "WHEN 4 THEN 'x' WHEN 5 THEN '' WHEN 6 THEN -3 END)");
    reco_bank *bank;
    sqlite3 *db;
    ok(reco_bank_open(ctx, &bank, in("b")));
    assert_int_equal(sqlite3_open(in("b/bank.sqlite"), &db), SQLITE_OK);
    for (int i = 0; i < CONDITIONS; i++) {
        int64_t ids[ROWS], want[ROWS];
        size_t n, nwant = 0;
        sqlite3_stmt *s;
        where[0] = 0;
        grow(where, 1, 0);
        snprintf(text, sizeof text,
                 "WITH pair(id, caption, uri, meta) AS NOT MATERIALIZED (SELECT id, caption, uri, meta "
                 "FROM main.pair) "
                 "SELECT id FROM pair WHERE id >= ?1 AND (%s) ORDER BY id",
                 where);
        int rc = sqlite3_prepare_v2(db, text, -1, &s, NULL);
        if (rc == SQLITE_OK) sqlite3_bind_int64(s, 1, 0);
        while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
            want[nwant++] = sqlite3_column_int64(s, 0);
            rc = SQLITE_OK;
        }
        sqlite3_finalize(s);
        reco_status status = reco_bank_select(ctx, bank, where, 0, ROWS, ids, &n);
        if ((status == RECO_OK) != (rc == SQLITE_DONE))
            fail_msg("%s: %s, SQLite says %s", where, status ? reco_ctx_error(ctx) : "ok",
                     sqlite3_errstr(rc));
        if (status == RECO_OK && (n != nwant || memcmp(ids, want, n * sizeof *ids) != 0))
            fail_msg("%s: %zu rows, SQLite finds %zu", where, n, nwant);
        failed += status != RECO_OK;
        found += status == RECO_OK && n > 0 && n < ROWS;
    }
    assert_true(found > CONDITIONS / 10 && failed < CONDITIONS / 10);
    sqlite3_close(db);
    reco_bank_close(bank);
}

/* Any row of tokens, most of them no condition, is answered or refused. */
static void test_noise(void **state)
{
    (void)state;
    static const char *const tokens[] = {"(",       ")",      ",",        "=",
                                         "<",       ">=",     "<>",       "->",
                                         "->>",     "||",     "-",        "+",
                                         "*",       "NOT",    "AND",      "OR",
                                         "BETWEEN", "IN",     "IS",       "LIKE",
                                         "GLOB",    "ESCAPE", "CASE",     "WHEN",
                                         "THEN",    "ELSE",   "END",      "CAST",
                                         "AS",      "REAL",   "COLLATE",  "NOCASE",
                                         "NULL",    "TRUE",   "DISTINCT", "FROM",
                                         "SELECT",  "VALUES", "EXISTS",   "ISNULL",
                                         "pair",    "meta",   "id",       "caption",
                                         "value",   ".",      "'$.p'",    "5",
                                         "1e",      "0x",     ".5",       "x'00'",
                                         "instr",   "trim",   "like",     "json_extract",
                                         "\"q\"",   "[b]",    "`c`",      "\xef\xbb\xbf",
                                         "\xc3",    "'"};
    static char where[ROOM];
    reco_bank *bank;
    build_numbered(in("b"), WIDTH, ROWS, 1);
    ok(reco_bank_open(ctx, &bank, in("b")));
    for (int i = 0; i < 4 * CONDITIONS; i++) {
        int64_t ids[ROWS];
        size_t n;
        where[0] = 0;
        for (unsigned j = 1 + pick(12); j; j--) {
            strcat(where, ANY(tokens));
            if (pick(4)) strcat(where, " ");
        }
        reco_status status = reco_bank_select(ctx, bank, where, 0, ROWS, ids, &n);
        if (status != RECO_OK && status != RECO_E_ARG) fail_msg("%s: %s", where, reco_ctx_error(ctx));
    }
    reco_bank_close(bank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_same, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_noise, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
