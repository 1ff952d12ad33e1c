/* SentencePiece models: ids against the library's, and files with something wrong. */
#include "text/spm/spm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

static reco_ctx *ctx;
static char folder[4096];

static char *content(const char *name, size_t *bytes)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s: cannot be opened", path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

static reco_spm *model(const char *name)
{
    size_t bytes;
    char *data = content(name, &bytes);
    reco_spm *spm;
    if (reco_spm_read(ctx, &spm, data, bytes, name) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
    free(data);
    return spm;
}

static void compare(const char *name, const json_t *texts, const json_t *all)
{
    reco_spm *spm = model(name);
    size_t room = 1 << 16;
    int32_t *buffer = malloc(room * sizeof *buffer);
    assert_int_equal(json_array_size(texts), json_array_size(all));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i), *want = json_array_get(all, i);
        reco_ids got = {buffer, 0, room};
        assert_int_equal(reco_spm_encode(ctx, spm, json_string_value(text), json_string_length(text), &got),
                         RECO_OK);
        bool same = got.n == json_array_size(want);
        for (size_t k = 0; k < got.n && same; k++)
            same = buffer[k] == json_integer_value(json_array_get(want, k));
        if (!same) fail_msg("%s: other ids for '%s'", name, json_string_value(text));
    }
    free(buffer);
    reco_spm_free(spm);
}

static void ids(void **state)
{
    (void)state;
    size_t bytes, n = 0;
    char *text = content("cases.json", &bytes);
    json_t *cases = json_loadb(text, bytes, 0, NULL), *all;
    const char *name;
    free(text);
    assert_non_null(cases);
    json_object_foreach(json_object_get(cases, "ids"), name, all)
    {
        compare(name, json_object_get(cases, "texts"), all);
        n++;
    }
    assert_true(n >= 11 && json_array_size(json_object_get(cases, "texts")) >= 150);
    json_decref(cases);
}

/* Of a damaged file come an error that names it, or a model that can be used. */
static void try(const void *data, size_t bytes)
{
    static const char text[] = "a <sym> ab\xe2\x96\x81 WORLD \xef\xb7\xba e\xcc\x81";
    int32_t buffer[4096];
    reco_ids got = {buffer, 0, 4096};
    reco_spm *spm;
    reco_status status = reco_spm_read(ctx, &spm, data, bytes, "x.model");
    if (status == RECO_OK) {
        status = reco_spm_encode(ctx, spm, text, sizeof text - 1, &got);
        assert_true(status == RECO_OK || status == RECO_E_NOMEM);
        for (size_t i = 0; i < got.n; i++) assert_true(buffer[i] >= 0 && (size_t)buffer[i] < spm->size);
    } else {
        assert_true(status == RECO_E_FORMAT || status == RECO_E_UNSUPPORTED);
        assert_null(spm);
        assert_non_null(strstr(reco_ctx_error(ctx), "x.model: "));
    }
    reco_spm_free(spm);
}

static void damage(void **state)
{
    (void)state;
    static const char *const names[] = {"unigram-user.model", "bpe-unused.model", "char.model"};
    for (size_t m = 0; m < 3; m++) {
        size_t bytes;
        char *data = content(names[m], &bytes);
        for (size_t n = 0; n < bytes; n += 31) { /* of a size that ASan watches */
            char *part = malloc(n ? n : 1);
            memcpy(part, data, n);
            try(part, n);
            free(part);
        }
        for (size_t i = 0; i < bytes; i += i < 60 || i + 2000 > bytes ? 3 : 61) {
            char kept = data[i];
            for (unsigned b = 0; b < 3; b++) {
                data[i] = (char)(b == 0 ? kept ^ 1 : b == 1 ? kept ^ 0x80 : 0xff);
                try(data, bytes);
            }
            data[i] = kept;
        }
        free(data);
    }
}

#define UNK "\x0a\x07\x0a\x03?!?\x18\x02" /* piece "?!?", type UNKNOWN */
#define A                                                                                                  \
    "\x0a\x08\x0a\x01"                                                                                     \
    "a\x15\x00\x00\x80\xbf" /* "a", -1 */
#define BYTE(name) "\x0a\x0a\x0a\x06" name "\x18\x06"
#define TRAINER(kind) "\x12\x02\x18" kind

static void said(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t bytes;
        reco_status status;
        const char *words;
    } all[] = {
#define CASE(text, status, words) {text, sizeof text - 1, status, words}
        CASE(UNK A, RECO_OK, ""),
        CASE(UNK A TRAINER("\x02"), RECO_OK, ""),
        CASE(UNK A TRAINER("\x09"), RECO_OK, ""), /* an enumerator of the future is none */
        CASE(UNK A "\x2a\x02\x08\x01", RECO_OK, ""),
        CASE("", RECO_E_FORMAT, "0 pieces"),
        CASE("no model", RECO_E_FORMAT, "not a SentencePiece model: damaged at byte 0"),
        CASE(UNK "\x0a\x7f", RECO_E_FORMAT, "damaged at byte 9"),
        CASE(UNK "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", RECO_E_FORMAT, "damaged at byte 9"),
        CASE(UNK "\x0b", RECO_E_FORMAT, "damaged at byte 9"),
        CASE(UNK "\x0a\x03\x0a\x05x", RECO_E_FORMAT, "damaged at byte 11"),
        CASE(A, RECO_E_FORMAT, "no piece is marked as unknown"),
        CASE(UNK UNK, RECO_E_FORMAT, "piece '?!?' occurs twice"),
        CASE(UNK A A, RECO_E_FORMAT, "piece 'a' occurs twice"),
        CASE(UNK "\x0a\x05\x0a\x01u\x18\x02", RECO_E_FORMAT, "two pieces are marked as unknown: 0 and 1"),
        CASE(UNK "\x0a\x02\x18\x01", RECO_E_FORMAT, "piece 1 is empty"),
        CASE(UNK "\x0a\x08\x0a\x01n\x15\x00\x00\xc0\x7f", RECO_E_FORMAT,
             "score of piece 'n' is not finite"),
        CASE(UNK BYTE("<0x41>"), RECO_E_FORMAT, "'<0x41>' is marked as a byte, but byte_fallback is false"),
        CASE(UNK BYTE("<0x4x>") "\x12\x03\x98\x02\x01", RECO_E_FORMAT, "'<0x4x>' is marked as a byte"),
        CASE(UNK BYTE("<0x00>") "\x12\x03\x98\x02\x01", RECO_E_FORMAT, "no piece <0x01>"),
        CASE(UNK TRAINER("\x03"), RECO_E_UNSUPPORTED, "model_type is WORD"),
        CASE(UNK "\x1a\x05\x12\x03zzz", RECO_E_FORMAT, "precompiled_charsmap of 3 bytes"),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        reco_spm *spm;
        reco_status status = reco_spm_read(ctx, &spm, all[i].data, all[i].bytes, "x.model");
        if (status != all[i].status || (status != RECO_OK && !strstr(reco_ctx_error(ctx), all[i].words)))
            fail_msg("case %zu: status %d, '%s', want '%s'", i, (int)status, reco_ctx_error(ctx),
                     all[i].words);
        reco_spm_free(spm);
    }
}

/* A megabyte must not take time with its square, nor memory without bound. */
static void huge(void **state)
{
    (void)state;
    static const char *const names[] = {"unigram-user.model", "bpe.model", "bpe-bytes.model"};
    static const char *const units[] = {"ab",           "\xe2\x96\x81", " ",
                                        "\xef\xb7\xba", "e\xcc\x81",    "\xf0\x9f\x98\x80"};
    size_t most = 1 << 20;
    char *text = malloc(most);
    int32_t *buffer = malloc(65536 * sizeof *buffer);
    for (size_t m = 0; m < 3; m++) {
        reco_spm *spm = model(names[m]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t n = most - most % strlen(units[u]);
            for (size_t i = 0; i < n; i++) text[i] = units[u][i % strlen(units[u])];
            reco_ids got = {buffer, 0, 65536};
            clock_t start = clock();
            if (reco_spm_encode(ctx, spm, text, n, &got) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (seconds > 20) fail_msg("%s: a megabyte of '%s' took %.1f s", names[m], units[u], seconds);
        }
        reco_spm_free(spm);
    }
    free(buffer);
    free(text);
}

static int make(void **state)
{
    (void)state;
    const char *root = getenv("RECO_TEST_SOURCE"),
               *other = getenv("RECO_TEST_SPIECE"); /* tools/golden/make_spiece.py */
    if (other)
        snprintf(folder, sizeof folder, "%s", other);
    else
        snprintf(folder, sizeof folder, "%s/tests/golden/text/spiece", root ? root : ".");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids), cmocka_unit_test(damage),
                                       cmocka_unit_test(said), cmocka_unit_test(huge)};
    return cmocka_run_group_tests(tests, make, drop);
}
