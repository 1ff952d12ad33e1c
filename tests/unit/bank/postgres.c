/* A bank on servers against a folder of the same rows: run by tests/cli/test_postgres.py, which starts the servers.
 * bank-postgres FOLDER URLS D */
#include "bank/bank.h"
#include "base/base.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 500, NQ = 12, K = 20, CAPTIONS = 30 };

static void check(reco_ctx *ctx, reco_status status, int line)
{
    if (status == RECO_OK) return;
    fprintf(stderr, "postgres.c:%d: %s: %s\n", line, reco_status_name(status), reco_ctx_error(ctx));
    exit(1);
}
#define DO(call) check(ctx, (call), __LINE__)
#define SAME(a, b, bytes)                                                                                  \
    do {                                                                                                   \
        if (memcmp(a, b, bytes) != 0) {                                                                    \
            fprintf(stderr, "postgres.c:%d: d = %zu: %s is not %s\n", __LINE__, d, #b, #a);                \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

static size_t d;
static float *rows[2]; /* [N][d] */

static void unit_row(float *x)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++) sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < d; i++) x[i] = (float)(x[i] / sqrt(sum));
}

/* A narrow cone, equal rows, rows that differ in one bit of one component, and their opposites. */
static void make_rows(reco_rng *rng)
{
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < N; i++) {
            float *x = rows[side] + i * d;
            for (size_t j = 0; j < d; j++)
                x[j] = (float)(reco_rng_normal(rng) * (i % 7 ? 0.01 : 1)) + (i % 7 && j == 0 ? 1.0f : 0);
            if (i && i % 3 == 0) memcpy(x, rows[side] + reco_rng_below(rng, i) * d, d * sizeof *x);
            if (i % 12 == 0) x[reco_rng_below(rng, d)] *= 1.0005f;
            if (i % 20 == 1)
                for (size_t j = 0; j < d; j++) x[j] = -x[j];
            unit_row(x);
        }
}

static void build(reco_ctx *ctx, const char *path)
{
    reco_bank_writer *w;
    uint64_t next;
    int done;
    char captions[N][32];
    reco_pair pairs[N];
    const reco_bank_spec spec = {
        .d = d, .encoder = "test", .fingerprint = "0123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < N; i++) {
        snprintf(captions[i], sizeof captions[i], "caption %zu", i % CAPTIONS);
        pairs[i] = (reco_pair){
            .caption = captions[i], .uri = i % 4 ? captions[i] : NULL, .meta = i % 5 ? NULL : "{\"a\": 1}"};
    }
    DO(reco_bank_writer_open(ctx, &w, path, &spec, "job", &next, &done));
    for (size_t i = 0; i < N; i += 100)
        DO(reco_bank_append(ctx, w, rows[RECO_IMAGE] + i * d, rows[RECO_TEXT] + i * d, pairs + i, 100));
    DO(reco_bank_commit(ctx, w, N, 1));
    reco_bank_writer_close(w);
    const int64_t gone[] = {0, 5, 6, 333, N - 1};
    DO(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = gone, .nids = 5}, NULL, NULL));
}

typedef struct answer {
    int64_t ids[NQ * K];
    float scores[NQ * K];
    size_t counts[NQ];
    float *vectors[2]; /* [NQ][K][d] */
} answer;

static void ask(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                reco_search_opts *opts, answer *a)
{
    opts->k = K;
    DO(reco_bank_retrieve(ctx, bank, side, queries, NQ, opts,
                          &(reco_hits){.ids = a->ids, .scores = a->scores, .counts = a->counts},
                          a->vectors));
}

static void compare(reco_ctx *ctx, const reco_bank *folder, const reco_bank *server, const float *queries,
                    const int64_t *exclude)
{
    answer want, got;
    int64_t some[200];
    for (int side = 0; side < 2; side++) {
        want.vectors[side] = calloc(NQ * K * d, sizeof(float));
        got.vectors[side] = calloc(NQ * K * d, sizeof(float));
    }
    for (size_t i = 0; i < 200; i++) some[i] = (int64_t)(i * 5 % 900) - 3;
    for (int how = 0; how < 5; how++)
        for (reco_side side = 0; side < 2; side++) {
            reco_search_opts opts[2] = {RECO_SEARCH_OPTS_INIT, RECO_SEARCH_OPTS_INIT};
            reco_bank_filter *filters[2] = {NULL, NULL};
            for (int which = 0; which < 2; which++) {
                const reco_bank *bank = which ? server : folder;
                if (how == 1) DO(reco_bank_filter_ids(ctx, &filters[which], bank, some, 200));
                if (how == 2) DO(reco_bank_filter_where(ctx, &filters[which], bank, "id % 7 = 1"));
                if (how == 3) opts[which].min_similarity = 0.99f;
                if (how == 4) opts[which].exclude = exclude, opts[which].nexclude = 3;
                opts[which].filter = filters[which];
                ask(ctx, bank, side, queries, &opts[which], which ? &got : &want);
            }
            SAME(want.ids, got.ids, sizeof want.ids);
            SAME(want.scores, got.scores, sizeof want.scores);
            SAME(want.counts, got.counts, sizeof want.counts);
            for (int of = 0; of < 2; of++)
                SAME(want.vectors[of], got.vectors[of], NQ * K * d * sizeof(float));
            if (filters[0] && reco_bank_filter_count(filters[0]) != reco_bank_filter_count(filters[1]))
                exit(1);
            for (int which = 0; which < 2; which++) reco_bank_filter_free(filters[which]);
        }
    for (int side = 0; side < 2; side++) {
        free(want.vectors[side]);
        free(got.vectors[side]);
    }
}

static void same_pairs(reco_pair *want, reco_pair *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *texts[2][3] = {{want[i].caption, want[i].uri, want[i].meta},
                                   {got[i].caption, got[i].uri, got[i].meta}};
        if (want[i].id != got[i].id) exit(1);
        for (int t = 0; t < 3; t++)
            if (!texts[0][t] != !texts[1][t] || (texts[0][t] && strcmp(texts[0][t], texts[1][t]) != 0))
                exit(1);
        reco_pair_free(&want[i]);
        reco_pair_free(&got[i]);
    }
}

/* Two searches at once, of which one has vectors and what the rows say. */
static void compare_together(reco_ctx *ctx, const reco_bank *folder, const reco_bank *server,
                             const float *queries)
{
    static int64_t ids[2][2][NQ * K];
    static float scores[2][2][NQ * K];
    static reco_pair pairs[2][NQ * K];
    float *vectors[2] = {calloc(NQ * K * d, sizeof(float)), calloc(NQ * K * d, sizeof(float))};
    reco_bank_filter *filters[2];
    for (int which = 0; which < 2; which++) {
        const reco_bank *bank = which ? server : folder;
        DO(reco_bank_filter_where(ctx, &filters[which], bank, "id % 40 = 1"));
        reco_lookup both[2] = {
            {.side = RECO_TEXT,
             .queries = queries,
             .nq = NQ,
             .opts = {.k = K, .min_similarity = -1, .filter = filters[which]},
             .hits = {.ids = ids[which][0], .scores = scores[which][0]},
             .vectors = {vectors[which], NULL},
             .pairs = pairs[which]},
            {.side = RECO_IMAGE,
             .queries = queries + d,
             .nq = NQ - 1,
             .opts = {.k = 3, .min_similarity = -1},
             .hits = {.ids = ids[which][1], .scores = scores[which][1]}},
        };
        DO(reco_bank_look_up(ctx, bank, both, 2));
        both[1].side = 7;
        if (reco_bank_look_up(ctx, bank, both, 2) != RECO_E_ARG) exit(1);
        if ((reco_bank_get_info(bank)->shards > 0) != which) exit(1);
    }
    for (int l = 0; l < 2; l++) {
        SAME(ids[0][l], ids[1][l], sizeof ids[0][l]);
        SAME(scores[0][l], scores[1][l], sizeof scores[0][l]);
    }
    SAME(vectors[0], vectors[1], NQ * K * d * sizeof(float));
    if (ids[0][0][0] < 0 || ids[0][0][K - 1] != -1) exit(1); /* fewer rows than k pass */
    same_pairs(pairs[0], pairs[1], NQ * K);
    for (int which = 0; which < 2; which++) {
        free(vectors[which]);
        reco_bank_filter_free(filters[which]);
    }
}

/* Rows near a query, page by page. */
static size_t near(reco_ctx *ctx, const reco_bank *bank, const float *query, float least, size_t page,
                   int64_t *ids, float *scores)
{
    size_t n = 0, got;
    for (reco_range range = {.query = query, .least = least, .max = page};; range.from = ids[n - 1] + 1) {
        const reco_hits hits = {.ids = ids + n, .scores = scores + n, .counts = &got};
        DO(reco_bank_within(ctx, bank, &range, &hits));
        n += got;
        if (got < page) return n;
    }
}

static void compare_rows(reco_ctx *ctx, const reco_bank *folder, const reco_bank *server,
                         const float *queries)
{
    static int64_t ids[2][N + 99];
    static float scores[2][N + 99];
    for (size_t q = 0; q < 4; q++)
        for (size_t page = 3; page < 1000; page *= 17) {
            size_t n = near(ctx, folder, queries + q * d, 0.98f, page, ids[0], scores[0]);
            if (n != near(ctx, server, queries + q * d, 0.98f, page, ids[1], scores[1])) exit(1);
            SAME(ids[0], ids[1], n * sizeof(int64_t));
            SAME(scores[0], scores[1], n * sizeof(float));
        }
    for (size_t page = 7; page < 1000; page *= 11) {
        size_t n[2] = {0, 0}, got;
        for (int which = 0; which < 2; which++) do {
                DO(reco_bank_select(ctx, which ? server : folder, page > 50 ? "id % 3 = 0" : NULL,
                                    n[which] ? ids[which][n[which] - 1] + 1 : 0, page,
                                    ids[which] + n[which], &got));
                n[which] += got;
            } while (got == page);
        if (n[0] != n[1]) exit(1);
        SAME(ids[0], ids[1], n[0] * sizeof(int64_t));
    }
    const int64_t wanted[] = {7, -1, 7, 400, 12, -1, 7, 100};
    float *want = malloc(8 * d * sizeof *want), *got = malloc(8 * d * sizeof *got);
    for (reco_side side = 0; side < 2; side++) {
        DO(reco_bank_gather(ctx, folder, side, wanted, 8, want));
        DO(reco_bank_gather(ctx, server, side, wanted, 8, got));
        SAME(want, got, 8 * d * sizeof *want);
    }
    free(want);
    free(got);
    reco_pair a[8], b[8];
    DO(reco_bank_get_many(ctx, folder, wanted, 8, a));
    DO(reco_bank_get_many(ctx, server, wanted, 8, b));
    same_pairs(a, b, 8);
    if (reco_bank_gather(ctx, server, RECO_TEXT, (const int64_t[]){3, 333}, 2, scores[0]) !=
        RECO_E_NOTFOUND)
        exit(1);
}

static const reco_bank *shared;
static const float *shared_queries;
static void *many(void *unused)
{
    reco_ctx *ctx;
    answer *first = calloc(1, sizeof *first), *again = calloc(1, sizeof *again);
    reco_search_opts opts = RECO_SEARCH_OPTS_INIT;
    (void)unused;
    if (reco_ctx_create(&ctx, NULL) != RECO_OK) exit(1);
    ask(ctx, shared, RECO_IMAGE, shared_queries, &opts, first);
    for (int i = 0; i < 5; i++) {
        ask(ctx, shared, RECO_IMAGE, shared_queries, &opts, again);
        SAME(first->ids, again->ids, sizeof first->ids);
    }
    free(first);
    free(again);
    reco_ctx_free(ctx);
    return NULL;
}

int main(int argc, char **argv)
{
    reco_ctx *ctx;
    reco_rng rng;
    reco_bank *folder, *server;
    if (argc != 4 || reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}) != RECO_OK) return 2;
    d = (size_t)atoi(argv[3]);
    reco_rng_seed(&rng, d);
    for (int side = 0; side < 2; side++) rows[side] = malloc(N * d * sizeof(float));
    make_rows(&rng);
    build(ctx, argv[1]);
    build(ctx, argv[2]);
    DO(reco_bank_open(ctx, &folder, argv[1]));
    DO(reco_bank_open(ctx, &server, argv[2]));
    float *queries = malloc(NQ * d * sizeof *queries);
    int64_t exclude[NQ * 3];
    for (size_t q = 0; q < NQ; q++) {
        memcpy(queries + q * d, rows[q % 2] + q * 13 % N * d, d * sizeof *queries);
        if (q % 3 == 0)
            for (size_t j = 0; j < d; j++) queries[q * d + j] += (float)(0.003 * reco_rng_normal(&rng));
        unit_row(queries + q * d);
        for (size_t i = 0; i < 3; i++) exclude[q * 3 + i] = i == 2 ? -1 : (int64_t)(q * 13 % N + i);
    }
    compare(ctx, folder, server, queries, exclude);
    compare_together(ctx, folder, server, queries);
    compare_rows(ctx, folder, server, queries);
    pthread_t threads[3];
    shared = server;
    shared_queries = queries;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, many, NULL) != 0) return 2;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    reco_bank_close(folder);
    reco_bank_close(server);
    for (int side = 0; side < 2; side++) free(rows[side]);
    free(queries);
    reco_ctx_free(ctx);
    return 0;
}
