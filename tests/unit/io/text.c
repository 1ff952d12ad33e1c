/* Lines, records, json and hashes. */
#include "fixture.h"

static void is_line(reco_lines *lines, const char *want, size_t want_bytes)
{
    const char *line;
    size_t bytes;
    OK(reco_lines_next(ctx, lines, &line, &bytes));
    if (!want) {
        assert_null(line);
        return;
    }
    assert_non_null(line);
    assert_int_equal(bytes, want_bytes);
    assert_memory_equal(line, want, bytes + 1); /* NUL follows */
}

static void test_lines(void **state)
{
    (void)state;
    reco_lines *lines;
    const char text[] = "\xef\xbb\xbf"
                        "one\r\n\ntwo\rmore\n\0x\n\xff last\r";
    OK(reco_lines_open(ctx, &lines, put("lines", text, sizeof text - 1)));
    is_line(lines, "one", 3);
    is_line(lines, "", 0);
    is_line(lines, "two\rmore", 8);
    is_line(lines, "\0x", 2);
    is_line(lines, "\xff last\r", 7);
    is_line(lines, NULL, 0);
    is_line(lines, NULL, 0);
    reco_lines_close(lines);
    OK(reco_lines_open(ctx, &lines, put_text("empty", "")));
    is_line(lines, NULL, 0);
    reco_lines_close(lines);
    OK(reco_lines_open(ctx, &lines, put_text("mark", "\xef\xbb\xbf")));
    is_line(lines, NULL, 0);
    reco_lines_close(lines);
    OK(reco_lines_open(ctx, &lines, put_text("mark", "\xef\xbb\xbf\nx")));
    is_line(lines, "", 0);
    is_line(lines, "x", 1);
    reco_lines_close(lines);
    reco_lines_close(NULL);
    failed(reco_lines_open(ctx, &lines, root), RECO_E_IO, "is a directory, want a file");
    failed(reco_lines_open(ctx, &lines, at("none")), RECO_E_IO, "none: No such file or directory");
    assert_null(lines);
}

static void test_long_lines(void **state)
{
    (void)state;
    const size_t max = 1 << 20;
    char *text = reco_alloc(ctx, 2 * max + 16, 1, "test");
    memset(text, 'x', 2 * max + 16);
    reco_lines *lines;
    const char *line;
    size_t bytes;
    memcpy(text + max, "\r\n", 2);
    memcpy(text + 2 * max + 2, "\n", 1);
    OK(reco_lines_open(ctx, &lines, put("long", text, 2 * max + 6)));
    for (int i = 0; i < 2; i++) {
        OK(reco_lines_next(ctx, lines, &line, &bytes));
        assert_int_equal(bytes, max);
    }
    is_line(lines, "xxx", 3);
    reco_lines_close(lines);
    text[max] = text[max + 1] = 'x';
    text[3] = '\n';
    OK(reco_lines_open(ctx, &lines, put("longer", text, 2 * max)));
    is_line(lines, "xxx", 3);
    failed(reco_lines_next(ctx, lines, &line, &bytes), RECO_E_FORMAT,
           "longer:2: line is longer than 1048576 bytes");
    reco_lines_close(lines);
    OK(reco_lines_open(ctx, &lines, "/dev/zero")); /* never ends, never fills the memory */
    failed(reco_lines_next(ctx, lines, &line, &bytes), RECO_E_FORMAT, "/dev/zero:1: line is longer");
    reco_lines_close(lines);
    reco_free(text);
}

/* Compare the next record, as compact json with sorted keys; a bad one by part of its reason. */
static void is_record(reco_records *r, uint64_t want_number, const char *want, const char *want_bad)
{
    json_t *row;
    uint64_t number;
    const char *bad;
    OK(reco_records_next(ctx, r, &row, &number, &bad));
    if (want_bad) {
        assert_null(row);
        if (!bad || !strstr(bad, want_bad)) fail_msg("\"%s\", want \"%s\"", bad ? bad : "(good)", want_bad);
    } else if (bad)
        fail_msg("unexpected: %s", bad);
    if (want || want_bad) assert_int_equal(number, want_number);
    if (want) {
        char *text = json_dumps(row, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(text, want);
        free(text);
    } else
        assert_null(row);
    json_decref(row);
}

static reco_records *records(const char *name, const char *text)
{
    reco_records *r;
    OK(reco_records_open(ctx, &r, put_text(name, text), NULL));
    return r;
}

static void test_csv(void **state)
{
    (void)state;
    reco_records *r = records("a.csv", "\xef\xbb\xbfimage,caption\r\n"
                                       "1.jpg,\"a \"\"red\"\" cat, asleep\"\r\n"
                                       "\r\n"
                                       "2.jpg,\"two\r\nlines\n\n\"\n"
                                       ",\n"
                                       "\"\",5\" pipe\n"
                                       "\xc3\xa9,last");
    is_record(r, 0, "{\"caption\":\"a \\\"red\\\" cat, asleep\",\"image\":\"1.jpg\"}", NULL);
    is_record(r, 1, "{\"caption\":\"two\\r\\nlines\\n\\n\",\"image\":\"2.jpg\"}", NULL);
    is_record(r, 2, "{\"caption\":\"\",\"image\":\"\"}", NULL);
    is_record(r, 3, "{\"caption\":\"5\\\" pipe\",\"image\":\"\"}", NULL);
    is_record(r, 4, "{\"caption\":\"last\",\"image\":\"\xc3\xa9\"}", NULL);
    is_record(r, 0, NULL, NULL);
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);

    r = records("a.TSV", "x\ty\n1,2\t\"a\tb\"\n");
    is_record(r, 0, "{\"x\":\"1,2\",\"y\":\"a\\tb\"}", NULL);
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);
    r = records("header.csv", "only,header");
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);
    reco_records_close(NULL);
}

static void test_damaged_csv(void **state)
{
    (void)state;
    const char text[] = "label,b\n1\n1,2,3\n\"1\"x,2\n\xff,2\nz\0z,2\n1,2\n3,\"open\nto the\nend";
    reco_records *r;
    OK(reco_records_open(ctx, &r, put("bad.csv", text, sizeof text - 1), NULL));
    is_record(r, 0, "{\"label\":\"1\"}", NULL); /* pandas fills short rows */
    is_record(r, 1, NULL, "line 3: 3 fields, want 2");
    is_record(r, 2, "{\"b\":2,\"label\":\"1x\"}", NULL); /* pandas again */
    is_record(r, 3, NULL, "line 5: field \"label\" is not UTF-8 (give its encoding with --encoding");
    is_record(r, 4, NULL, "line 6: field \"label\" holds a NUL byte");
    is_record(r, 5, "{\"b\":2,\"label\":\"1\"}", NULL);
    is_record(r, 6, NULL, "line 8: field 2: a quote is never closed");
    is_record(r, 7, "{\"label\":\"to the\"}", NULL); /* what stands below does not suffer */
    is_record(r, 8, "{\"label\":\"end\"}", NULL);
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);

    failed(reco_records_open(ctx, &r, put_text("e.csv", "\n\n"), NULL), RECO_E_FORMAT,
           "e.csv: is empty, want a header row");
    failed(reco_records_open(ctx, &r, put_text("u.csv", "a,\xff\n"), NULL), RECO_E_FORMAT,
           "u.csv: header row: name of column 2 is not UTF-8");
    failed(reco_records_open(ctx, &r, put_text("q.csv", "a,\"b\n"), NULL), RECO_E_FORMAT,
           "q.csv: header row: a quote is never closed");
    failed(reco_records_open(ctx, &r, put_text("x.doc", "a\n"), NULL), RECO_E_UNSUPPORTED,
           "x.doc: want a name that ends in .csv");
    failed(reco_records_open(ctx, &r, at("none.csv"), NULL), RECO_E_IO, "none.csv: No such file");
    char wide[4097 + 6];
    memset(wide, ',', sizeof wide);
    memcpy(wide, "a,b\n", 4);
    wide[sizeof wide - 1] = 0;
    r = records("wide.csv", wide);
    is_record(r, 0, NULL, "more than 4096 fields");
    reco_records_close(r);
    assert_int_equal(mkdir(at("dir.csv"), 0700), 0);
    failed(reco_records_open(ctx, &r, at("dir.csv"), NULL), RECO_E_IO, "is a directory, want a file");
    assert_null(r);
}

static void test_large_records(void **state)
{
    (void)state;
    const size_t n = (17 << 20);
    char *text = reco_alloc(ctx, n, 1, "test");
    memset(text, 'x', n);
    for (size_t i = 1000; i < n; i += 1000) text[i] = '\n';
    memcpy(text, "a\n\"", 3);
    reco_records *r;
    json_t *row;
    uint64_t number;
    const char *bad;
    OK(reco_records_open(ctx, &r, put("open.csv", text, n), NULL));
    is_record(r, 0, NULL, "line 2: field 1: the record spans more than 100 lines: is a quote left open?");
    OK(reco_records_next(ctx, r, &row, &number, &bad));
    assert_non_null(row);
    json_decref(row);
    reco_records_close(r);
    memset(text, 'x', n);
    memcpy(text, "a\n\"", 3);
    memcpy(text + n - 4, "\nb\nc", 4);
    r = NULL;
    OK(reco_records_open(ctx, &r, put("long.csv", text, n), NULL));
    is_record(r, 0, NULL, "line 2: field 1: record is longer than 16777216 bytes");
    is_record(r, 1, "{\"a\":\"b\"}", NULL);
    is_record(r, 2, "{\"a\":\"c\"}", NULL);
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);
    memset(text, 'x', n); /* a header that never ends */
    memcpy(text, "a,\"", 3);
    failed(reco_records_open(ctx, &r, put("head.csv", text, n), NULL), RECO_E_FORMAT,
           "head.csv: header row: ");
    text[n - 1] = '\n';
    failed(reco_records_open(ctx, &r, put("head.csv", text, 200000), NULL), RECO_E_FORMAT,
           "head.csv: header row: a quote is never closed");
    memset(text, 'x', n);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + n - 9, "\n{\"b\":1}", 9);
    OK(reco_records_open(ctx, &r, put("wide.jsonl", text, n), NULL));
    is_record(r, 0, NULL, "line 1: ");
    is_record(r, 1, "{\"b\":1}", NULL);
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);
    reco_free(text);
}

static void test_jsonl(void **state)
{
    (void)state;
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "\xef\xbb\xbf{\"a\":1,\"b\":[true,null]}\r\n \t\n{\"a\":\n[1]\n{\"a\":1,\"a\":2}\n"
                     "{\"a\":\"\xff\"}\n{} x\n{\"deep\":");
    memset(text + n, '[', 200);
    snprintf(text + n + 200, sizeof text - (size_t)n - 200, "\n {\"last\":\"\\u00e9\"}");
    reco_records *r = records("a.jsonl", text);
    is_record(r, 0, "{\"a\":1,\"b\":[true,null]}", NULL);
    is_record(r, 1, NULL, "line 3: ");
    is_record(r, 2, NULL, "line 4: want a JSON object");
    is_record(r, 3, "{\"a\":2}", NULL);
    is_record(r, 4, "{\"a\":\"\xef\xbf\xbd\"}", NULL);
    is_record(r, 5, NULL, "line 7: end of file expected");
    is_record(r, 6, NULL, "line 8: more than 100 levels deep");
    is_record(r, 7, "{\"last\":\"\xc3\xa9\"}", NULL);
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);
    r = records("empty.ndjson", "");
    is_record(r, 0, NULL, NULL);
    reco_records_close(r);
}

static void test_json(void **state)
{
    (void)state;
    json_t *json;
    OK(reco_json_load(ctx, &json, put_text("a.json", "\xef\xbb\xbf{\"a\": \"]]]\\\"[[[\"}")));
    assert_string_equal(json_string_value(json_object_get(json, "a")), "]]]\"[[[");
    json_decref(json);
    failed(reco_json_load(ctx, &json, put_text("b.json", "{\n\"a\": tru\n}")), RECO_E_FORMAT, "b.json:2: ");
    failed(reco_json_load(ctx, &json, put_text("d.json", "{\n\"a\":1,\n\"a\":1}")), RECO_E_FORMAT,
           "d.json:3: duplicate object key");
    failed(reco_json_load(ctx, &json, put_text("e.json", "")), RECO_E_FORMAT, "e.json: is empty");
    failed(reco_json_load(ctx, &json, at("none.json")), RECO_E_IO, "none.json: No such file");
    char deep[512];
    for (int depth = 100; depth <= 200; depth += 100) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        deep[2 * depth] = 0;
        deep[0] = '[';
        put_text("deep.json", deep);
        if (depth == 100)
            OK(reco_json_load(ctx, &json, at("deep.json")));
        else
            failed(reco_json_load(ctx, &json, at("deep.json")), RECO_E_FORMAT,
                   "deep.json:1: more than 100 levels deep");
        json_decref(json);
    }
}

static void test_many_values(void **state)
{
    (void)state;
    const size_t n = 4000002;
    char *text = reco_alloc(ctx, n, 1, "test");
    memset(text, ',', n);
    memcpy(text, "\n[", 2);
    json_t *json;
    failed(reco_json_load(ctx, &json, put("values.json", text, n)), RECO_E_FORMAT,
           "values.json:2: more than 4000000 values");
    reco_free(text);
}

static void test_hash(void **state)
{
    (void)state;
    assert_true(reco_hash64("", 0, 0) == 0x2d06800538d394c2u); /* of the xxHash specification */
    assert_true(reco_hash64("a", 1, 0) != reco_hash64("a", 1, 1));
    char hex[33], same[33];
    reco_hash *h;
    OK(reco_hash_new(ctx, &h));
    reco_hash_hex(h, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    char *text = reco_alloc(ctx, 3 << 20, 1, "test");
    for (size_t i = 0; i < 3 << 20; i++) text[i] = (char)(i % 251);
    OK(reco_hash_new(ctx, &h));
    for (size_t i = 0; i < 3 << 20; i += 1 << 19) reco_hash_update(h, text + i, 1 << 19);
    reco_hash_update(h, NULL, 0);
    reco_hash_hex(h, hex);
    OK(reco_hash_file(ctx, put("hashed", text, 3 << 20), same));
    assert_string_equal(hex, same);
    failed(reco_hash_file(ctx, root, same), RECO_E_IO, "is a directory");
    reco_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),         cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_csv),           cmocka_unit_test(test_damaged_csv),
        cmocka_unit_test(test_large_records), cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_json),          cmocka_unit_test(test_many_values),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
