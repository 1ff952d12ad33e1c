/* The part of TOML that configurations have: what is read, as which value and from which line; what is refused, and how. */
#include "fixture.h"

#include "io/toml.h"

static reco_toml toml;

static const json_t *value(const char *table, const char *key)
{
    for (size_t i = 0; i < toml.n; i++)
        if (strcmp(toml.entries[i].table, table) == 0 && strcmp(toml.entries[i].key, key) == 0)
            return toml.entries[i].value;
    fail_msg("no %s.%s", table, key);
    return NULL;
}

/* A value alone, as JSON. */
static void reads(const char *text, const char *want)
{
    char line[512];
    snprintf(line, sizeof line, "k = %s", text);
    OK(reco_toml_read(ctx, &toml, put_text("v.toml", line)));
    assert_int_equal(toml.n, 1);
    char *met = json_dumps(toml.entries[0].value, JSON_ENCODE_ANY | JSON_COMPACT);
    assert_non_null(met);
    if (strcmp(met, want) != 0) fail_msg("%s: %s, want %s", text, met, want);
    free(met);
    reco_toml_free(&toml);
}

static void refuses_bytes(const char *text, size_t bytes, const char *says)
{
    failed(reco_toml_read(ctx, &toml, put("bad.toml", text, bytes)), RECO_E_FORMAT, says);
    reco_toml_free(&toml);
}

static void refuses(const char *text, const char *says) { refuses_bytes(text, strlen(text), says); }

static void file(void **state)
{
    (void)state;
    OK(reco_toml_read(ctx, &toml,
                      put_text("a.toml", "\xef\xbb\xbf# a comment\r\n"
                                         "top = 1 # behind\r\n"
                                         "\n"
                                         "[one]\n"
                                         "a-b_3 = 'x'\n"
                                         "\"quoted key\" = true\n"
                                         "[ \"two words\" ] # behind\n"
                                         "a-b_3 = [\n"
                                         "  1, # one\n"
                                         "  [ \"two\", ],\n"
                                         "]\n"
                                         "last = 1.5\n"
                                         "[none]")));
    assert_int_equal(toml.n, 5);
    assert_int_equal(json_integer_value(value("", "top")), 1);
    assert_string_equal(json_string_value(value("one", "a-b_3")), "x");
    assert_true(json_is_true(value("one", "quoted key")));
    const json_t *list = value("two words", "a-b_3");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_array_get(json_array_get(list, 1), 0)), "two");
    const size_t lines[] = {2, 5, 6, 8, 12};
    for (size_t i = 0; i < toml.n; i++) assert_int_equal(toml.entries[i].line, lines[i]);
    reco_toml_free(&toml);
    OK(reco_toml_read(ctx, &toml, put_text("empty.toml", "")));
    assert_int_equal(toml.n, 0);
    reco_toml_free(&toml);
}

static void values(void **state)
{
    (void)state;
    reads("0", "0");
    reads("-0", "0");
    reads("+17", "17");
    reads("1_000_000", "1000000");
    reads("9223372036854775807", "9223372036854775807");
    reads("-9223372036854775808", "-9223372036854775808");
    reads("1e3", "1000.0");
    reads("-2.5E-1", "-0.25");
    reads("3_0.2_5", "30.25");
    reads("3.14159265358979323846", "3.1415926535897931");
    reads("1e+03", "1000.0");
    reads("true", "true");
    reads("false # not true", "false");
    reads("[]", "[]");
    reads("[ ]", "[]");
    reads("[1,\n\n 2 , # two\n]", "[1,2]");
    reads("['a', \"b\", [true]]", "[\"a\",\"b\",[true]]");
    reads("\"\"", "\"\"");
    reads("'C:\\n\\\\'", "\"C:\\\\n\\\\\\\\\"");
    reads("\"\\b\\t\\n\\f\\r\\\"\\\\\"", "\"\\b\\t\\n\\f\\r\\\"\\\\\"");
    reads("\"tab\there\"", "\"tab\\there\"");
    reads("\"\\u00e9\\u20AC\\U0001F600\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    reads("\"#no comment\"", "\"#no comment\"");
}

static void bad_values(void **state)
{
    (void)state;
    const char *const not_values[] = {"",     "# comment", "bare",       "1 2",  "01",   "1.",  ".5",
                                      "1__0", "_1",        "1_",         "1e",   "0x10", "inf", "nan",
                                      "--1",  "+-1",       "1979-05-27", "True", "truex"};
    for (size_t i = 0; i < sizeof not_values / sizeof *not_values; i++) {
        char line[64];
        snprintf(line, sizeof line, "\nk = %s\n", not_values[i]);
        refuses(line, "bad.toml:2: want ");
    }
    refuses("k = 9223372036854775808", "bad.toml:1: a number out of range");
    refuses("k = 1e999", "a number out of range");
    refuses("k = 1111111111111111111111111111111111111111111111111111111111111111", "too many digits");
    refuses("k = \"open\nl = 1", "bad.toml:1: a string that does not end on its line");
    refuses("k = 'open", "a string that does not end on its line");
    refuses("k = \"\"\"x\"\"\"", "strings of several lines are not supported");
    refuses("k = '''x'''", "strings of several lines are not supported");
    refuses("k = \"\\q\"", "no such escape");
    refuses("k = \"\\u12g4\"", "no such escape");
    refuses("k = \"\\u12", "no such escape");
    refuses("k = \"\\ud800\"", "an escape that is not a character");
    refuses("k = \"\\U00110000\"", "an escape that is not a character");
    refuses("k = \"\\u0000\"", "an escape that is not a character");
    refuses("k = \"\x01\"", "a control character in a string");
    refuses("k = 1 # \x01", "a control character in a comment");
    refuses("k = {a = 1}", "inline tables are not supported");
    refuses("k = [1", "want , or ] in an array");
    refuses("k = [1 2]", "want , or ] in an array");
    refuses("k = [,]", "want a string in quotes");
    refuses("k = [[[[[[[[[[1]]]]]]]]]]", "bad.toml:1: ");
}

static void bad_lines(void **state)
{
    (void)state;
    refuses("k", "bad.toml:1: want = after a key");
    refuses("= 1", "want a key");
    refuses("k = 1 l = 2", "want the end of the line");
    refuses("k = 1\rl = 2", "want the end of the line");
    refuses("a.b = 1", "dotted keys are not supported");
    refuses("[a.b]", "tables within tables are not supported");
    refuses("[[a]]", "arrays of tables are not supported");
    refuses("[a", "want ] after the name of a table");
    refuses("[]", "want a key");
    refuses("[a] k = 1", "want the end of the line");
    refuses("[a]\n[b]\n[a]\n", "bad.toml:3: table [a] occurs twice");
    refuses("k = 1\n[t]\nk = 2\n'k' = 3\n", "bad.toml:4: key \"k\" occurs twice, first in line 3");
    refuses("k = \"\xff\"", "bad.toml: is not UTF-8");
    refuses_bytes("k = \0", 5, "want a string in quotes");
    refuses_bytes("k = 1 # \0", 9, "a control character in a comment");
    failed(reco_toml_read(ctx, &toml, at("nothing.toml")), RECO_E_IO, "nothing.toml");
    reco_toml_free(&toml);
}

/* Limits hold at their edges, and nothing is read beyond them. */
static void limits(void **state)
{
    (void)state;
    enum { MOST = 4096, BYTES = 1 << 20 };
    char *text = malloc(BYTES + 1), *p = text;
    assert_non_null(text);
    for (int i = 0; i < MOST; i++) p += sprintf(p, "k%d = %d\n", i, i);
    OK(reco_toml_read(ctx, &toml, put("many.toml", text, (size_t)(p - text))));
    assert_int_equal(toml.n, MOST);
    reco_toml_free(&toml);
    p += sprintf(p, "more = 1\n");
    refuses_bytes(text, (size_t)(p - text), "bad.toml:4097: too many keys");
    memset(text, '#', BYTES + 1);
    OK(reco_toml_read(ctx, &toml, put("large.toml", text, BYTES)));
    reco_toml_free(&toml);
    assert_int_not_equal(reco_toml_read(ctx, &toml, put("large.toml", text, BYTES + 1)), RECO_OK);
    reco_toml_free(&toml);
    free(text);
}

static void settings(void **state)
{
    (void)state;
    static const char *const want[][2] = {
        {"bank", "a"}, {"bank", "b"}, {"queue", "8"}, {"timeout", "0.5"}, {"read-only", "true"}};
    reco_setting *all;
    size_t n;
    OK(reco_settings_read(
        ctx, &all, &n,
        put_text("s.toml",
                 "bank = ['a', \"b\"]\nqueue = 8\n\ntimeout = 0.5\nread-only = true\nnone = []\n")));
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(all[i].name, want[i][0]);
        assert_string_equal(all[i].value, want[i][1]);
    }
    assert_int_equal(all[3].line, 4);
    reco_settings_free(all, n);
    OK(reco_settings_read(ctx, &all, &n, put_text("s.toml", "# nothing\n")));
    assert_int_equal(n, 0);
    reco_settings_free(all, n);
    failed(reco_settings_read(ctx, &all, &n, put_text("s.toml", "a = 1\n[t]\nb = 2\n")), RECO_E_FORMAT,
           "s.toml:3: is in table [t]");
    failed(reco_settings_read(ctx, &all, &n, put_text("s.toml", "a = [[1]]\n")), RECO_E_FORMAT,
           "list of lists");
    failed(reco_settings_read(ctx, &all, &n, put_text("s.toml", "a = 'x\n")), RECO_E_FORMAT, "s.toml:1");
    assert_null(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file),       cmocka_unit_test(settings),  cmocka_unit_test(values),
        cmocka_unit_test(bad_values), cmocka_unit_test(bad_lines), cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
