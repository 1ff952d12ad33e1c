/* Helpers of the bank's tests: a folder of its own, rows that are a function of their number. */
#ifndef RECO_BANK_TEST_H
#define RECO_BANK_TEST_H

#include "bank/search/filter.h"
#include "bank/search/scan.h"
#include "bank/write/writer.h"

#include <math.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define ok(call)                                                                                           \
    do {                                                                                                   \
        reco_status ok_status = (call);                                                                    \
        if (ok_status != RECO_OK)                                                                          \
            fail_msg("%s: %s: %s", #call, reco_status_name(ok_status), reco_ctx_error(ctx));               \
    } while (0)

/* The call returns `want`, with a message that contains `part`. */
#define refused(want, part, call)                                                                          \
    do {                                                                                                   \
        reco_status refused_status = (call);                                                               \
        if (refused_status != (want) || !strstr(reco_ctx_error(ctx), part))                                \
            fail_msg("%s: got %s \"%s\", want %s \"...%s...\"", #call, reco_status_name(refused_status),   \
                     reco_ctx_error(ctx), reco_status_name(want), part);                                   \
    } while (0)

static reco_ctx *ctx;
static char folder[64]; /* fresh for each test */

static inline int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/reco-bank-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    reco_ctx_opts opts = {.threads = 2};
    return reco_ctx_create(&ctx, &opts) == RECO_OK ? 0 : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "chmod -R u+w %s; rm -rf %s", folder, folder);
    reco_ctx_free(ctx);
    return system(command);
}

/* "FOLDER/name", good until the fourth next call. */
static inline const char *in(const char *name)
{
    static char paths[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", folder, name);
    return paths[turn];
}

/* Change a database behind the bank's back. */
static inline void sql(const char *path, const char *text)
{
    sqlite3 *db;
    char *error = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK) fail_msg("%s: %s", text, error);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Make a bank whose tables were changed so one that reco changed. */
static inline void reseal(const char *path)
{
    reco_catalog *c;
    ok(reco_catalog_open(ctx, &c, path, true));
    ok(reco_catalog_settle(ctx, c));
    reco_catalog_close(c);
}

static inline void random_unit(float *x, size_t d, reco_rng *rng)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        x[i] = (float)reco_rng_normal(rng);
        sum += (double)x[i] * (double)x[i];
    }
    for (size_t i = 0; i < d; i++) x[i] = (float)(x[i] / sqrt(sum));
}

/* The vector of one side of row `number`: alike in every run. */
static inline void numbered_unit(float *x, size_t d, reco_side side, uint64_t number)
{
    reco_rng rng;
    reco_rng_seed(&rng, 2 * number + side);
    random_unit(x, d, &rng);
}

static inline void append_numbered(reco_bank_writer *w, size_t d, uint64_t from, size_t n)
{
    float *image = malloc(n * d * sizeof *image), *text = malloc(n * d * sizeof *text);
    reco_pair *pairs = calloc(n, sizeof *pairs);
    char(*strings)[3][64] = malloc(n * sizeof *strings);
    for (size_t i = 0; i < n; i++) {
        numbered_unit(image + i * d, d, RECO_IMAGE, from + i);
        numbered_unit(text + i * d, d, RECO_TEXT, from + i);
        snprintf(strings[i][0], 64, "caption %llu", (unsigned long long)(from + i));
        snprintf(strings[i][1], 64, "file:///%llu.jpg", (unsigned long long)(from + i));
        snprintf(strings[i][2], 64, "{\"n\": %llu}", (unsigned long long)(from + i));
        pairs[i] = (reco_pair){.caption = strings[i][0], .uri = strings[i][1], .meta = strings[i][2]};
    }
    ok(reco_bank_append(ctx, w, image, text, pairs, n));
    free(strings);
    free(pairs);
    free(text);
    free(image);
}

/* Row `id` of the bank is numbered row `number`, vectors, caption, uri and meta. */
static inline void assert_numbered(const reco_bank *bank, int64_t id, uint64_t number)
{
    size_t d = reco_bank_get_info(bank)->d;
    reco_pair pair;
    char want[64];
    ok(reco_bank_get(ctx, bank, id, &pair));
    snprintf(want, sizeof want, "caption %llu", (unsigned long long)number);
    assert_string_equal(pair.caption, want);
    snprintf(want, sizeof want, "file:///%llu.jpg", (unsigned long long)number);
    assert_string_equal(pair.uri, want);
    snprintf(want, sizeof want, "{\"n\": %llu}", (unsigned long long)number);
    assert_string_equal(pair.meta, want);
    assert_int_equal(pair.id, id);
    reco_pair_free(&pair);
    float *has = malloc(d * sizeof *has), *x = malloc(d * sizeof *x);
    for (int side = 0; side < 2; side++) {
        ok(reco_bank_gather(ctx, bank, (reco_side)side, &id, 1, has));
        numbered_unit(x, d, (reco_side)side, number);
        for (size_t i = 0; i < d; i++) assert_true(fabsf(has[i] - x[i]) < 6e-4f);
    }
    free(x);
    free(has);
}

/* A finished bank of n numbered rows in `commits` commits. */
static inline void build_numbered(const char *path, size_t d, size_t n, size_t commits)
{
    reco_bank_spec spec = {.d = d};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "numbered", &next, &done));
    assert_int_equal(next, 0);
    assert_int_equal(done, 0);
    for (size_t i = 0; i < commits; i++) {
        size_t from = n * i / commits, to = n * (i + 1) / commits;
        append_numbered(w, d, from, to - from);
        ok(reco_bank_commit(ctx, w, to, to == n));
    }
    reco_bank_writer_close(w);
}

#endif
