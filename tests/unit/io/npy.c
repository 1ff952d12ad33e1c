/* numpy's arrays. Headers below are byte for byte what numpy writes, or what it never would. */
#include "fixture.h"

/* A file of version major with this header dictionary and so many bytes of data. */
static const char *make(int major, const char *header, size_t data_bytes)
{
    static uint8_t file[1 << 16];
    size_t n = strlen(header), prefix = major == 1 ? 10 : 12;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (uint8_t)major;
    file[7] = 0;
    memset(file + 8, 0, 4);
    file[8] = (uint8_t)n;
    file[9] = (uint8_t)(n >> 8);
    memcpy(file + prefix, header, n);
    for (size_t i = 0; i < data_bytes; i++) file[prefix + n + i] = (uint8_t)i;
    return put("made.npy", file, prefix + n + data_bytes);
}

static void refuse(reco_status status, const char *header, size_t data_bytes, const char *why)
{
    reco_npy npy;
    failed(reco_npy_open(ctx, &npy, make(1, header, data_bytes)), status, why);
    assert_null(npy.map.data);
}

static void accept(int major, const char *header, size_t data_bytes, reco_dtype dtype, size_t rows,
                   size_t cols)
{
    reco_npy npy;
    OK(reco_npy_open(ctx, &npy, make(major, header, data_bytes)));
    assert_int_equal(npy.dtype, dtype);
    assert_int_equal(npy.rows, rows);
    assert_int_equal(npy.cols, cols);
    reco_npy_close(&npy);
}

/* The same array whatever the order of its bytes and axes. */
static void test_orders(void **state)
{
    (void)state;
    for (int big = 0; big < 2; big++)
        for (int fortran = 0; fortran < 2; fortran++) {
            uint8_t file[256];
            char header[96];
            int n =
                snprintf(header, sizeof header, "{'descr': '%cf4', 'fortran_order': %s, 'shape': (3, 2), }",
                         big ? '>' : '<', fortran ? "True" : "False");
            memcpy(file, "\x93NUMPY\x01\0", 8);
            file[8] = (uint8_t)n;
            file[9] = 0;
            memcpy(file + 10, header, (size_t)n);
            for (size_t i = 0; i < 6; i++) {
                float x = (float)(fortran ? i % 3 * 2 + i / 3 : i);
                uint8_t bytes[4], *to = file + 10 + n + 4 * i;
                memcpy(bytes, &x, 4);
                for (int b = 0; b < 4; b++) to[b] = bytes[big ? 3 - b : b];
            }
            reco_npy npy;
            float x[4];
            OK(reco_npy_open(ctx, &npy, put("order.npy", file, 10 + (size_t)n + 24)));
            OK(reco_npy_rows(ctx, &npy, 1, 2, x));
            for (size_t i = 0; i < 4; i++) assert_true(x[i] == (float)(2 + i));
            reco_npy_close(&npy);
        }
}

static void test_headers(void **state)
{
    (void)state;
    accept(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }    \n", 24, RECO_DTYPE_F32, 2,
           3);
    accept(2, "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }\n", 12, RECO_DTYPE_F16, 2, 3);
    accept(3, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}", 8, RECO_DTYPE_F64, 1, 1);
    accept(1, "{'shape':(4,),'fortran_order':False,'descr':'|u1'}", 4, RECO_DTYPE_U8, 4, 1);
    accept(1, "{ \"shape\" : ( 4L , ) , \"fortran_order\" : False , \"descr\" : \"<i4\" }", 16,
           RECO_DTYPE_I32, 4, 1);
    accept(1, "{'descr': '<i8', 'fortran_order': False, 'shape': (0, 512), }", 0, RECO_DTYPE_I64, 0, 512);

    accept(1, "{'descr': '>f8', 'fortran_order': True, 'shape': (2, 1, 3), }", 48, RECO_DTYPE_F64, 2, 3);

#define REST ", 'fortran_order': False, 'shape': (2, 3), }"
    refuse(RECO_E_UNSUPPORTED, "{'descr': '|O'" REST, 48, "made.npy: dtype is |O, want <f2, <f4");
    refuse(RECO_E_UNSUPPORTED, "{'descr': '>i4'" REST, 24, "dtype is >i4");
    refuse(RECO_E_UNSUPPORTED, "{'descr': '<U7'" REST, 24, "dtype is <U7");
    refuse(RECO_E_UNSUPPORTED, "{'descr': [('a', '<f4'), ('b', '<i4')]" REST, 24, "dtype is a record");
    refuse(RECO_E_UNSUPPORTED, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", 24,
           "is in Fortran order");
    refuse(RECO_E_UNSUPPORTED, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 3), }", 48,
           "shape is [2,2,3]");
    refuse(RECO_E_UNSUPPORTED, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4, "shape is []");
    refuse(RECO_E_FORMAT, "{'descr': '<f4'" REST, 23,
           "made.npy: holds 23 bytes of data, want 24 for <f4 [2,3]");
    refuse(RECO_E_FORMAT, "{'descr': '<f4'" REST, 25, "holds 25 bytes");
    refuse(RECO_E_FORMAT, "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
           0, "is too large");
    refuse(RECO_E_FORMAT, "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 1), }",
           0, "is too large");
    static const char *const broken[] = {
        "",
        "{",
        "{}",
        "[]",
        "{'descr'}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4'" REST " x",
        "{'descr': '<f4', 'descr': '<f4'" REST,
        "{'descr': '<f4', 'more': 1" REST,
        "{'descr': '<f4'",
        "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': Fals",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 6}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
        "{'descr': 'a very long name of a type'" REST,
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        refuse(RECO_E_FORMAT, broken[i], 24, "made.npy: header is not understood");
}

static void test_no_arrays(void **state)
{
    (void)state;
    reco_npy npy;
    failed(reco_npy_open(ctx, &npy, put_text("empty.npy", "")), RECO_E_FORMAT,
           "empty.npy: is not a .npy file");
    failed(reco_npy_open(ctx, &npy, put_text("zip.npy", "PK\3\4 an .npz is a zip")), RECO_E_FORMAT,
           "is not a .npy file");
    failed(reco_npy_open(ctx, &npy, put("new.npy", "\x93NUMPY\4\0\0\0\0\0", 12)), RECO_E_FORMAT,
           "version is 4, want 1 to 3");
    failed(reco_npy_open(ctx, &npy, put("cut.npy", "\x93NUMPY\1\0\x76\0{'descr'", 18)), RECO_E_FORMAT,
           "cut.npy: header is 118 bytes, the file has 18");
    failed(reco_npy_open(ctx, &npy, put("cut2.npy", "\x93NUMPY\2\0\xff\xff", 10)), RECO_E_FORMAT,
           "cut2.npy: header is");
    failed(reco_npy_open(ctx, &npy, put("huge.npy", "\x93NUMPY\2\0\xff\xff\xff\xff", 12)), RECO_E_FORMAT,
           "header is 4294967295 bytes");
    failed(reco_npy_open(ctx, &npy, at("none.npy")), RECO_E_IO, "none.npy: No such file");
}

static void test_rows(void **state)
{
    (void)state;
    static const char header[] =
        "\x93NUMPY\1\0\x3b\0{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }";
    uint8_t file[sizeof header + 7]; /* 69 bytes of header: odd, so halves are unaligned */
    memcpy(file, header, sizeof header - 1);
    const float want[4] = {1, -2, 0.5f, 1000};
    uint16_t half[4];
    reco_f32_to_f16_n(half, want, 4);
    memcpy(file + sizeof header - 1, half, 8);
    reco_npy npy;
    OK(reco_npy_open(ctx, &npy, put("odd.npy", file, sizeof header - 1 + 8)));
    float x[4];
    OK(reco_npy_rows(ctx, &npy, 0, 2, x));
    assert_memory_equal(x, want, sizeof want);
    OK(reco_npy_rows(ctx, &npy, 1, 1, x));
    assert_memory_equal(x, want + 2, 2 * sizeof *x);
    OK(reco_npy_rows(ctx, &npy, 2, 0, x));
    failed(reco_npy_rows(ctx, &npy, 1, 2, x), RECO_E_ARG, "2 rows from 1, want within 2");
    failed(reco_npy_rows(ctx, &npy, 3, 0, x), RECO_E_ARG, "want within 2");
    reco_npy_close(&npy);
    reco_npy_close(&npy);

    const double doubles[2] = {0.25, -3};
    OK(reco_npy_write(ctx, at("f8.npy"), RECO_DTYPE_F64, 1, (const size_t[]){2}, doubles));
    OK(reco_npy_open(ctx, &npy, at("f8.npy")));
    OK(reco_npy_rows(ctx, &npy, 0, 2, x));
    assert_true(x[0] == 0.25f && x[1] == -3);
    reco_npy_close(&npy);

    OK(reco_npy_write(ctx, at("u1.npy"), RECO_DTYPE_U8, 1, (const size_t[]){2}, "ab"));
    OK(reco_npy_open(ctx, &npy, at("u1.npy")));
    failed(reco_npy_rows(ctx, &npy, 0, 1, x), RECO_E_FORMAT, "dtype U8, want F16, F32 or F64");
    reco_npy_close(&npy);
}

static void append(reco_dtype dtype, const void *rows, size_t row_bytes, const void *stored,
                   size_t stored_bytes)
{
    reco_npy_writer *w;
    OK(reco_npy_begin(ctx, &w, at("grown.npy"), dtype, 3));
    OK(reco_npy_append(ctx, w, rows, 1));
    OK(reco_npy_append(ctx, w, NULL, 0));
    OK(reco_npy_append(ctx, w, (const uint8_t *)rows + row_bytes, 1));
    OK(reco_npy_commit(ctx, w));
    reco_npy npy;
    OK(reco_npy_open(ctx, &npy, at("grown.npy")));
    assert_int_equal(npy.dtype, dtype);
    assert_int_equal(npy.rows, 2);
    assert_int_equal(npy.cols, 3);
    assert_int_equal((const uint8_t *)npy.data - npy.map.data, 128);
    assert_memory_equal(npy.data, stored, stored_bytes);
    reco_npy_close(&npy);
}

static void test_append(void **state)
{
    (void)state;
    const float f[6] = {1, 2, 3, -4, 0.5f, 6};
    uint16_t half[6];
    reco_f32_to_f16_n(half, f, 6);
    const int64_t ids[6] = {1, -2, 3, 4, 5, INT64_MAX};
    append(RECO_DTYPE_F32, f, 12, f, sizeof f);
    append(RECO_DTYPE_F16, f, 12, half, sizeof half);
    append(RECO_DTYPE_I64, ids, 24, ids, sizeof ids);
    append(RECO_DTYPE_U8, "abcdef", 3, "abcdef", 6);

    float *many = reco_alloc(ctx, 3 * 5000, sizeof *many, "test");
    for (size_t i = 0; i < 15000; i++) many[i] = (float)(i % 2048);
    reco_npy_writer *w;
    OK(reco_npy_begin(ctx, &w, at("many.npy"), RECO_DTYPE_F16, 3));
    OK(reco_npy_append(ctx, w, many, 5000));
    assert_false(reco_path_exists(at("many.npy")));
    OK(reco_npy_commit(ctx, w));
    reco_npy npy;
    float last[3];
    OK(reco_npy_open(ctx, &npy, at("many.npy")));
    OK(reco_npy_rows(ctx, &npy, 4999, 1, last));
    assert_memory_equal(last, many + 4999 * 3, sizeof last);
    reco_npy_close(&npy);
    reco_free(many);
}

static void test_abort_and_refusals(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("abort")));
    reco_npy_writer *w;
    OK(reco_npy_begin(ctx, &w, at("abort/x.npy"), RECO_DTYPE_F32, 3));
    OK(reco_npy_append(ctx, w, (const float[3]){0}, 1));
    reco_npy_abort(w);
    reco_npy_abort(NULL);
    assert_int_equal(entries(at("abort")), 0);
    failed(reco_npy_begin(ctx, &w, at("x.npy"), RECO_DTYPE_BF16, 3), RECO_E_UNSUPPORTED,
           "x.npy: numpy has no dtype for BF16");
    failed(reco_npy_begin(ctx, &w, at("none/x.npy"), RECO_DTYPE_F32, 3), RECO_E_IO,
           "none/x.npy: No such file");
    assert_null(w);
    failed(reco_npy_write(ctx, at("x.npy"), RECO_DTYPE_F32, 2, (const size_t[]){SIZE_MAX, 2}, NULL),
           RECO_E_ARG, "too large");
    failed(reco_npy_write(ctx, at("x.npy"), RECO_DTYPE_F32, 9, NULL, NULL), RECO_E_ARG,
           "array of 9 dimensions");
    const size_t long_shape[8] = {SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, 0};
    failed(reco_npy_write(ctx, at("x.npy"), RECO_DTYPE_F32, 8, long_shape, NULL), RECO_E_ARG, "too large");
    OK(reco_npy_write(ctx, at("x.npy"), RECO_DTYPE_F32, 8,
                      (const size_t[]){0, SIZE_MAX, 1, 0, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX}, NULL));
    reco_map map;
    OK(reco_map_open(ctx, &map, at("x.npy")));
    assert_int_equal(map.bytes, 192);
    assert_int_equal(map.data[191], '\n');
    reco_map_close(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),   cmocka_unit_test(test_orders),
        cmocka_unit_test(test_no_arrays), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_append),    cmocka_unit_test(test_abort_and_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
