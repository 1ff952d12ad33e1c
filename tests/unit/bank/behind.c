/* Segments that are written while the next one's rows are collected. */
#include "bank_test.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

enum { D = 512, ROWS = 25000, BASES = 64 };

static float bases[2][BASES][D];

/* Unit vectors that cost nothing: one of a few, turned by some places. */
static void turned(float *x, int side, size_t number)
{
    const float *base = bases[side][number % BASES];
    size_t by = number / BASES % D;
    memcpy(x, base + by, (D - by) * sizeof *x);
    memcpy(x + D - by, base, by * sizeof *x);
}

static void make_bases(void)
{
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < BASES; i++) numbered_unit(bases[side][i], D, (reco_side)side, i);
}

/* Appends rows in batches until all are in or a call fails. */
static reco_status append_all(reco_ctx *c, reco_bank_writer *w, size_t batch)
{
    float *x[2] = {malloc(batch * D * sizeof(float)), malloc(batch * D * sizeof(float))};
    reco_pair *pairs = calloc(batch, sizeof *pairs);
    reco_status status = RECO_OK;
    assert_true(x[0] && x[1] && pairs);
    for (size_t from = 0, n; from < ROWS && status == RECO_OK; from += n) {
        n = reco_min(batch, ROWS - from);
        for (size_t i = 0; i < n; i++) {
            pairs[i].caption = "a caption";
            for (int side = 0; side < 2; side++) turned(x[side] + i * D, side, from + i);
        }
        status = reco_bank_append(c, w, x[RECO_IMAGE], x[RECO_TEXT], pairs, n);
    }
    free(x[0]);
    free(x[1]);
    free(pairs);
    return status;
}

static reco_bank_writer *open_writer(reco_ctx *c, const char *path)
{
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(c, &w, path, &spec, "job", &next, &done));
    return w;
}

static void build(const char *path, int threads, size_t batch)
{
    reco_ctx_opts opts = {.threads = threads};
    reco_ctx *c;
    ok(reco_ctx_create(&c, &opts));
    reco_bank_writer *w = open_writer(c, path);
    ok(append_all(c, w, batch));
    ok(reco_bank_commit(c, w, ROWS, 1));
    reco_bank_writer_close(w);
    reco_ctx_free(c);
}

/* Files beside the directions, which the first full segment makes and any later one may use. */
static size_t count_files(const char *path)
{
    size_t n = 0;
    DIR *stream = opendir(path);
    assert_non_null(stream);
    for (const struct dirent *e; (e = readdir(stream));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
             strcmp(e->d_name, "directions.safetensors");
    closedir(stream);
    return n;
}

/* However many threads write, and in whatever batches rows come: the same files, byte for byte. */
static void test_same_files(void **state)
{
    static const struct {
        int threads;
        size_t batch;
    } runs[] = {{1, 1000}, {2, 1000}, {2, ROWS}, {3, 999}};
    char first[8][33], directions[33], hex[33], name[64];
    (void)state;
    make_bases();
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        char path[256];
        snprintf(path, sizeof path, "%s/bank", folder);
        reco_bank_health health;
        build(path, runs[r].threads, runs[r].batch);
        ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
        assert_int_equal(health.problems + health.orphans, 0);
        assert_int_equal(health.rows, ROWS);
        size_t files = count_files(in("bank/vectors")), segments = files / 2;
        assert_true(segments >= 3 && segments <= 4);
        assert_int_equal(files, 2 * segments);
        for (size_t i = 0; i < files; i++) {
            snprintf(name, sizeof name, "bank/vectors/segment-%06zu%s.safetensors", i / 2,
                     i % 2 ? ".scan-int8" : "");
            ok(reco_hash_file(ctx, in(name), r ? hex : first[i]));
            if (r) assert_string_equal(hex, first[i]);
        }
        ok(reco_hash_file(ctx, in("bank/vectors/directions.safetensors"), r ? hex : directions));
        if (r) assert_string_equal(hex, directions);
        char command[300];
        snprintf(command, sizeof command, "rm -r %s", path);
        assert_int_equal(system(command), 0);
    }
}

/* What fails in the other thread is told by the call that needs it, and nothing is left. */
static void test_failure(void **state)
{
    struct rlimit old, small;
    (void)state;
    make_bases();
    reco_bank_writer *w = open_writer(ctx, in("bank"));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = (rlim_t)8 << 20; /* more than the captions need, less than a segment */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    reco_status status = append_all(ctx, w, 1000);
    char message[300];
    snprintf(message, sizeof message, "%.299s", reco_ctx_error(ctx));
    assert_int_equal(status, RECO_E_IO);
    assert_non_null(strstr(message, "vectors/segment-000000.safetensors"));
    refused(RECO_E_IO, "an earlier write failed", reco_bank_commit(ctx, w, ROWS, 1));
    reco_bank_writer_close(w);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(count_files(in("bank/vectors")), 0);
    build(in("bank"), 2, ROWS); /* the same job goes on */
    reco_bank_health health;
    ok(reco_bank_verify(ctx, in("bank"), NULL, NULL, &health));
    assert_int_equal(health.problems + health.orphans, 0);
    assert_int_equal(health.rows, ROWS);
}

/* Given up with a segment under way. */
static void test_close(void **state)
{
    (void)state;
    make_bases();
    reco_bank_writer *w = open_writer(ctx, in("bank"));
    ok(append_all(ctx, w, 1000));
    reco_bank_writer_close(w);
    assert_int_equal(count_files(in("bank/vectors")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
