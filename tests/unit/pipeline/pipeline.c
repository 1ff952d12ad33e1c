/* Texts and files of the streams; whole streams are tested in tests/cli. */
#include "pipeline/pipeline_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static reco_ctx *ctx;
static char folder[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/reco-pipeline-XXXXXX");
    return mkdtemp(folder) && reco_ctx_create(&ctx, NULL) == RECO_OK ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    reco_ctx_free(ctx);
    return system(command);
}

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {{"plain", "plain"},
                 {"na\xc3\xafve", "na\xc3\xafve"},
                 {"a\xff"
                  "b",
                  "a\xef\xbf\xbd"
                  "b"},
                 {"\xe2\x82", "\xef\xbf\xbd"},
                 {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = reco_json_text(cases[i].in, strlen(cases[i].in));
        assert_string_equal(json_string_value(value), cases[i].out);
        json_decref(value);
    }
}

static void test_files(void **state)
{
    (void)state;
    char *list = reco_format(ctx, "%s/labels.csv", folder), *near = reco_format(ctx, "%s/near.png", folder);
    good(reco_write_file(ctx, list, "image,label\nnear.png,\"a, b\"\nfar.png,c\n", 38));
    good(reco_write_file(ctx, near, "", 0));
    char **a, **b, *path = reco_resolve_path(ctx, list, "near.png");
    size_t n;
    assert_string_equal(path, near); /* next to the file that names it */
    reco_free(path);
    path = reco_resolve_path(ctx, list, "far.png");
    assert_string_equal(path, "far.png");
    reco_free(path);
    good(reco_read_columns(ctx, list, NULL, "image", "label", &a, &b, NULL, NULL, &n));
    assert_int_equal(n, 2);
    assert_string_equal(a[1], "far.png");
    assert_string_equal(b[0], "a, b");
    reco_lines_free(a, n);
    reco_lines_free(b, n);
    assert_int_equal(reco_read_columns(ctx, list, NULL, "image", "name", &a, &b, NULL, NULL, &n),
                     RECO_E_FORMAT);
    assert_non_null(strstr(reco_ctx_error(ctx), "name"));
    good(reco_read_lines(ctx, list, &a, &n));
    assert_int_equal(n, 3);
    reco_lines_free(a, n);
    reco_free(list);
    reco_free(near);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
