/* Search a bank as a program would, one timed search per line of standard input, so that bench/search.py can take
 * turns between this process and a peer's while both are warm.
 *
 *     build/bench/search BANK QUERIES.f32 NQ K THREADS [plain|avx2]
 *
 * QUERIES is raw f32 [NQ][d]. First it prints what it opened. Then
 *     all          searches with all queries
 *     one I        with query I alone
 *     filter       with all, among the rows whose id is divisible by ten
 *     recall R     from here on searches find that share of the best, where the bank has lists (0: as it was indexed for)
 *     save FILE    writes the ids of the last search, raw i64
 * are answered with {"seconds": ..., "cpu": ...}, which is the process's own. Uses the public headers alone. */
#include <reco/reco.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static reco_ctx *ctx;

static void check(reco_status status)
{
    if (status == RECO_OK) return;
    fprintf(stderr, "bench/search: %s\n", reco_ctx_error(ctx));
    exit(1);
}

static void *read_all(const char *path, size_t bytes)
{
    void *data = malloc(bytes);
    FILE *f = fopen(path, "rb");
    if (!data || !f || fread(data, 1, bytes, f) != bytes) {
        fprintf(stderr, "bench/search: can't read %zu bytes of %s\n", bytes, path);
        exit(1);
    }
    fclose(f);
    return data;
}

static reco_bank_filter *every_tenth(const reco_bank *bank)
{
    reco_bank_filter *filter;
    size_t n = 0;
    int64_t next = reco_bank_get_info(bank)->next_id, *ids = malloc((size_t)(next / 10 + 1) * sizeof *ids);
    for (int64_t id = 0; ids && id < next; id += 10) ids[n++] = id;
    check(reco_bank_filter_ids(ctx, &filter, bank, ids, n));
    free(ids);
    return filter;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: search BANK QUERIES.f32 NQ K THREADS [plain|avx2]\n");
        return 2;
    }
    size_t nq = strtoul(argv[3], NULL, 10), k = strtoul(argv[4], NULL, 10), i, ran = 0;
    reco_ctx_opts opts = {.threads = atoi(argv[5])};
    if (argc > 6) opts.max_isa = strcmp(argv[6], "plain") == 0 ? RECO_ISA_PLAIN : RECO_ISA_AVX2;
    if (reco_ctx_create(&ctx, &opts) != RECO_OK) return 1;
    reco_bank *bank;
    double start = now(CLOCK_MONOTONIC);
    check(reco_bank_open(ctx, &bank, argv[1]));
    double open_seconds = now(CLOCK_MONOTONIC) - start;
    reco_bank_info info = *reco_bank_get_info(bank);
    float *queries = read_all(argv[2], nq * info.d * sizeof *queries),
          *scores = malloc(nq * k * sizeof *scores);
    int64_t *ids = malloc(nq * k * sizeof *ids);
    reco_bank_filter *filter = every_tenth(bank);
    printf("{\"rows\": %lld, \"d\": %zu, \"scan_rows\": %lld, \"open_seconds\": %.6f, \"threads\": %d}\n",
           (long long)info.rows, info.d, (long long)info.scan_rows, open_seconds, reco_ctx_threads(ctx));
    fflush(stdout);
    char line[4096];
    float recall = 0;
    while (ids && scores && fgets(line, sizeof line, stdin)) {
        reco_search_opts search = {
            .k = k, .min_similarity = -1, .recall = recall, .asked = RECO_ASKED_IMAGE};
        const float *from = queries;
        size_t n = nq;
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "save ", 5) == 0) { /* the rest is the path, blanks and all */
            FILE *f = fopen(line + 5, "wb");
            if (!f || fwrite(ids, k * sizeof *ids, ran, f) != ran || fclose(f) != 0) return 1;
            printf("{}\n");
            fflush(stdout);
            continue;
        }
        if (sscanf(line, "recall %f", &recall) == 1) {
            search.recall = recall;
            printf("{\"recall\": %g}\n", (double)reco_bank_expected_recall(bank, RECO_IMAGE, &search));
            fflush(stdout);
            continue;
        }
        if (sscanf(line, "one %zu", &i) == 1) {
            from += i % nq * info.d;
            n = 1;
        } else if (strncmp(line, "filter", 6) == 0)
            search.filter = filter;
        start = now(CLOCK_MONOTONIC);
        double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        check(reco_bank_search(ctx, bank, RECO_IMAGE, from, n, &search,
                               &(reco_hits){.ids = ids, .scores = scores}));
        printf("{\"seconds\": %.6f, \"cpu\": %.6f}\n", now(CLOCK_MONOTONIC) - start,
               now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        fflush(stdout);
        ran = n;
    }
    reco_bank_filter_free(filter);
    reco_bank_close(bank);
    free(ids);
    free(scores);
    free(queries);
    reco_ctx_free(ctx);
    return 0;
}
