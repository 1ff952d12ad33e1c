/* Safetensors: what is written reads back; what is damaged is refused and named. */
#include "fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* A file of this header and so many bytes of data. */
static const char *make(const char *header, size_t data_bytes)
{
    static uint8_t file[1 << 16];
    uint64_t n = strlen(header);
    assert_true(8 + n + data_bytes <= sizeof file);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++) file[8 + n + i] = (uint8_t)i;
    return put("made.safetensors", file, 8 + n + data_bytes);
}

static void refuse(const char *header, size_t data_bytes, const char *why)
{
    reco_safetensors *st;
    failed(reco_safetensors_open(ctx, &st, make(header, data_bytes)), RECO_E_FORMAT, why);
    assert_null(st);
}

#define T(name, dtype, shape, begin, end)                                                                  \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void test_bad_headers(void **state)
{
    (void)state;
    refuse("", 0, "header");
    refuse("[]", 0, "made.safetensors: header is not an object");
    refuse("{\"a\":", 0, "made.safetensors: header: ");
    refuse("{\"a\":1}", 0, "tensor a has no dtype");
    refuse("{\"a\":{}}", 0, "tensor a has no dtype");
    refuse("{\"a\":{\"dtype\":\"F32\"}}", 0, "tensor a has no shape");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0,
           "tensor a: data_offsets are not two whole numbers");
    refuse("{\"a\":{\"dtype\":7,\"shape\":[]}}", 0, "tensor a has no dtype");
    refuse("{" T("a", "F31", "[1]", 0, 4) "}", 4, "tensor a has unknown dtype F31");
    refuse("{" T("a", "F32", "[-1]", 0, 4) "}", 4, "tensor a: dimension 0 is not a whole number");
    refuse("{" T("a", "F32", "[1,1.5]", 0, 4) "}", 4, "tensor a: dimension 1 is not a whole number");
    refuse("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "9 dimensions, want at most 8");
    refuse("{" T("a", "F32", "[2]", 0, 4) "}", 4, "tensor a: F32 [2] is 8 bytes, data_offsets give 4");
    refuse("{" T("a", "F4", "[3]", 0, 1) "}", 1, "tensor a: F4 [3]");
    refuse("{" T("a", "F32", "[1]", 4, 0) "}", 4, "tensor a: data_offsets [4,0], want within [0,4]");
    refuse("{" T("a", "F32", "[1]", 0, 8) "}", 4, "data_offsets [0,8], want within [0,4]");
    refuse("{" T("a", "F32", "[1]", -4, 0) "}", 4, "data_offsets are not two whole numbers");
    refuse("{" T("a", "F32", "[1]", 9223372036854775807, 3) "}", 4, "want within");
    refuse("{" T("a", "F32", "[1]", 0, 99999999999999999999) "}", 4, "header: too big integer");
    refuse("{" T("a", "U8", "[4294967296,4294967296]", 0, 0) "}", 0,
           "[4294967296,4294967296] is too large");
    refuse("{" T("a", "F64", "[1152921504606846976,2]", 0, 0) "}", 0, "is too large");
    refuse("{" T("a", "F32", "[2305843009213693953,8]", 0, 32) "}", 32, "is too large");
    refuse("{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 2, 6) "}", 6,
           "tensor b starts at 2, want 4: it overlaps");
    refuse("{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 0, 4) "}", 4,
           "tensor b starts at 0, want 4: it overlaps");
    refuse("{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 6, 10) "}", 10,
           "tensor b starts at 6, want 4: there is a gap");
    refuse("{" T("a", "U8", "[4]", 2, 6) "}", 6, "tensor a starts at 2, want 0: there is a gap");
    refuse("{" T("a", "U8", "[4]", 0, 4) "}", 5, "holds 5 bytes of data, the header accounts for 4");
    refuse("{}", 1, "holds 1 bytes of data, the header accounts for 0");
    refuse("{" T("a", "U8", "[4]", 0, 4) "," T("a", "U8", "[4]", 4, 8) "}", 8,
           "duplicate object key near '\"a\"'");
    refuse("{\"__metadata__\":[]}", 0, "__metadata__ is not an object");
    refuse("{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: k is not a string");
    refuse("{\"a\\u0000b\":1}", 0, "header: ");

    char deep[512];
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    deep[400] = 0;
    refuse(deep, 0, "header: more than 100 levels deep");
}

static void test_bad_lengths(void **state)
{
    (void)state;
    reco_safetensors *st;
    failed(reco_safetensors_open(ctx, &st, put_text("short", "1234567")), RECO_E_FORMAT,
           "short: is 7 bytes, too short");
    failed(reco_safetensors_open(ctx, &st, put_text("empty", "")), RECO_E_FORMAT, "is empty");
    failed(reco_safetensors_open(ctx, &st, put("past", "\3\0\0\0\0\0\0\0{}", 10)), RECO_E_FORMAT,
           "past: header is 3 bytes, the file has 2 left");
    failed(reco_safetensors_open(ctx, &st, put("huge", "\0\0\0\0\0\0\0\x10{}", 10)), RECO_E_FORMAT,
           "huge: header is 1152921504606846976 bytes, want at most 100000000");
    failed(reco_safetensors_open(ctx, &st, put("all", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)),
           RECO_E_FORMAT, "all: header is 18446744073709551615 bytes");
    failed(reco_safetensors_open(ctx, &st, at("none")), RECO_E_IO, "none: No such file");
}

/* Every prefix of a good file, and every byte of its header changed: an error or a file that is as safe. */
static void test_damage(void **state)
{
    (void)state;
    const char *path = make("{\"__metadata__\":{\"k\":\"v\"}," T("a", "F16", "[2,3]", 0,
                                                                 12) "," T("b", "BF16", "[1]", 12, 14) "}",
                            14);
    char *file;
    size_t bytes;
    OK(reco_read_file(ctx, &file, &bytes, path, 1 << 16));
    reco_safetensors *st;
    for (size_t n = 0; n < bytes; n++)
        assert_int_equal(reco_safetensors_open(ctx, &st, put("cut", file, n)), RECO_E_FORMAT);
    for (size_t i = 0; i < bytes - 14; i++)
        for (int bit = 0; bit < 8; bit++) {
            file[i] = (char)(file[i] ^ 1 << bit);
            if (reco_safetensors_open(ctx, &st, put("flip", file, bytes)) == RECO_OK) {
                float x[7];
                for (size_t k = 0; k < reco_safetensors_count(st); k++) {
                    const reco_tensor *t = reco_safetensors_at(st, k);
                    if (t->count <= 7) reco_tensor_f32(ctx, t, 0, t->count, x);
                }
                reco_safetensors_close(st);
            }
            file[i] = (char)(file[i] ^ 1 << bit);
        }
    reco_free(file);
}

static void test_foreign_types(void **state)
{
    (void)state;
    reco_safetensors *st;
    OK(reco_safetensors_open(
        ctx, &st,
        make("{" T("q", "F8_E4M3", "[3]", 4, 7) "," T("m", "BOOL", "[2,2]", 0, 4) "," T(
                 "u", "U16", "[2]", 7, 11) "," T("n", "F4", "[2,3]", 11, 14) "}",
             14)));
    assert_int_equal(reco_safetensors_count(st), 4);
    assert_string_equal(reco_safetensors_at(st, 0)->name, "m"); /* file order, not header order */
    assert_null(reco_safetensors_at(st, 4));
    const reco_tensor *u = reco_safetensors_find(st, "u");
    assert_int_equal(u->dtype, RECO_DTYPE_U8);
    assert_string_equal(u->dtype_name, "U16");
    assert_int_equal(u->shape[0], 2);
    assert_int_equal(u->count, 4);
    assert_int_equal(u->bytes, 4);
    float x[4];
    failed(reco_tensor_f32(ctx, reco_safetensors_find(st, "q"), 0, 1, x), RECO_E_FORMAT,
           "tensor q has dtype F8_E4M3, want F32");

    /* copied whole, they stay what they are */
    OK(reco_safetensors_write(ctx, at("copy"), reco_safetensors_at(st, 0), 4, NULL, 0));
    reco_safetensors_close(st);
    OK(reco_safetensors_open(ctx, &st, at("copy")));
    assert_string_equal(reco_safetensors_find(st, "n")->dtype_name, "F4");
    assert_int_equal(*(const uint8_t *)reco_safetensors_find(st, "n")->data, 11);
    reco_safetensors_close(st);
}

static void test_round_trip(void **state)
{
    (void)state;
    const float f[6] = {1, -2, 3.5f, 0, 5, 1e-3f};
    const uint8_t odd[3] = {7, 8, 9};
    uint16_t half[3], brain[2];
    reco_f32_to_f16_n(half, f, 3);
    for (size_t i = 0; i < 2; i++) brain[i] = reco_f32_to_bf16(f[i + 1]);
    const int64_t ids[1] = {-1};
    const reco_tensor tensors[] = {
        {.name = "odd", .dtype = RECO_DTYPE_U8, .rank = 1, .shape = {3}, .data = odd},
        {.name = "z \"quoted\" \xc3\xa9", .dtype = RECO_DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = f},
        {.name = "none", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {0, 3}},
        {.name = "half", .dtype = RECO_DTYPE_F16, .rank = 1, .shape = {3}, .data = half},
        {.name = "brain", .dtype = RECO_DTYPE_BF16, .rank = 3, .shape = {1, 2, 1}, .data = brain},
        {.name = "scalar", .dtype = RECO_DTYPE_I64, .data = ids},
    };
    const reco_meta meta[] = {{"format", "pt"}, {"note", "line\n\"x\""}};
    OK(reco_safetensors_write(ctx, at("trip"), tensors, 6, meta, 2));
    reco_safetensors *st;
    OK(reco_safetensors_open(ctx, &st, at("trip")));
    assert_int_equal(reco_safetensors_count(st), 6);
    assert_string_equal(reco_safetensors_path(st), at("trip"));
    assert_string_equal(reco_safetensors_meta(st, "note"), "line\n\"x\"");
    assert_null(reco_safetensors_meta(st, "none"));
    for (size_t i = 0; i < 6; i++) {
        const reco_tensor *t = reco_safetensors_find(st, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, tensors[i].dtype);
        assert_int_equal(t->rank, tensors[i].rank);
        if (t->bytes) assert_memory_equal(t->data, tensors[i].data, t->bytes);
    }
    const uint8_t *first = reco_safetensors_find(st, "odd")->data;
    assert_int_equal((uintptr_t)first % 64, 0);

    float x[6]; /* unaligned in the file */
    OK(reco_tensor_f32(ctx, reco_safetensors_find(st, tensors[1].name), 1, 5, x));
    assert_memory_equal(x, f + 1, 5 * sizeof *x);
    OK(reco_tensor_f32(ctx, reco_safetensors_find(st, "half"), 1, 2, x));
    assert_memory_equal(x, f + 1, 2 * sizeof *x);
    OK(reco_tensor_f32(ctx, reco_safetensors_find(st, "brain"), 0, 2, x));
    assert_memory_equal(x, f + 1, 2 * sizeof *x);
    OK(reco_tensor_f32(ctx, reco_safetensors_find(st, "none"), 0, 0, x));
    failed(reco_tensor_f32(ctx, reco_safetensors_find(st, "half"), 2, 2, x), RECO_E_ARG,
           "2 elements from 2, want within 3");
    failed(reco_tensor_f32(ctx, reco_safetensors_find(st, "half"), 1, SIZE_MAX, x), RECO_E_ARG,
           "tensor half");
    failed(reco_tensor_f32(ctx, reco_safetensors_find(st, "scalar"), 0, 1, x), RECO_E_FORMAT,
           "tensor scalar has dtype I64");

    const reco_tensor *t;
    OK(reco_safetensors_need(ctx, st, &t, "brain", -1, NULL));
    OK(reco_safetensors_need(ctx, st, &t, "brain", 3, (const size_t[]){1, 0, 1}));
    OK(reco_safetensors_need(ctx, st, &t, "scalar", 0, NULL));
    failed(reco_safetensors_need(ctx, st, &t, "half", 1, (const size_t[]){4}), RECO_E_FORMAT,
           "trip: tensor half has shape [3], want [4]");
    failed(reco_safetensors_need(ctx, st, &t, "half", 2, (const size_t[]){0, 3}), RECO_E_FORMAT,
           "has shape [3], want [*,3]");
    failed(reco_safetensors_need(ctx, st, &t, "missing", -1, NULL), RECO_E_NOTFOUND,
           "trip: no tensor missing");
    assert_null(t);
    reco_safetensors_close(st);
    reco_safetensors_close(NULL);
}

static void test_bad_writes(void **state)
{
    (void)state;
    const uint8_t data[4] = {0};
    reco_tensor twice[] = {{.name = "a", .dtype = RECO_DTYPE_U8, .rank = 1, .shape = {4}, .data = data},
                           {.name = "a", .dtype = RECO_DTYPE_U8, .rank = 1, .shape = {4}, .data = data}};
    failed(reco_safetensors_write(ctx, at("w"), twice, 2, NULL, 0), RECO_E_ARG, "w: a occurs twice");
    twice[1].name = "\xff";
    failed(reco_safetensors_write(ctx, at("w"), twice, 2, NULL, 0), RECO_E_ARG, "w: \xff: is not UTF-8");
    failed(reco_safetensors_write(ctx, at("w"), NULL, 0, (const reco_meta[]){{"k", "\xff"}}, 1), RECO_E_ARG,
           "w: k: is not UTF-8");
    twice[1].name = NULL;
    failed(reco_safetensors_write(ctx, at("w"), twice, 2, NULL, 0), RECO_E_ARG, "want a name");
    twice[0].shape[0] = SIZE_MAX;
    twice[0].dtype = RECO_DTYPE_F32;
    failed(reco_safetensors_write(ctx, at("w"), twice, 1, NULL, 0), RECO_E_ARG, "tensor a is too large");
    twice[0].shape[0] = SIZE_MAX / 4;
    failed(reco_safetensors_write(ctx, at("w"), twice, 1, NULL, 0), RECO_E_ARG, "the file is too large");
    const reco_meta meta[] = {{"k", "1"}, {"k", "2"}};
    failed(reco_safetensors_write(ctx, at("w"), NULL, 0, meta, 2), RECO_E_ARG, "w: k occurs twice");
    assert_false(reco_path_exists(at("w")));

    OK(reco_safetensors_write(ctx, at("w"), NULL, 0, NULL, 0));
    reco_safetensors *st;
    OK(reco_safetensors_open(ctx, &st, at("w")));
    assert_int_equal(reco_safetensors_count(st), 0);
    assert_null(reco_safetensors_find(st, "a"));
    reco_safetensors_close(st);
}

static void test_streamed(void **state)
{
    (void)state;
    const reco_tensor t = {.name = "a", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 2}};
    reco_file *file;
    OK(reco_safetensors_begin(ctx, &file, at("stream"), &t, 1, NULL, 0));
    for (int i = 0; i < 3; i++) OK(reco_file_write(ctx, file, "abcd", 4));
    OK(reco_file_commit(ctx, file));
    reco_safetensors *st;
    OK(reco_safetensors_open(ctx, &st, at("stream")));
    assert_memory_equal(reco_safetensors_at(st, 0)->data, "abcdabcdabcd", 12);
    reco_safetensors_close(st);

    OK(reco_safetensors_begin(ctx, &file, at("less"), &t, 1, NULL, 0));
    OK(reco_file_write(ctx, file, "abcd", 4));
    failed(reco_file_commit(ctx, file), RECO_E_INTERNAL, "less: 132 bytes were written, want 140");
    assert_false(reco_path_exists(at("less")));
}

/* Whoever opens a large file for its header does not wait for more of it. */
static void test_reads_header(void **state)
{
    (void)state;
    enum { BYTES = 8 << 20 };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (BYTES + page - 1) / page;
    void *data = calloc(1, BYTES);
    const reco_tensor t = {.name = "a", .dtype = RECO_DTYPE_U8, .rank = 1, .shape = {BYTES}, .data = data};
    OK(reco_safetensors_write(ctx, at("large"), &t, 1, NULL, 0));
    free(data);
    int fd = open(at("large"), O_RDONLY);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    reco_safetensors *st;
    OK(reco_safetensors_open(ctx, &st, at("large")));
    void *map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *there = calloc(1, pages);
    assert_int_equal(mincore(map, BYTES, there), 0);
    size_t n = 0;
    for (size_t i = 0; i < pages; i++) n += there[i] & 1;
    munmap(map, BYTES);
    close(fd);
    free(there);
    if (n == pages) skip(); /* a file system in memory */
    assert_in_range(n, 1, 16);
    reco_safetensors_pieces(st, true);
    assert_int_equal(*(const uint8_t *)reco_safetensors_find(st, "a")->data, 0);
    reco_safetensors_close(st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_headers), cmocka_unit_test(test_bad_lengths),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_foreign_types),
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_bad_writes),
        cmocka_unit_test(test_streamed),    cmocka_unit_test(test_reads_header),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
