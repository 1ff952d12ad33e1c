/* Pictures from files, from their content and from pixels give the same rows, side by side, in any mixture and batch. */
#include "pipeline/pipeline_internal.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { W = 37, H = 29, ROW = (3 * W + 3) / 4 * 4, FILE_BYTES = 54 + ROW * H, N = 40, D = 16 };

static reco_ctx *ctx;
static reco_model *model;
static char folder[64];
static uint8_t rgb[N][H][W][3], bmp[N][FILE_BYTES];

static void put(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> 8 * i);
}

/* A picture of noise, and the same as a BMP: bottom row first, blue before green before red. */
static void draw(int n, reco_rng *rng)
{
    uint8_t *b = bmp[n];
    memcpy(b, "BM", 2);
    put(b + 2, FILE_BYTES), put(b + 10, 54), put(b + 14, 40), put(b + 18, W), put(b + 22, H);
    b[26] = 1, b[28] = 24;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                rgb[n][y][x][c] = b[54 + ROW * (H - 1 - y) + 3 * x + 2 - c] =
                    (uint8_t)reco_rng_below(rng, 256);
}

static int setup(void **state)
{
    (void)state;
    char dir[1024];
    const char *source = getenv("RECO_TEST_SOURCE");
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    for (int i = 0; i < N; i++) draw(i, &rng);
    snprintf(folder, sizeof folder, "/tmp/reco-pictures-XXXXXX");
    snprintf(dir, sizeof dir, "%s/tests/golden/small/hf-quickgelu", source ? source : ".");
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    return (int)reco_model_open(ctx, &model, dir, &(reco_model_opts){.precision = RECO_PRECISION_F32});
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    reco_model_close(model);
    reco_ctx_free(ctx);
    return system(command);
}

typedef struct failures {
    size_t n;
    uint64_t rows[N];
    char items[N][256], reasons[N][512];
} failures;

static void note(void *user, uint64_t row, const char *item, const char *reason)
{
    failures *f = user;
    f->rows[f->n] = row;
    snprintf(f->items[f->n], sizeof f->items[0], "%s", item);
    snprintf(f->reasons[f->n++], sizeof f->reasons[0], "%s", reason);
}

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static void test_forms(void **state)
{
    (void)state;
    static float want[N][D], got[N][D], pixels[3 * 24 * 24];
    static char paths[N][128];
    size_t rows[N], count;
    reco_picture_input in[N];
    for (int i = 0; i < N; i++) {
        good(reco_model_pixels_of(ctx, model, "bmp", bmp[i], FILE_BYTES, NULL, pixels));
        good(reco_model_embed_pixels(ctx, model, pixels, 1, want[i]));
        snprintf(paths[i], sizeof paths[i], "%s/%d", folder, i);
        FILE *f = fopen(paths[i], "wb");
        assert_true(f && fwrite(bmp[i], FILE_BYTES, 1, f) == 1 && fclose(f) == 0);
        in[i] = i % 3 == 0   ? (reco_picture_input){.name = paths[i]}
                : i % 3 == 1 ? (reco_picture_input){.data = bmp[i], .bytes = FILE_BYTES}
                             : (reco_picture_input){.pixels = rgb[i][0][0], .height = H, .width = W};
    }
    for (size_t batch = 0; batch < 45; batch += 11)
        for (size_t n = 0; n <= N; n += n < 3 ? 1 : 37) {
            memset(got, 0, sizeof got);
            good(reco_embed_pictures(ctx, model, in, n, &(reco_embed_opts){.batch = batch}, got[0], rows,
                                     &count));
            assert_int_equal(count, n);
            for (size_t i = 0; i < n; i++) assert_int_equal(rows[i], i);
            assert_memory_equal(got, want, n * sizeof want[0]);
        }
}

static void test_failures(void **state)
{
    (void)state;
    static float all[N][D], got[N][D];
    static failures f;
    size_t rows[N], count, at = 0;
    unsigned char ok[2];
    reco_picture_input in[N];
    for (int i = 0; i < N; i++)
        in[i] = (reco_picture_input){.pixels = rgb[i][0][0], .height = H, .width = W};
    good(reco_embed_pictures(ctx, model, in, N, NULL, all[0], rows, &count));
    in[0] = (reco_picture_input){.name = "/none/there.png"};
    in[7] = (reco_picture_input){.name = "cut", .data = bmp[7], .bytes = 60};
    in[8] = (reco_picture_input){.name = "empty", .data = "", .bytes = 0};
    in[9] = (reco_picture_input){0};
    in[20].width = 0;
    in[39] = (reco_picture_input){.data = "x", .bytes = 1};
    static const struct {
        uint64_t row;
        const char *item, *reason;
    } bad[] = {{0, "/none/there.png", "No such file"},
               {7, "cut", "cut: "},
               {8, "empty", "empty"},
               {9, "picture", "picture: "},
               {20, "picture", "0"},
               {39, "picture", "picture: "}};
    for (size_t batch = 0; batch < 45; batch += 9) {
        memset(&f, 0, sizeof f);
        reco_embed_opts opts = {.batch = batch, .failure = note, .user = &f};
        good(reco_embed_pictures(ctx, model, in, N, &opts, got[0], rows, &count));
        assert_int_equal(count, N - 6);
        assert_int_equal(f.n, 6);
        for (size_t i = 0; i < 6; i++) {
            assert_int_equal(f.rows[i], bad[i].row);
            assert_string_equal(f.items[i], bad[i].item);
            if (!strstr(f.reasons[i], bad[i].reason)) fail_msg("%s: %s", f.items[i], f.reasons[i]);
        }
        at = 0;
        for (size_t i = 0; i < count; i++, at++) {
            while (at == 0 || at == 7 || at == 8 || at == 9 || at == 20 || at == 39) at++;
            assert_int_equal(rows[i], at);
            assert_memory_equal(got[i], all[at], sizeof all[0]);
        }
    }
    reco_embed_opts opts = {.limits.max_pixels = H * W - 1, .failure = note, .user = &f};
    memset(&f, 0, sizeof f);
    good(reco_embed_pictures(ctx, model, in + 1, 3, &opts, got[0], rows, &count));
    assert_int_equal(count, 0);
    assert_int_equal(f.n, 3);
    /* Files alone: rows stay in their places. */
    char path[128];
    snprintf(path, sizeof path, "%s/1", folder);
    const char *paths[] = {"/none/there.png", path};
    good(reco_embed_files(ctx, model, paths, 2, NULL, got[0], ok));
    assert_true(!ok[0] && ok[1]);
    assert_memory_equal(got[1], all[1], sizeof all[0]);
    for (int i = 0; i < D; i++) assert_true(got[0][i] == 0);
}

/* The one file of a folder. */
static char *file_in(const char *dir)
{
    char *found = NULL;
    DIR *stream = opendir(dir);
    for (const struct dirent *e; stream && (e = readdir(stream));)
        if (*e->d_name != '.') {
            assert_null(found);
            found = reco_path_join(ctx, dir, e->d_name);
        }
    if (stream) closedir(stream);
    return found;
}

/* Kept rows are used when they are whole and of these very pictures, and failures are told of each time. */
static void test_kept(void **state)
{
    (void)state;
    enum { PICTURES = 3 };
    static float want[PICTURES * D], got[PICTURES * D];
    static failures f;
    unsigned char ok[PICTURES];
    char cache[96], path[2][128];
    snprintf(cache, sizeof cache, "%s/kept/deep", folder);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/kept-%d.bmp", folder, i);
        good(reco_write_file(ctx, path[i], bmp[i], FILE_BYTES));
    }
    const char *paths[PICTURES] = {path[0], "/none/there.png", path[1]};
    reco_embed_opts opts = {.failure = note, .user = &f};
    good(reco_embed_files(ctx, model, paths, PICTURES, NULL, want, ok));
    for (int again = 0; again < 2; again++) {
        memset(&f, 0, sizeof f);
        good(reco_embed_files_cached(ctx, model, paths, PICTURES, cache, &opts, got, ok));
        assert_memory_equal(got, want, sizeof want);
        assert_true(ok[0] && !ok[1] && ok[2] && f.n == 1 && f.rows[0] == 1);
    }
    /* Others in their place: it is they that are used, until a byte of them is wrong. */
    char *file = file_in(cache), sum[33] = "";
    unsigned char hash[16];
    float rows[PICTURES * D];
    for (size_t i = 0; i < PICTURES * D; i++) rows[i] = (float)i;
    reco_hash128(rows, sizeof rows, hash);
    for (int i = 0; i < 16; i++) snprintf(sum + 2 * i, 3, "%02x", hash[i]);
    const reco_tensor tensor = {
        .name = "rows", .dtype = RECO_DTYPE_F32, .rank = 2, .shape = {PICTURES, D}, .data = rows};
    for (int damaged = 0; damaged < 2; damaged++) {
        good(reco_safetensors_write(ctx, file, &tensor, 1,
                                    (const reco_meta[]){{"xxh3", sum}, {"truncated", "0"}}, 2));
        good(reco_embed_files_cached(ctx, model, paths, PICTURES, cache, NULL, got, ok));
        assert_memory_equal(got, damaged ? want : rows, sizeof rows);
        sum[0] ^= 1;
    }
    good(reco_embed_files_cached(ctx, model, paths, PICTURES, cache, NULL, got, ok));
    assert_memory_equal(got, want, sizeof want);
    reco_free(file);
    /* Another picture under a name is another question. */
    good(reco_write_file(ctx, path[0], bmp[2], FILE_BYTES));
    good(reco_embed_files_cached(ctx, model, paths, PICTURES, cache, NULL, got, ok));
    assert_true(memcmp(got, want, D * sizeof *want) != 0);
    assert_memory_equal(got + 2 * D, want + 2 * D, D * sizeof *want);
    /* A folder that can't be made costs nothing but time. */
    good(reco_embed_files_cached(ctx, model, paths, PICTURES, path[1], NULL, got, ok));
    assert_memory_equal(got + 2 * D, want + 2 * D, D * sizeof *want);
}

static void test_kept_prompts(void **state)
{
    (void)state;
    enum { NAMES = 2, PROMPTS = 2, ROWS = NAMES * PROMPTS };
    static const char *const names[] = {"red", "blue"}, *const templates[] = {"a {}", "the {}"};
    float want[ROWS * D], got[ROWS * D];
    uint64_t truncated = 7;
    char cache[96];
    reco_candidates c = {
        .n = NAMES, .d = D, .names = names, .model = model, .templates = templates, .m = PROMPTS};
    snprintf(cache, sizeof cache, "%s/prompts", folder);
    good(reco_embed_prompts(ctx, &c, want, NULL));
    for (int again = 0; again < 2; again++) {
        good(reco_embed_prompts_cached(ctx, &c, cache, got, &truncated));
        assert_memory_equal(got, want, sizeof want);
        assert_int_equal(truncated, 0);
    }
    char *file = file_in(cache);
    assert_non_null(file);
    reco_free(file);
    c.m = 1; /* other prompts */
    good(reco_embed_prompts_cached(ctx, &c, cache, got, NULL));
    assert_memory_equal(got, want, NAMES * D * sizeof *want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_failures),
                                       cmocka_unit_test(test_kept), cmocka_unit_test(test_kept_prompts)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
