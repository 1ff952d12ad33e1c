/* Training, whole: it learns where the memory knows something, refuses where it doesn't, never retrieves the pair
 * itself, and comes to the same bytes however often it is interrupted. */
#include "io/io.h"
#include "kernels/kernels.h"
#include "train/train_internal.h"
#include "defaults.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { CONCEPTS = 50, EACH = 4, N = CONCEPTS * EACH, D = 24 };

typedef struct world {
    char *folder, *bank, *out;
    float image[N * D], text[N * D];
} world;

static world w;

/* Of each concept, pictures and captions have a code, and nothing but the memory says which goes with which; a weak
 * common signal is what CLIP has. noise: the memory's partners are of other concepts. */
static void make_pairs(float *image, float *text, uint64_t seed, float common)
{
    static float codes[2][CONCEPTS * D];
    reco_rng rng;
    reco_rng_seed(&rng, 1); /* codes are of the world, pairs of the seed */
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < CONCEPTS * D; i++) codes[side][i] = (float)reco_rng_normal(&rng);
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < D; j++) {
            float z = common * (float)reco_rng_normal(&rng);
            size_t c = i / EACH * D + j;
            image[i * D + j] = codes[0][c] + z + 0.2f * (float)reco_rng_normal(&rng);
            text[i * D + j] = codes[1][c] + z + 0.2f * (float)reco_rng_normal(&rng);
        }
    reco_normalize(NULL, image, image, N, D, NULL);
    reco_normalize(NULL, text, text, N, D, NULL);
}

static reco_ctx *new_ctx(reco_progress_fn progress, void *user)
{
    reco_ctx *ctx;
    assert_int_equal(
        reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1, .progress = progress, .user = user}), RECO_OK);
    return ctx;
}

static void make_bank(reco_ctx *ctx, const char *path, const float *image, const float *text)
{
    static char captions[N][16];
    static reco_pair pairs[N];
    reco_bank_writer *writer;
    uint64_t next;
    int done;
    for (size_t i = 0; i < N; i++) {
        snprintf(captions[i], sizeof captions[i], "caption %zu", i);
        pairs[i] = (reco_pair){.caption = captions[i]};
    }
    reco_bank_spec spec = {
        .d = D, .encoder = "toy", .fingerprint = "0123456789abcdef0123456789abcdef", .logit_scale = 20};
    assert_int_equal(reco_bank_writer_open(ctx, &writer, path, &spec, "test", &next, &done), RECO_OK);
    assert_int_equal(reco_bank_append(ctx, writer, image, text, pairs, N), RECO_OK);
    assert_int_equal(reco_bank_commit(ctx, writer, N, 1), RECO_OK);
    reco_bank_writer_close(writer);
}

static int setup(void **state)
{
    (void)state;
    char name[] = "/tmp/reco-train-XXXXXX";
    if (!mkdtemp(name)) return -1;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    w.folder = reco_strdup(ctx, name);
    w.bank = reco_path_join(ctx, name, "bank");
    w.out = reco_path_join(ctx, name, "fusion.safetensors");
    make_pairs(w.image, w.text, 2, 0.5f);
    make_bank(ctx, w.bank, w.image, w.text);
    reco_ctx_free(ctx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char *command = reco_format(NULL, "rm -rf '%s'", w.folder);
    int rc = system(command);
    reco_free(command);
    reco_free(w.folder), reco_free(w.bank), reco_free(w.out);
    return rc;
}

static reco_status train(reco_ctx *ctx, const char *bank_path, const float *image, const float *text,
                         const reco_train_opts *o, reco_train_result *r)
{
    reco_bank *bank;
    assert_int_equal(reco_bank_open(ctx, &bank, bank_path), RECO_OK);
    reco_train_pairs pairs = {.n = N, .image = image, .text = text};
    reco_status status = reco_train(ctx, bank, image || text ? &pairs : NULL, w.out, o, r);
    reco_bank_close(bank);
    return status;
}

static char *bytes_of(size_t *n)
{
    char *data;
    assert_int_equal(reco_read_file(NULL, &data, n, w.out, 1 << 26), RECO_OK);
    unlink(w.out);
    return data;
}

static const reco_train_opts quick = {DEFAULTS, .layer = RECO_LAYER_DEFAULT, .steps = 60, .batch = 64,
                                      .seed = 3};

static void learns(void **state)
{
    (void)state;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    reco_train_result r;
    reco_fusion *f;
    assert_int_equal(train(ctx, w.bank, NULL, NULL, &quick, &r), RECO_OK);
    assert_int_equal(r.layer, RECO_LAYER_RELATIONAL);
    assert_true(r.pairs == N && r.validation_pairs == N);
    assert_int_not_equal(r.sides, RECO_SIDES_NONE);
    assert_true(r.both > r.clip + 10);
    assert_int_equal(reco_fusion_open(ctx, &f, w.out, D, 0), RECO_OK);
    reco_fusion_config kept = *reco_fusion_get_config(f);
    assert_true(kept.sides == r.sides && kept.mixture.clip == r.mixture.clip && r.mixture.clip < 1);
    assert_string_equal(reco_fusion_meta(f, "encoder"), "toy");
    assert_string_equal(reco_fusion_meta(f, "fingerprint"), "0123456789abcdef0123456789abcdef");
    reco_fusion_free(f);

    reco_train_opts o = quick;
    o.layer = RECO_LAYER_TRANSFORMER;
    o.heads = 4;
    o.rotate = 1;
    assert_int_equal(train(ctx, w.bank, NULL, NULL, &o, &r), RECO_OK);
    assert_true(r.validation_pairs < N);
    assert_int_equal(reco_fusion_open(ctx, &f, w.out, D, 0), RECO_OK);
    reco_fusion_free(f);

    o = quick;
    o.layer = RECO_LAYER_WEIGHTED;
    assert_int_equal(train(ctx, w.bank, NULL, NULL, &o, &r), RECO_OK);
    assert_true(r.both > r.clip + 10);
    unlink(w.out);
    reco_ctx_free(ctx);
}

/* Pairs that CLIP knows well, and a memory of other things: nothing beats leaving them alone. */
static void refuses(void **state)
{
    (void)state;
    static float image[N * D], text[N * D], noise[2][N * D];
    reco_ctx *ctx = new_ctx(NULL, NULL);
    reco_rng rng;
    reco_train_result r;
    reco_fusion *f;
    char *bank = reco_path_join(ctx, w.folder, "noise");
    reco_rng_seed(&rng, 5);
    for (size_t i = 0; i < N * D; i++) {
        image[i] = (float)reco_rng_normal(&rng);
        text[i] = image[i] + 0.8f * (float)reco_rng_normal(&rng);
        for (int side = 0; side < 2; side++) noise[side][i] = (float)reco_rng_normal(&rng);
    }
    reco_normalize(ctx, image, image, N, D, NULL);
    reco_normalize(ctx, text, text, N, D, NULL);
    for (int side = 0; side < 2; side++) reco_normalize(ctx, noise[side], noise[side], N, D, NULL);
    make_bank(ctx, bank, noise[0], noise[1]);
    for (uint64_t seed = 0; seed < 3; seed++) {
        reco_train_opts o = quick;
        o.seed = seed;
        assert_int_equal(train(ctx, bank, image, text, &o, &r), RECO_OK);
        assert_int_equal(r.sides, RECO_SIDES_NONE);
        assert_int_equal(reco_fusion_open(ctx, &f, w.out, D, 0), RECO_OK);
        assert_true(reco_fusion_get_config(f)->sides == RECO_SIDES_NONE && r.mixture.clip >= 1);
        reco_fusion_free(f);
    }
    reco_train_opts o = quick;
    o.sides = RECO_SIDES_TEXT;
    assert_int_equal(train(ctx, bank, image, text, &o, &r), RECO_OK);
    assert_int_equal(r.sides, RECO_SIDES_TEXT);
    unlink(w.out);
    reco_free(bank);
    reco_ctx_free(ctx);
}

/* No pair finds itself, its near-duplicate or a row of its picture, nor, in a batch, the rows of the batch or of the fold
 * that is held out. */
static void self_exclusion(void **state)
{
    (void)state;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    reco_bank *bank;
    reco_batch b;
    reco_mask mask;
    assert_int_equal(reco_bank_open(ctx, &bank, w.bank), RECO_OK);
    reco_job job = {.ctx = ctx, .bank = bank, .o = quick};
    job.o.max_similarity = 0.97f;
    job.o.neighbour_dropout = 0.5;
    assert_int_equal(reco_job_load(&job, NULL), RECO_OK);
    size_t near = 0, found = 0;
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < N; i++)
            for (size_t h = 0; h < job.depth; h++) {
                size_t at = job.near[side][i * job.reach[side] + h];
                if (at == RECO_NOTHING) continue;
                assert_true(at < N && at != i);
                double c = reco_dot(job.rows[0] + i * D, job.rows[0] + at * D, D);
                assert_true(c <= 0.9701);
                near += c > 0.9;
                found++;
            }
    assert_true(near > 0 && found > N * job.depth); /* the test would be void else */

    assert_int_equal(reco_batch_create(&job, &b, 40), RECO_OK);
    assert_int_equal(reco_mask_create(&job, &mask), RECO_OK);
    reco_mask_fold(&job, &mask, 0, true);
    for (size_t i = 0; i < 40; i++) mask.picture[job.same.picture[b.items[i] = (uint32_t)(5 * i)]] = 1;
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    size_t counts[11] = {0};
    assert_int_equal(reco_batch_fill(&job, &b, 40, &mask, false, &rng), RECO_OK);
    for (size_t q = 0; q < 40; q++) { /* ids are the text side's, the last that was filled */
        counts[b.valid[RECO_TEXT][q]]++;
        for (size_t h = 0; h < b.valid[RECO_TEXT][q]; h++) {
            size_t at = reco_job_index(&job, b.ids[q * 10 + h]);
            assert_true(at % 5 != 0 || at / 5 >= 40);
            assert_int_not_equal(job.fold[at], 0);
            assert_memory_equal(b.rows[RECO_TEXT] + b.place[RECO_TEXT][q * 10 + h] * D,
                                job.rows[RECO_IMAGE] + at * D, D * sizeof(float));
            if (h) assert_true(b.s[RECO_TEXT][q * 10 + h] <= b.s[RECO_TEXT][q * 10 + h - 1]);
        }
    }
    assert_true(counts[10] > 10 && counts[10] < 40);
    reco_mask_clear(&mask);
    reco_batch_clear(&b), reco_job_clear(&job);
    reco_bank_close(bank);
    reco_ctx_free(ctx);
}

static reco_status load(reco_ctx *ctx, reco_bank *bank, reco_job *job, const uint64_t *captions,
                        const uint64_t *pictures)
{
    reco_train_pairs pairs = {
        .n = N, .image = w.image, .text = w.text, .captions = captions, .pictures = pictures};
    *job = (reco_job){.ctx = ctx, .bank = bank, .o = quick};
    return reco_job_load(job, &pairs);
}

/* Captions and pictures, not rows, are held out, and what hangs together through them. */
static void folds(void **state)
{
    (void)state;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    reco_bank *bank;
    reco_job job;
    uint64_t captions[N], pictures[N];
    assert_int_equal(reco_bank_open(ctx, &bank, w.bank), RECO_OK);
    for (size_t i = 0; i < N; i++) captions[i] = 1 + i % 40 * 1000003;
    for (size_t i = 0; i < N; i++)
        pictures[i] = 1 + i % 80 / 2; /* two captions a picture, five rows each */
    for (int with = 0; with < 2; with++) {
        assert_int_equal(load(ctx, bank, &job, captions, with ? pictures : NULL), RECO_OK);
        assert_int_equal(job.nheld, N);
        size_t held[5] = {0};
        for (size_t i = 0; i < N; i++) held[job.fold[i]]++;
        for (size_t f = 0; f < 5; f++) assert_int_equal(held[f], N / 5);
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < N; j++) {
                bool one = captions[i] == captions[j], other = with && pictures[i] == pictures[j];
                assert_int_equal(job.same.caption[i] == job.same.caption[j], one);
                if (with) assert_int_equal(job.same.picture[i] == job.same.picture[j], other);
                if (one || other) assert_int_equal(job.fold[i], job.fold[j]);
            }
        reco_job_clear(&job);
    }
    /* One caption for half of the pairs hangs all of them together: that one is on both sides, and the others are not. */
    for (size_t i = 0; i < N; i++) {
        pictures[i] = 1 + i / 2;
        captions[i] = i % 2 ? 1 : 2 + i;
    }
    assert_int_equal(load(ctx, bank, &job, captions, pictures), RECO_OK);
    for (size_t i = 0; i < N; i += 2) assert_int_equal(job.fold[i], job.fold[i + 1]);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) /* what one row says of a picture holds for all of its rows */
            assert_int_equal(reco_is_right(&job.same, (uint32_t)i, (uint32_t)j), i / 2 == j / 2 || j % 2);
    reco_job_clear(&job);
    for (size_t i = 0; i < N; i++) captions[i] = 1 + i % 4;
    assert_int_equal(load(ctx, bank, &job, captions, NULL), RECO_E_ARG);
    reco_job_clear(&job), reco_bank_close(bank);
    reco_ctx_free(ctx);
}

/* Rows are the same when they differ by rounding alone, and then only. */
static void sameness(void **state)
{
    (void)state;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    reco_bank *bank;
    static float text[N * D];
    assert_int_equal(reco_bank_open(ctx, &bank, w.bank), RECO_OK);
    memcpy(text, w.text, sizeof text);
    for (size_t i = 0; i < N; i++) {
        size_t first = i - i % 4;
        if (i % 4 == 1) memcpy(text + i * D, text + first * D, D * sizeof *text);
        if (i % 4 == 2) /* as f16 */
            for (size_t j = 0; j < D; j++)
                text[i * D + j] = reco_f16_to_f32(reco_f32_to_f16(text[first * D + j]));
        if (i % 4 == 3) /* another caption, if a near one */
            for (size_t j = 0; j < D; j++) text[i * D + j] = text[first * D + j] + (j % 2 ? 1e-3f : -1e-3f);
    }
    reco_normalize(NULL, text, text, N, D, NULL);
    reco_train_pairs pairs = {.n = N, .image = w.image, .text = text};
    reco_job job = {.ctx = ctx, .bank = bank, .o = quick};
    assert_int_equal(reco_job_load(&job, &pairs), RECO_OK);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            assert_int_equal(job.same.caption[i] == job.same.caption[j],
                             i == j || (i / 4 == j / 4 && i % 4 != 3 && j % 4 != 3));
    /* The pairs' pictures are the bank's, so each has a row of the bank that it does not retrieve. */
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < N; i++)
            for (size_t h = 0; h < job.depth; h++)
                if (job.near[side][i * job.reach[side] + h] != RECO_NOTHING)
                    assert_int_not_equal(job.id[job.near[side][i * job.reach[side] + h]], i);
    reco_job_clear(&job);
    reco_bank_close(bank);
    reco_ctx_free(ctx);
}

/* ---- interruptions ---- */

typedef struct stop {
    int after;
} stop;

static int stopping(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    stop *s = user;
    return strcmp(what, "train") == 0 && s->after-- == 0;
}

static const reco_train_opts longer = {DEFAULTS, .layer = RECO_LAYER_DEFAULT, .steps = 200, .batch = 64,
                                       .seed = 4};
static const reco_train_opts deep = {
    DEFAULTS, .steps = 60, .batch = 64, .seed = 4, .layer = RECO_LAYER_TRANSFORMER, .heads = 2};

static void resumes(void **state)
{
    (void)state;
    char *state_path = reco_format(NULL, "%s.state", w.out);
    const reco_train_opts *each[] = {&longer, &deep};
    for (int e = 0; e < 2; e++) {
        size_t n, m;
        reco_train_result r;
        reco_ctx *ctx = new_ctx(NULL, NULL);
        assert_int_equal(train(ctx, w.bank, NULL, NULL, each[e], &r), RECO_OK);
        assert_false(r.resumed);
        reco_ctx_free(ctx);
        char *want = bytes_of(&n);
        int interruptions = 0;
        for (reco_status status = RECO_E_CANCELLED; status != RECO_OK;) {
            stop s = {1 + interruptions};
            ctx = new_ctx(stopping, &s);
            status = train(ctx, w.bank, NULL, NULL, each[e], &r);
            if (status != RECO_OK) {
                assert_int_equal(status, RECO_E_CANCELLED);
                assert_true(reco_path_exists(state_path));
                assert_false(reco_path_exists(w.out));
                interruptions++;
            }
            reco_ctx_free(ctx);
        }
        assert_true(interruptions > 0 && r.resumed);
        assert_false(reco_path_exists(state_path));
        char *got = bytes_of(&m);
        assert_int_equal(n, m);
        assert_memory_equal(got, want, n);
        reco_free(got);
        reco_free(want);
    }
    reco_free(state_path);
}

/* A state of other options, or damaged, is begun anew; never believed, never in the way. */
static void foreign_state(void **state)
{
    (void)state;
    char *state_path = reco_format(NULL, "%s.state", w.out), *want, *got, *data;
    size_t n, m, bytes;
    reco_train_result r;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    assert_int_equal(train(ctx, w.bank, NULL, NULL, &longer, &r), RECO_OK);
    want = bytes_of(&n);
    reco_ctx *stopped = new_ctx(stopping, &(stop){2});
    assert_int_equal(train(stopped, w.bank, NULL, NULL, &longer, &r), RECO_E_CANCELLED);
    reco_ctx_free(stopped);
    assert_int_equal(reco_read_file(ctx, &data, &bytes, state_path, 1 << 26), RECO_OK);
    for (int damage = 0; damage < 3; damage++) {
        reco_train_opts o = longer;
        if (damage == 0) data[200] ^= 0x40; /* in the header */
        if (damage == 1) o.seed = 9, data[200] ^= 0x40;
        assert_int_equal(reco_write_file(ctx, state_path, data, damage == 2 ? bytes / 2 : bytes), RECO_OK);
        assert_int_equal(train(ctx, w.bank, NULL, NULL, &o, &r), RECO_OK);
        assert_false(r.resumed);
        got = bytes_of(&m);
        if (damage != 1) {
            assert_int_equal(n, m);
            assert_memory_equal(got, want, n);
        }
        reco_free(got);
    }
    reco_free(data), reco_free(want), reco_free(state_path);
    reco_ctx_free(ctx);
}

/* The same program, run as a child that trains, so that it can be killed without ado. */
static int child(const char *bank, const char *out)
{
    reco_ctx *ctx = new_ctx(NULL, NULL);
    w.bank = reco_strdup(ctx, bank);
    w.out = reco_strdup(ctx, out);
    return (int)train(ctx, w.bank, NULL, NULL, &longer, NULL);
}

static void killed(void **state)
{
    (void)state;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    size_t n, m;
    reco_rng rng;
    reco_train_result r;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_int_equal(train(ctx, w.bank, NULL, NULL, &longer, &r), RECO_OK);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double whole = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    char *want = bytes_of(&n);
    reco_rng_seed(&rng, (uint64_t)end.tv_nsec);
    for (int i = 0; i < 6; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            execl("/proc/self/exe", "train", "child", w.bank, w.out, (char *)NULL);
            _exit(127);
        }
        usleep((useconds_t)(1e6 * whole * 1.2 * reco_rng_uniform(&rng)));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        if (i % 2) continue; /* sometimes killed twice before it may finish */
        assert_int_equal(train(ctx, w.bank, NULL, NULL, &longer, &r), RECO_OK);
        char *got = bytes_of(&m);
        assert_int_equal(n, m);
        assert_memory_equal(got, want, n);
        reco_free(got);
    }
    reco_free(want);
    reco_ctx_free(ctx);
}

static void mistakes(void **state)
{
    (void)state;
    reco_ctx *ctx = new_ctx(NULL, NULL);
    reco_bank *bank;
    const reco_train_pairs three = {.n = 3, .image = w.image, .text = w.text};
    assert_int_equal(train(ctx, w.bank, w.image, NULL, &quick, NULL), RECO_E_ARG);
    assert_int_equal(reco_bank_open(ctx, &bank, w.bank), RECO_OK);
    assert_int_equal(reco_train(ctx, bank, &three, w.out, &quick, NULL), RECO_E_ARG);
    assert_int_equal(reco_train(ctx, bank, NULL, "/nonexistent/f", &quick, NULL), RECO_E_IO);
    reco_bank_close(bank);
    reco_ctx_free(ctx);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "child") == 0) return child(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns),        cmocka_unit_test(refuses),  cmocka_unit_test(self_exclusion),
        cmocka_unit_test(folds),         cmocka_unit_test(sameness), cmocka_unit_test(resumes),
        cmocka_unit_test(foreign_state), cmocka_unit_test(killed),   cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
