/* Conditions: what they find, and that nobody gets more than an answer out of them. */
#include "bank/write/deletion.h"
#include "bank_test.h"

#include <time.h>

enum { N = 100, WIDTH = 4 };
#define TEN(x) "replace(" x ", 'a', 'aaaaaaaaaa')"

static reco_bank *bank;

static int set_up_bank(void **state)
{
    if (set_up(state) != 0) return -1;
    const int64_t gone[] = {3, 50};
    build_numbered(in("b"), WIDTH, N, 3);
    ok(reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.ids = gone, .nids = 2}, NULL, NULL));
    ok(reco_bank_open(ctx, &bank, in("b")));
    return 0;
}

static int tear_down_bank(void **state)
{
    reco_bank_close(bank);
    return tear_down(state);
}

static size_t count(const char *where)
{
    reco_bank_filter *filter;
    ok(reco_bank_filter_where(ctx, &filter, bank, where));
    size_t n = reco_bank_filter_count(filter);
    reco_bank_filter_free(filter);
    return n;
}

static void test_conditions(void **state)
{
    (void)state;
    static const struct {
        const char *where;
        size_t n;
    } cases[] = {
        {"1", N - 2},
        {"0", 0},
        {"NULL", 0},
        {"id < 10", 9},
        {"id IN (3, 4, 50)", 1}, /* deleted rows never match */
        {"caption = 'caption 7'", 1},
        {"caption = \"caption 7\"", 1},
        {"[caption] = 'caption 7' OR `uri` = 'file:///8.jpg'", 2},
        {"uri LIKE 'file:///1%'", 11},
        {"json_extract(meta, '$.n') BETWEEN 10 AND 19", 10},
        {"meta ->> 'n' = 20", 1},
        /* The user's columns by their names. */
        {"n = 20", 1},
        {"n BETWEEN 10 AND 19 AND [n] <> 12 AND 'n' = 'n'", 9},
        {"id IN (SELECT p.id FROM pair p WHERE n < 10)", 9},
        {"EXISTS (SELECT 1 FROM json_each(json_array(n)) WHERE value = 5)", 1},
        {"meta->'$.n' >= 98 -- 3", 0}, /* replaced below: comments are refused */
        {"length(caption) = 9 AND NOT (id % 2)", 5},
        {"upper(caption) GLOB 'CAPTION *5'", 10},
        {"caption = ';--/*)' OR id = 1", 1},
        {"instr(caption, '(') = 0", N - 2},
        {"EXISTS (SELECT 1 FROM json_each(meta) WHERE value = 12)", 1},
        {"id = (SELECT max(id) FROM pair)", 1},
        {"(SELECT count(*) FROM pair) = 98 AND id = 4", 1}, /* deleted ones are not there either */
        {"id IN (SELECT id FROM pair WHERE id < 5)", 4},
        {"(SELECT count(mai.id) FROM pair mai, pair \"mainly\" WHERE mai.id = mainly.id AND '.main.' > '') "
         "= 98 AND id = 4",
         1},
        {"sqrt(id) = 3", 1},
        {"date('2024-02-01', '+1 day') = '2024-02-02' AND id = 0", 1},
        {"\n id = 1\n", 1},
        {"caption IS NOT NULL AND uri IS NULL", 0},
        {"CASE WHEN id = 6 THEN 1 ELSE 0 END", 1},
        {"(id, caption) = (6, 'caption 6')", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strstr(cases[i].where, "--") && !strstr(cases[i].where, "';--")) {
            reco_bank_filter *filter;
            refused(RECO_E_ARG, "comments", reco_bank_filter_where(ctx, &filter, bank, cases[i].where));
            assert_null(filter);
            continue;
        }
        size_t n = count(cases[i].where);
        if (n != cases[i].n) fail_msg("%s: %zu rows, want %zu", cases[i].where, n, cases[i].n);
    }
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *where, *says; /* behind |: with newer releases of SQLite */
    } cases[] = {
        {"", "empty"},
        {"  \n", "empty"},
        {"1; DROP TABLE pair", "\";\""},
        {"1) OR (1", "\")\" without"},
        {"1) --", "comments"},
        {"(1", "\"(\" without"},
        {"1)) UNION SELECT 1 FROM ((SELECT 1", "\")\" without"},
        {"1 --", "comments"},
        {"1 /* x", "comments"},
        {"caption = 'x", "quote"},
        {"caption = \"x", "quote"},
        {"[caption", "quote"},
        {"caption = 'a''", "quote"},
        {"id = ?1", "parameters"},
        {"id = $a()", "parameters"},
        {"id = :a", "parameters"},
        {"1, 2", "row value"},
        {"1 UNION SELECT 1", "syntax"},
        {"1 ORDER BY id", "syntax"},
        {"1 LIMIT 1", "syntax"},
        {"ATTACH 'x' AS y", "syntax"},
        {"PRAGMA user_version = 3", "syntax"},
        {"DELETE FROM pair", "syntax"},
        {"(INSERT INTO pair VALUES(1,2,3,4,5,6))", "syntax"},
        {"brand = 1", "no such column: brand, and no row has a value with this name"},
        {"n = 1 AND brand IS NULL", "no such column: brand"},
        {"pair.n = 1", "no such column: pair.n"},
        {"rowid = 1", "no such column"},
        {"deleted = 1", "no such column"},
        {"sum = 1", "no such column"},
        {"(SELECT sum FROM main.pair LIMIT 1)", "main."},
        {"(SELECT count(*) FROM main.pair) > 0", "main."}, /* deleted rows too */
        {"id IN (SELECT id FROM \"Main\" \n .pair)", "main."},
        {"id IN (SELECT id FROM [main]\xef\xbb\xbf.pair)", "main."},
        {"id IN (SELECT id FROM \xef\xbb\xbfmain.pair)", "main."},
        {"id IN (SELECT id FROM \xef\xbb\xbf\xef\xbb\xbf'main'.pair)", "main."},
        {"(SELECT d FROM bank)", "table bank"},
        {"(SELECT count(*) FROM bank)", "table bank"},
        {"EXISTS (SELECT 1 FROM segment)", "table segment"},
        {"id IN (SELECT next FROM job)", "table job"},
        {"id IN segment", "table segment"},
        {"(SELECT count(*) FROM sqlite_master)", "sqlite_master"},
        {"(SELECT sql FROM sqlite_schema LIMIT 1)", "sqlite_master"},
        {"(SELECT count(*) FROM sqlite_temp_master)", "sqlite_temp_master"},
        {"(SELECT count(*) FROM pragma_table_info('pair'))",
         "table-valued|table pragma_table_info is not allowed"},
        {"(SELECT count(*) FROM pragma_database_list)",
         "table-valued|table pragma_database_list is not allowed"},
        {"(SELECT count(*) FROM dbstat)", "table-valued|table dbstat is not allowed"},
        {"(SELECT count(*) FROM temp.staged)", "staged"},
        {"(SELECT count(*) FROM mine)", "table mine"},
        {"load_extension('/tmp/x.so')", "load_extension"},
        {"randomblob(1000000000) IS NULL", "randomblob"},
        {"zeroblob(1000000000) IS NULL", "zeroblob"},
        {"fts3_tokenizer('simple') IS NULL", "fts3_tokenizer"},
        {"readfile('/etc/passwd') IS NULL", "readfile"},
        {"sqlite_version() = '3'", "sqlite_version"},
        {"length(printf('%1000000000d', 1)) > 1", "printf"},
        {"length(format('%.*c', 100000000, 'x')) > 1", "format"},
        {"length(" TEN(TEN(TEN(TEN(TEN(TEN(TEN(TEN("'a'")))))))) ") > 1", "bytes"},
        {"(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c)",
         "table c"},
        {"(SELECT count(*) FROM pair a, pair b, pair c, pair d, pair e, pair f) > 0", "too long"},
        {"count(*) > 1", "aggregate"},
        {"row_number() OVER () > 1", "row_number"},
        {"RAISE(ABORT, 'x')", "RAISE"},
        {"json_extract(meta, 'no path')", "path"},
        {"caption LIKE (SELECT group_concat('%a', '') FROM pair a, pair b)", "pattern"},
        {"abs(-9223372036854775807 - 1) > 1", "overflow"},
        {"caption = 'x' COLLATE nowhere", "collation"},
        {"caption MATCH 'x'", "match"},
        {"json_patch(meta, meta) = meta", "json_patch"},
        {"(SELECT length(json_group_array(meta)) FROM pair) > 1", "json_group_array"},
        {"(SELECT length(group_concat(a.meta, hex(hex(hex(hex(hex(hex(b.meta)))))))) FROM pair a, pair b) "
         "> 1",
         "bytes"},
        {"instr(caption, caption, caption)", "instr"},
        {"caption LIKE", "syntax"},
        {"\"instr\"(caption, (SELECT group_concat('%a', '') FROM pair a, pair b))", "pattern"},
        {"[trim] (caption, (SELECT group_concat('%a', '') FROM pair a, pair b)) = 'x'", "pattern"},
        {"like((SELECT group_concat('%a', '') FROM pair a, pair b), caption)", "pattern"},
    };
    sql(in("b/bank.sqlite"), "CREATE TABLE mine(x)");
    reco_bank_close(bank);
    ok(reco_bank_open(ctx, &bank, in("b")));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reco_bank_filter *filter;
        reco_status status = reco_bank_filter_where(ctx, &filter, bank, cases[i].where);
        const char *error = reco_ctx_error(ctx);
        const char *says = cases[i].says;
        size_t n = strcspn(says, "|");
        bool said = memmem(error, strlen(error), says, n) || (says[n] && strstr(error, says + n + 1));
        if (status != RECO_E_ARG || filter || !said || strchr(error, '\n') ||
            strncmp(error, "where: ", 7) != 0)
            fail_msg("%s: got %s \"%s\", want \"%s\"", cases[i].where, reco_status_name(status), error,
                     says);
        /* The bank is none the worse. */
        if (i % 8 == 0) assert_int_equal(count("id < 10"), 9);
    }
    assert_numbered(bank, 20, 20);
}

/* Deep, long and many: an error, never a crash. */
static void test_large(void **state)
{
    (void)state;
    enum { MOST = 600000 };
    static char text[MOST + 1];
    reco_bank_filter *filter;
    memset(text, '(', 5000);
    text[5000] = '1';
    memset(text + 5001, ')', 5000);
    text[10001] = 0;
    refused(RECO_E_ARG, "where: ", reco_bank_filter_where(ctx, &filter, bank, text));
    memset(text, '-', MOST);
    for (size_t i = 1; i < MOST; i += 2) text[i] = ' ';
    text[100000] = '1';
    text[100001] = 0;
    reco_status deep = reco_bank_filter_where(ctx, &filter, bank, text);
    /* The first with newer releases of SQLite. */
    bool tree = strstr(reco_ctx_error(ctx), "Expression tree is too large");
    refused(RECO_E_ARG, tree ? "Expression tree is too large" : "parser stack", deep);
    size_t calls = (size_t)sprintf(text, "0");
    for (int i = 0; i < 1001; i++) calls += (size_t)sprintf(&text[calls % MOST], " OR id = (%d)", i);
    refused(RECO_E_ARG, "where: 1001 of", reco_bank_filter_where(ctx, &filter, bank, text));
    memset(text, '1', MOST);
    text[MOST] = 0;
    refused(RECO_E_ARG, "more than", reco_bank_filter_where(ctx, &filter, bank, text));
    size_t at = (size_t)sprintf(text, "id IN (0");
    while (at < 400000) at += (size_t)sprintf(text + at, ",%zu", at);
    sprintf(text + at, ")");
    assert_int_equal(count(text), 32); /* 0, 8, 10, 13, 16, ... 97 */
}

/* The warnings of a condition, joined. */
static char warned[4096];

static void hear(void *user, reco_log_level level, const char *message)
{
    (void)user;
    assert_int_equal(level, RECO_LOG_WARN);
    assert_null(strchr(message, '\n'));
    strncat(warned, message, sizeof warned - strlen(warned) - 2);
    strcat(warned, "|");
}

static const char price[] = "json_extract(meta,'$.price')";

/* Every way to compare a text with a number is told of, nothing else is, and nothing changes what is found. */
static void test_doubts(void **state)
{
    (void)state;
    static const struct {
        const char *where;
        size_t n;
        const char *says; /* NULL: nothing */
    } cases[] = {
        {"json_extract(meta,'$.price') < 50", 0, price},
        {"json_extract(meta,'$.price') > 100", 3, "CAST(json_extract(meta,'$.price') AS REAL)"},
        {"50>json_extract ( meta , '$.price' )", 0, "json_extract ( meta , '$.price' ) is text"},
        {"-5 <= json_extract(meta,'$.price')", 3, price},
        {"json_extract(meta,'$.price') = 49", 0, "compared with a number, 49 (3 times)"},
        {"NOT json_extract(meta,'$.price') <> 49 OR 0", 0, price},
        {"json_extract(meta,'$.price') != 49", 3, price},
        {"json_extract(meta,'$.price') == 49.0e0", 0, price},
        {"json_extract(meta,'$.price') IS 49", 0, price},
        {"json_extract(meta,'$.price') IS NOT 49", 4, price},
        {"(json_extract(meta,'$.price')) BETWEEN 10 AND 100", 0, price},
        {"json_extract(meta,'$.price') NOT BETWEEN 10 AND 100 AND id < 9", 3, price},
        {"50 BETWEEN json_extract(meta,'$.price') AND 100", 0, price},
        {"json_extract(meta,'$.price') IN (49, 120)", 0, price},
        {"json_extract(meta,'$.price') NOT IN (49, 120)", 3, price},
        {"meta->>'price' > 100", 3, "meta->>'price' is text"},
        {"meta ->> '$.price' > 100", 3, "meta ->> '$.price' is text"},
        {"pair.meta->>'price' > 100", 3, "pair.meta->>'price' is text"},
        {"meta->'n' > 100", 4, "write ->> instead of ->"},
        {"json_extract(meta,'$.n') < '3'", 4, "json_extract(meta,'$.n') is a number"},
        {"json_extract(meta,'$.n') IN ('1', '2')", 0, "without quotes"},
        {"meta->>'n' = '1'", 0, "without quotes"},
        {"caption > 5", 4, "character by character"},
        {"caption BETWEEN 5 AND 7", 0, "CAST(caption AS REAL)"},
        {"substr(caption, 1, 1) > 5", 4, "substr(caption, 1, 1) is text"},
        {"trim(meta->>'price', ' ') > 5", 3, "trim(meta->>'price', ' ') is text"},
        {"id = 0 OR (id = 1 AND meta->>'price' > 100)", 2, "(1 time)"},
        {"CASE WHEN meta->>'price' > 100 THEN id = 1 END", 1, "meta->>'price' is text"},
        {"iif(meta->>'price' > 100, 1, 0)", 3, "meta->>'price' is text"},
        {"EXISTS (SELECT 1 FROM json_each(meta, '$.sizes') WHERE value > 40)", 1, "value is text"},
        {"id IN (SELECT p.id FROM pair p WHERE p.meta->>'price' > 100)", 3, "p.meta->>'price' is text"},
        {"meta->>'price' COLLATE NOCASE > 100", 3, "is text"},
        {"meta->>'price' > 50 + 50", 3, "is text"},
        {"meta->>'price' > meta->>'n'", 3, "is text"},
        {"meta->>'price' > TRUE", 3, "is text"},
        {"meta->>'price' IS NOT DISTINCT FROM 49", 0, "is text"},
        {"meta->>'price' > 100 AND meta->>'n' < '7'", 3, "'price' is text|n' is a number"},
        {"(SELECT count(*) FROM pair p WHERE p.meta->>'price' > 100) > 2", 4, "is text"},
        /* nothing to say */
        {"CAST(json_extract(meta,'$.price') AS REAL) < 50 AND meta->>'price'", 2, NULL},
        {"CAST(replace(meta->>'price', ',', '.') AS REAL) > 100", 1, NULL},
        {"json_extract(meta,'$.price') + 0 > 100", 1, NULL},
        {"-(meta->>'price') < -100", 1, NULL},
        {"2 * json_extract(meta,'$.price') > 200", 1, NULL},
        {"json_extract(meta,'$.price') = '49'", 1, NULL},
        {"json_extract(meta,'$.price') > '5'", 1, NULL},
        {"json_extract(meta,'$.n') > 1 AND meta->>'n' BETWEEN 2 AND 3", 2, NULL},
        {"json_extract(meta,'$.nothing') > 5", 0, NULL},
        {"meta->>'price' IN ('49', 49)", 1, NULL}, /* who writes this knows */
        {"length(meta->>'price') > 2", 2, NULL},
        {"id < 2 AND id > '0'", 1, NULL}, /* the column makes the text a number */
        {"id = meta->>'price' OR id = '1'", 1, NULL},
        {"caption = 5 OR caption IN (5, 6)", 0, NULL}, /* and here the number a text */
        {"caption > 'b' AND uri = 'x'", 0, NULL},
        {"(SELECT c FROM (SELECT p.id AS c FROM pair p WHERE p.id = pair.id) WHERE c = '1')", 1, NULL},
        {"typeof(meta->>'price') <> 'text' AND meta->>'price' > 100", 0, NULL},
        {"meta->>'price' IS NULL OR meta->>'price' IS TRUE", 4, NULL},
        {"meta->>'price' LIKE '1%' OR meta->>'n' LIKE '9%'", 2, NULL},
        {"caption = '5 > 3' OR meta->>'price' = 'x > 5'", 0, NULL},
        {"id IN (SELECT 1 UNION SELECT 2)", 2, NULL},
        {"(id, caption) < (1, 'a')", 1, NULL},
    };
    static const char *const meta[] = {"{\"price\":\"7.5\",\"n\":1}",
                                       "{\"price\":\"49\",\"n\":2,\"sizes\":[1,\"50\"]}",
                                       "{\"price\":\"120\",\"n\":3}", "{\"n\":9}"};
    reco_ctx_free(ctx);
    ok(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1, .log = hear}));
    reco_bank_spec spec = {.d = WIDTH};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    float rows[4 * WIDTH];
    reco_pair pairs[4];
    for (size_t i = 0; i < 4; i++) {
        numbered_unit(rows + i * WIDTH, WIDTH, RECO_IMAGE, i);
        pairs[i] = (reco_pair){.caption = "a tent", .meta = meta[i]};
    }
    ok(reco_bank_writer_open(ctx, &w, in("p"), &spec, "p", &next, &done));
    ok(reco_bank_append(ctx, w, rows, rows, pairs, 4));
    ok(reco_bank_commit(ctx, w, 4, 1));
    reco_bank_writer_close(w);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reco_bank *prices;
        reco_bank_filter *filter;
        char says[200] = "";
        ok(reco_bank_open(ctx, &prices, in("p")));
        warned[0] = 0;
        ok(reco_bank_filter_where(ctx, &filter, prices, cases[i].where));
        size_t n = reco_bank_filter_count(filter);
        if (n != cases[i].n) fail_msg("%s: %zu rows, want %zu", cases[i].where, n, cases[i].n);
        if (!cases[i].says && *warned) fail_msg("%s: \"%s\"", cases[i].where, warned);
        if (cases[i].says) strcpy(says, cases[i].says);
        for (char *part = strtok(says, "|"); part; part = strtok(NULL, "|"))
            if (!strstr(warned, part)) fail_msg("%s: \"%s\", want \"%s\"", cases[i].where, warned, part);
        /* In pages it is said once. */
        int64_t id;
        ok(reco_bank_select(ctx, prices, cases[i].where, 0, 1, &id, &n));
        char before[sizeof warned];
        strcpy(before, warned);
        ok(reco_bank_select(ctx, prices, cases[i].where, 1, 1, &id, &n));
        assert_string_equal(warned, before);
        reco_bank_filter_free(filter);
        reco_bank_close(prices);
    }
    /* A deletion knows of it, too. */
    reco_bank_deletion *d;
    uint64_t picked;
    ok(reco_bank_deletion_open(ctx, &d, in("p"), false, true));
    ok(reco_bank_deletion_where(ctx, d, "meta->>'n' > 2", &picked));
    assert_int_equal(picked, 2);
    assert_int_equal(d->doubts, 0);
    ok(reco_bank_deletion_where(ctx, d, "meta->>'price' > 100", &picked));
    assert_int_equal(d->doubts, 1);
    reco_bank_deletion_close(d);
}

static void test_select(void **state)
{
    (void)state;
    int64_t ids[10];
    size_t n;
    ok(reco_bank_select(ctx, bank, "id % 2", 0, 3, ids, &n));
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 5);
    ok(reco_bank_select(ctx, bank, "id % 2", ids[2] + 1, 10, ids, &n));
    assert_int_equal(n, 10);
    assert_int_equal(ids[0], 9);
    ok(reco_bank_select(ctx, bank, "id > 96", 0, 10, ids, &n));
    assert_int_equal(n, 3);
    ok(reco_bank_select(ctx, bank, NULL, 2, 2, ids, &n));
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], 4);
    ok(reco_bank_select(ctx, bank, "1", 0, 0, ids, &n));
    assert_int_equal(n, 0);
}

/* A reader's conditions are answered by its snapshot, and the search among them is that of the rows by hand. */
static void test_snapshot_and_search(void **state)
{
    (void)state;
    const int64_t gone = 10;
    ok(reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.ids = &gone, .nids = 1}, NULL, NULL));
    assert_int_equal(count("id = 10"), 1);
    reco_bank *later;
    reco_bank_filter *filter, *by_hand;
    ok(reco_bank_open(ctx, &later, in("b")));
    ok(reco_bank_filter_where(ctx, &filter, later, "id = 10 OR json_extract(meta, '$.n') % 10 = 0"));
    assert_int_equal(reco_bank_filter_count(filter), 8);
    const int64_t ids[] = {0, 20, 30, 40, 60, 70, 80, 90};
    ok(reco_bank_filter_ids(ctx, &by_hand, later, ids, 8));
    float query[WIDTH], scores[2][10];
    int64_t found[2][10];
    numbered_unit(query, WIDTH, RECO_IMAGE, 30);
    for (int i = 0; i < 2; i++) {
        reco_search_opts opts = {.k = 10, .min_similarity = -1, .filter = i ? by_hand : filter};
        ok(reco_bank_search(ctx, later, RECO_IMAGE, query, 1, &opts,
                            &(reco_hits){.ids = found[i], .scores = scores[i]}));
    }
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    assert_int_equal(found[0][0], 30);
    assert_int_equal(found[0][8], -1);
    reco_bank_filter_free(filter);
    reco_bank_filter_free(by_hand);
    reco_bank_close(later);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_conditions, set_up_bank, tear_down_bank),
        cmocka_unit_test_setup_teardown(test_hostile, set_up_bank, tear_down_bank),
        cmocka_unit_test_setup_teardown(test_large, set_up_bank, tear_down_bank),
        cmocka_unit_test_setup_teardown(test_doubts, set_up_bank, tear_down_bank),
        cmocka_unit_test_setup_teardown(test_select, set_up_bank, tear_down_bank),
        cmocka_unit_test_setup_teardown(test_snapshot_and_search, set_up_bank, tear_down_bank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
