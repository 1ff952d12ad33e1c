/* Token ids against the reference's: the repository's own goldens, and the large set where it is at hand. */
#include "reco/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

static reco_ctx *ctx;

static const char *source_root(void)
{
    const char *root = getenv("RECO_TEST_SOURCE");
    return root ? root : ".";
}

static reco_tokenizer *open_it(const char *dir, reco_text_rules rules)
{
    reco_tokenizer *tok;
    if (reco_tokenizer_open(ctx, &tok, dir, rules) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
    return tok;
}

/* ids as the reference gives them; a padded list ends with `pad`s. */
static void expect(const reco_tokenizer *tok, const char *text, size_t bytes, const json_t *want,
                   int padded)
{
    int32_t ids[77];
    size_t n, many = json_array_size(want);
    if (reco_tokenizer_encode(ctx, tok, text, bytes, ids, 77, &n, NULL) != RECO_OK)
        fail_msg("%s", reco_ctx_error(ctx));
    if (padded)
        while (n < many) ids[n++] = reco_tokenizer_get_info(tok)->pad;
    if (n != many) fail_msg("'%s': %zu ids, want %zu", text, n, many);
    for (size_t i = 0; i < n; i++)
        if (ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("'%s': id %zu is %d, want %lld", text, i, ids[i],
                     (long long)json_integer_value(json_array_get(want, i)));
}

static void own(void **state)
{
    (void)state;
    char path[4096], text[2048];
    snprintf(path, sizeof path, "%s/tests/golden/text/cases.json", source_root());
    json_t *cases = json_load_file(path, 0, NULL), *one;
    assert_non_null(cases);
    size_t i;
    json_array_foreach(cases, i, one)
    {
        const char *hex = json_string_value(json_object_get(one, "hex"));
        size_t bytes = strlen(hex) / 2;
        assert_true(bytes < sizeof text);
        for (size_t b = 0; b < bytes; b++) {
            unsigned value;
            assert_int_equal(sscanf(hex + 2 * b, "%2x", &value), 1);
            text[b] = (char)value;
        }
        text[bytes] = 0;
        snprintf(path, sizeof path, "%s/tests/golden/text/%s", source_root(),
                 json_string_value(json_object_get(one, "folder")));
        reco_tokenizer *tok =
            open_it(path, (reco_text_rules)json_integer_value(json_object_get(one, "rules")));
        expect(tok, text, bytes, json_object_get(one, "ids"), 0);
        reco_tokenizer_close(tok);
    }
    assert_true(i > 150);
    json_decref(cases);
}

static void large(void **state)
{
    (void)state;
    static const struct {
        const char *vocabulary, *ids;
        reco_text_rules rules;
    } sets[] = {{"hf-quickgelu", "hf-quickgelu", RECO_TEXT_AUTO},
                {"hf-gelu-bf16", "hf-gelu-bf16", RECO_TEXT_HF},
                {"hf-quickgelu", "openai-quickgelu", RECO_TEXT_OPENCLIP},
                {"hf-quickgelu", "openclip-gelu", RECO_TEXT_OPENCLIP}};
    char root[2048], path[4096];
    const char *given = getenv("RECO_GOLDEN");
    if (given)
        snprintf(root, sizeof root, "%s", given);
    else
        snprintf(root, sizeof root, "%s/../shared/golden", source_root());
    snprintf(path, sizeof path, "%s/index.json", root);
    json_t *index = json_load_file(path, 0, NULL), *text;
    if (!index) {
        printf("SKIPPED: no large goldens at %s\n", root);
        skip();
    }
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        size_t i;
        snprintf(path, sizeof path, "%s/%s", root, sets[s].vocabulary);
        reco_tokenizer *tok = open_it(path, sets[s].rules);
        snprintf(path, sizeof path, "%s/%s-ids.json", root, sets[s].ids);
        json_t *want = json_load_file(path, 0, NULL);
        assert_non_null(want);
        json_array_foreach(json_object_get(index, "texts"), i, text)
            expect(tok, json_string_value(text), json_string_length(text), json_array_get(want, i), 1);
        assert_int_equal(i, 18);
        json_decref(want);
        reco_tokenizer_close(tok);
    }
    json_decref(index);
}

static void properties(void **state)
{
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/text/full", source_root());
    reco_tokenizer *tok = open_it(path, RECO_TEXT_AUTO);
    size_t vocab = reco_tokenizer_get_info(tok)->vocab, n;
    int32_t ids[8];
    assert_int_equal(reco_tokenizer_get_info(tok)->bos, vocab - 2);
    assert_int_equal(reco_tokenizer_get_info(tok)->eos, vocab - 1);
    assert_int_equal(reco_tokenizer_get_info(tok)->pad, 0);
    assert_int_equal(reco_tokenizer_encode(ctx, tok, "a b c d e f", 11, ids, 4, &n, NULL), RECO_OK);
    assert_int_equal(n, 4);
    assert_int_equal(ids[3], vocab - 1); /* the end token survives the cut */
    bool cut = false;
    for (size_t max = 2; max <= 8; max++) { /* six letters, begin and end */
        assert_int_equal(reco_tokenizer_encode(ctx, tok, "a b c d e f", 11, ids, max, &n, &cut), RECO_OK);
        assert_int_equal(n, max);
        assert_int_equal(cut, max < 8);
    }
    assert_int_equal(reco_tokenizer_encode(ctx, tok, "a", 1, ids, 2, &n, NULL), RECO_OK);
    assert_int_equal(n, 2);
    assert_int_equal(reco_tokenizer_encode(ctx, tok, "a", 1, ids, 1, &n, NULL), RECO_E_ARG);
    assert_int_equal(reco_tokenizer_encode(ctx, tok, "a", (1 << 20) + 1, ids, 8, &n, NULL), RECO_E_NOMEM);
    reco_tokenizer_close(tok);
    reco_tokenizer_close(NULL);
}

/* A megabyte in one word must not be quadratic, under either cleaning. */
static void huge(void **state)
{
    (void)state;
    char path[4096];
    static const char *const units[] = {"ab",       "'",   "&amp;",     "\xef\xac\x83",
                                        "\xcd\x85", "<\n", "&amp;amp;", "&am&amp;p;"};
    size_t most = 1 << 20, n;
    char *text = malloc(most + 1);
    int32_t *ids = malloc(65536 * sizeof *ids);
    snprintf(path, sizeof path, "%s/tests/golden/text/full", source_root());
    for (int rules = RECO_TEXT_HF; rules <= RECO_TEXT_OPENCLIP; rules++) {
        reco_tokenizer *tok = open_it(path, (reco_text_rules)rules);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t unit = strlen(units[u]), bytes = most / unit * unit;
            for (size_t i = 0; i < bytes; i++) text[i] = units[u][i % unit];
            if (units[u][0] == '\xcd') /* marks of another class, that belong before the first ones */
                for (size_t i = most / 2; i < most; i += 2) memcpy(text + i, "\xcc\x96", 2);
            clock_t start = clock();
            reco_status status = reco_tokenizer_encode(ctx, tok, text, bytes, ids, 65536, &n, NULL);
            if (status != RECO_OK) fail_msg("'%s': %s", units[u], reco_ctx_error(ctx));
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (seconds > 20) fail_msg("a megabyte of '%s' took %.1f s", units[u], seconds);
        }
        reco_tokenizer_close(tok);
    }
    free(ids);
    free(text);
}

static int make(void **state)
{
    (void)state;
    return reco_ctx_create(&ctx, NULL) != RECO_OK;
}

static int drop(void **state)
{
    (void)state;
    reco_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(own), cmocka_unit_test(large),
                                       cmocka_unit_test(properties), cmocka_unit_test(huge)};
    return cmocka_run_group_tests(tests, make, drop);
}
