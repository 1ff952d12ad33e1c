#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static int setup(void **state) { return (int)reco_ctx_create((reco_ctx **)state, NULL); }

static int teardown(void **state)
{
    reco_ctx_free(*state);
    return 0;
}

static void test_options(void **state)
{
    (void)state;
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = -1}), RECO_E_ARG);
    assert_null(ctx);
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 3, .max_isa = RECO_ISA_PLAIN}),
                     RECO_OK);
    assert_int_equal(reco_ctx_threads(ctx), 3);
    assert_int_equal(reco_ctx_isa(ctx), RECO_ISA_PLAIN);
    reco_ctx_free(ctx);
    reco_ctx_free(NULL);
}

static void test_errors(void **state)
{
    reco_ctx *ctx = *state;
    assert_int_equal(reco_fail(ctx, RECO_E_ARG, "bank: k = %d, want 1..64", 0), RECO_E_ARG);
    assert_string_equal(reco_ctx_error(ctx), "bank: k = 0, want 1..64");
    reco_fail_prefix(ctx, RECO_E_ARG, "train");
    assert_string_equal(reco_ctx_error(ctx), "train: bank: k = 0, want 1..64");
    reco_fail(ctx, RECO_E_IO, "evil\033[2Jname\n");
    assert_string_equal(reco_ctx_error(ctx), "evil?[2Jname?");
    assert_string_equal(reco_status_name(RECO_E_MISMATCH), "RECO_E_MISMATCH");
}

static void test_grow(void **state)
{
    size_t room = 0;
    int *items = NULL;
    for (int i = 0; i < 100; i++) {
        int *grown = reco_grow(*state, items, (size_t)i, &room, 3, sizeof *items, "numbers");
        assert_non_null(grown);
        items = grown;
        assert_int_equal(items[i], 0);
        items[i] = i + 1;
    }
    assert_int_equal(room, 192);
    for (int i = 0; i < 100; i++) assert_int_equal(items[i], i + 1);
    room = SIZE_MAX / 16;
    assert_null(reco_grow(*state, items, room, &room, 3, sizeof *items, "too many"));
    assert_int_equal(room, SIZE_MAX / 16);
    assert_int_equal(items[99], 100);
    reco_free(items);
}

static void test_sizes(void **state)
{
    size_t out;
    assert_true(reco_mul(SIZE_MAX / 2, 2, &out) && out == SIZE_MAX - 1);
    assert_false(reco_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_true(reco_mul(0, SIZE_MAX, &out) && out == 0);
    assert_false(reco_add(SIZE_MAX, 1, &out));
    assert_null(reco_alloc(*state, SIZE_MAX / 4, 8, "too much"));
    assert_non_null(strstr(reco_ctx_error(*state), "too much"));
}

/* Pointers stay good while others come, released memory is used again, and everything is aligned. */
static void test_scratch(void **state)
{
    reco_ctx *ctx = *state;
    unsigned char *kept[40];
    for (size_t i = 0; i < 40; i++) {
        kept[i] = reco_scratch(ctx, (i + 1) * 40000, 1, "test");
        assert_non_null(kept[i]);
        assert_int_equal((uintptr_t)kept[i] % 64, 0);
        memset(kept[i], (int)i, (i + 1) * 40000);
    }
    for (size_t i = 0; i < 40; i++) assert_true(kept[i][0] == i && kept[i][(i + 1) * 40000 - 1] == i);
    reco_mark mark = reco_scratch_mark(ctx);
    void *first = reco_scratch(ctx, 1000, 1, "test");
    reco_scratch_release(ctx, mark);
    assert_ptr_equal(first, reco_scratch(ctx, 1000, 1, "test"));
}

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) { /* every half survives the way to f32 and back */
        float f = reco_f16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true((h & 0x7c00) == 0x7c00 && (h & 0x3ff));
        else
            assert_int_equal(reco_f32_to_f16(f), h);
        uint16_t in = (uint16_t)h;
        float vector[9];
        uint16_t all[9] = {in, in, in, in, in, in, in, in, in};
        reco_f16_to_f32_n(vector, all, 9);
        assert_true(isnan(f) || (memcmp(&vector[0], &f, 4) == 0 && memcmp(&vector[8], &f, 4) == 0));
    }
    /* Ties go to even, also where halves are subnormal. */
    assert_int_equal(reco_f32_to_f16(1 + 0x1p-11f), 0x3c00);
    assert_int_equal(reco_f32_to_f16(1 + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(reco_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(reco_f32_to_f16(3 * 0x1p-25f), 2);
    assert_int_equal(reco_f32_to_f16(65519), 0x7bff);
    assert_int_equal(reco_f32_to_f16(65520), 0x7c00);
    assert_true(isnan(reco_f16_to_f32(reco_f32_to_f16(NAN))));
    assert_int_equal(reco_f32_to_bf16(1 + 0x1p-8f), 0x3f80);
    assert_int_equal(reco_f32_to_bf16(1 + 3 * 0x1p-8f), 0x3f82);
    assert_true(isnan(reco_bf16_to_f32(reco_f32_to_bf16(NAN))));
}

static void count(void *arg, size_t begin, size_t end, int worker)
{
    unsigned char *seen = arg;
    assert_in_range(worker, 0, 1023);
    for (size_t i = begin; i < end; i++) seen[i]++;
}

static void test_parallel(void **state)
{
    static unsigned char seen[1003];
    for (size_t grain = 0; grain < 9; grain++) {
        memset(seen, 0, sizeof seen);
        reco_parallel(*state, sizeof seen, grain, count, seen);
        for (size_t i = 0; i < sizeof seen; i++) assert_int_equal(seen[i], 1);
    }
    reco_parallel(*state, 0, 1, count, seen);
}

static void test_rng(void **state)
{
    (void)state;
    reco_rng a, b;
    reco_rng_seed(&a, 7);
    reco_rng_seed(&b, 7);
    size_t counts[10] = {0};
    double sum = 0, square = 0;
    for (int i = 0; i < 100000; i++) {
        assert_true(reco_rng_next(&a) == reco_rng_next(&b));
        counts[reco_rng_below(&a, 10)]++;
        reco_rng_below(&b, 10);
        double x = reco_rng_normal(&a);
        reco_rng_normal(&b);
        sum += x;
        square += x * x;
    }
    for (int i = 0; i < 10; i++) assert_in_range(counts[i], 9600, 10400);
    assert_true(fabs(sum / 100000) < 0.02 && fabs(square / 100000 - 1) < 0.02);
    uint32_t items[50];
    for (uint32_t i = 0; i < 50; i++) items[i] = i;
    reco_rng_shuffle(&a, items, 50);
    uint64_t seen = 0;
    for (int i = 0; i < 50; i++) seen |= (uint64_t)1 << items[i];
    assert_true(seen == ((uint64_t)1 << 50) - 1);
}

static int stop(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what, (void)total;
    return done >= *(uint64_t *)user;
}

static void test_progress(void **state)
{
    (void)state;
    reco_ctx *ctx;
    uint64_t limit = 10;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.progress = stop, .user = &limit}), RECO_OK);
    assert_int_equal(reco_progress(ctx, "work", 1, 10), RECO_OK);
    assert_int_equal(reco_progress(ctx, "work", 10, 10), RECO_E_CANCELLED);
    reco_ctx_free(ctx);
}

/* How many U+FFFD Python's errors="replace" makes of these. */
static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t errors;
    } cases[] = {{"", 0},
                 {"plain", 0},
                 {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 0},
                 {"caf\xe9", 1},
                 {"\xff\xfe", 2},
                 {"\xe2\x82", 1},
                 {"\xe2\x82z", 1},
                 {"\xed\xa0\x80", 3},
                 {"\xc0\xaf", 2},
                 {"\xf0\x9f\x98", 1},
                 {"\xf4\x90\x80\x80", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(reco_utf8_errors(cases[i].text, strlen(cases[i].text)), cases[i].errors);
    size_t n;
    assert_int_equal(reco_utf8_next((const uint8_t *)"\xf0\x9f\x98\x80", 4, &n), 0x1f600);
    assert_int_equal(n, 4);
    assert_int_equal(reco_utf8_next((const uint8_t *)"\xf0\x9f\x98\x80", 3, &n), -1);
    assert_int_equal(n, 3);
}

static void test_control(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"a\nb\x7f\x1b[1m", "a?b??[1m"},
        {"\xc2\x9b"
         "c\xe2\x80\xae\xe2\x81\xa6.\xe2\x80\xa8",
         "?c??.?"},
        {"\x9b\xff\xc3\xa9\xf0\x9f\x91\xa9\xe2\x80\x8d", "?\xff\xc3\xa9\xf0\x9f\x91\xa9\xe2\x80\x8d"},
        {"cut \xe2\x80", "cut \xe2\x80"},
        {"postgresql://u:p@h:1/d?password=p: no", "postgresql://h:1/d: no"},
        {"at \"postgres://u:p@h/d?a=b\", so", "at \"postgres://h/d\", so"},
        {"postgresql://u:p@h,postgresql://v:q@i/e", "postgresql://h,postgresql://i/e"},
        {"postgresql://u:a,postgres@h/d", "postgresql://h/d"},
        {"postgresql://u:it's 1@h/d x", "postgresql://h/d x"},
        {"postgresql://u:p/q@r@h/d", "postgresql://h/d"},
        {"postgresql://h/d?user=a@b&password=p", "postgresql://"},
        {"postgresql://h/d?password=p@q: no", "postgresql://: no"},
        {"postgresql://h/d: a@b, postgres", "postgresql://h/d: a@b, postgres"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        strcpy(text, cases[i].in);
        reco_text_clean(text);
        assert_string_equal(text, cases[i].out);
    }
    int control;
    assert_int_equal(reco_text_next("\xe2\x80\xae", 3, &control), 3), assert_true(control);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scratch, setup, teardown),
        cmocka_unit_test(test_halves),
        cmocka_unit_test_setup_teardown(test_parallel, setup, teardown),
        cmocka_unit_test(test_rng),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
