/* Every scan kernel against the plain one: the same hits, bit by bit. */
#include "kernels/kernels.h"
#include "kernels/scan.h"
#include "amx_emulated.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static reco_ctx *ctx;

static size_t kernels(const reco_scan_kernel **out)
{
    size_t n = 0;
    for (size_t i = 0; i < reco_scan_kernel_count; i++)
        if (reco_scan_kernels[i]->usable())
            out[n++] = reco_scan_kernels[i];
        else
            print_message("[  NOTE  ] this CPU lacks %s\n", reco_scan_kernels[i]->name);
#ifdef RECO_AMX
    /* The same file with its tile instructions in C. */
    if (__builtin_cpu_supports("avx512bw")) out[n++] = &reco_scan_amx_emulated;
#endif
    return n;
}

typedef enum codes { RANDOM, GREATEST, LEAST, CODES } codes;

/* One row by itself against some of the queries, by the definition. */
static void test_pairs(void **state)
{
    (void)state;
    enum { NQ = 37 };
    reco_rng rng;
    reco_rng_seed(&rng, 5);
    const reco_scan_kernel *all[8];
    size_t n = kernels(all);
    for (size_t round = 0; round < 400; round++) {
        size_t width = 64 * (1 + reco_rng_below(&rng, RECO_SCAN_PAIR_MOST / 64)), asked = 0;
        int16_t *a = malloc(NQ * width * sizeof *a);
        uint8_t *row = malloc(width);
        reco_scan_pair_query queries[NQ];
        uint32_t names[NQ], got[NQ];
        bool extreme = round % 4 == 0;
        for (size_t j = 0; j < width; j++)
            row[j] = (uint8_t)(extreme ? 255 : 1 + reco_rng_below(&rng, 255));
        for (size_t i = 0; i < NQ * width; i++)
            a[i] = (int16_t)(extreme ? (i / width % 2 ? 32767 : -32767)
                                     : (int)reco_rng_below(&rng, 65535) - RECO_SCAN_PAIR_LEVELS);
        const float bound[] = {0.5f, round % 7 ? 0.25f : INFINITY, 0.125f, -0.5f};
        for (uint32_t i = 0; i < NQ; i++) {
            float size = (float)(1e5 * sqrt((double)width));
            queries[i] = (reco_scan_pair_query){(float)reco_rng_uniform(&rng) * size,
                                                (float)reco_rng_uniform(&rng) * size,
                                                (float)reco_rng_normal(&rng) * size,
                                                i % 5 ? (float)reco_rng_normal(&rng) * size : -INFINITY};
            if (reco_rng_below(&rng, 3)) names[asked++] = i;
        }
        const reco_scan_pairs pairs = {a, queries, width};
        for (size_t k = 0; k < n; k++) {
            memcpy(got, names, sizeof got);
            size_t kept = all[k]->pairs(got, asked, &pairs, row, bound), found = 0;
            for (size_t i = 0; i < asked; i++) {
                const reco_scan_pair_query *q = &queries[names[i]];
                int64_t dot = 0;
                for (size_t j = 0; j < width; j++) dot += (row[j] - 128) * a[names[i] * width + j];
                float sum = (float)dot * bound[0], slack = bound[1] * q->gain, rest = bound[2] * q->beyond;
                volatile float partial = sum + slack; /* rounded where the kernels round */
                partial = partial + rest;
                partial = partial + bound[3] * q->ahead;
                bool close = fabsf(partial - q->floor) <= 1e-5f * fabsf(q->floor);
                bool is_there = found < kept && got[found] == names[i];
                if (!close) assert_true(is_there == (partial >= q->floor));
                found += is_there;
            }
            assert_int_equal(found, kept);
            uint32_t plain[NQ];
            memcpy(plain, names, sizeof plain);
            assert_int_equal(reco_scan_plain_twin.pairs(plain, asked, &pairs, row, bound), kept);
            for (size_t i = 0; i < kept; i++) assert_int_equal(plain[i], got[i]);
        }
        free(row);
        free(a);
    }
}

static void check(size_t width, size_t nq, codes kind, reco_rng *rng)
{
    const reco_scan_kernel *all[8], *plain = &reco_scan_plain_twin;
    size_t n = kernels(all), group = RECO_SCAN_GROUP * width;
    uint8_t *rows = malloc(2 * group);
    int8_t *a = malloc(nq * width);
    int32_t *start = malloc(nq * sizeof *start);
    float *gain = malloc(nq * sizeof *gain), *floor = malloc(nq * sizeof *floor);
    float *beyond = malloc(nq * sizeof *beyond), *ahead = malloc(nq * sizeof *ahead), scale[32], slack[32];
    float rest[32], along[32];
    reco_scan_hit *want = malloc(nq * sizeof *want), *got = malloc(nq * sizeof *got);
    for (size_t i = 0; i < 2 * group; i++)
        rows[i] = kind == RANDOM ? (uint8_t)(1 + reco_rng_below(rng, 255)) : kind == GREATEST ? 255 : 1;
    for (size_t i = 0; i < 32; i++) {
        scale[i] = (float)reco_rng_uniform(rng);
        slack[i] = i == 7 ? INFINITY : (float)reco_rng_uniform(rng);
        rest[i] = (float)reco_rng_uniform(rng);
        along[i] = (float)reco_rng_normal(rng);
    }
    for (size_t k = 0; k < n; k++) {
        int levels = all[k]->levels;
        for (size_t q = 0; q < nq; q++) {
            int32_t sum = 0;
            for (size_t j = 0; j < width; j++) {
                int v = kind == RANDOM ? (int)reco_rng_below(rng, 2 * (size_t)levels + 1) - levels
                                       : (q % 2 ? levels : -levels);
                a[q * width + j] = (int8_t)v;
                sum += v;
            }
            start[q] = -128 * sum;
            gain[q] = (float)reco_rng_uniform(rng);
            beyond[q] = (float)(reco_rng_uniform(rng) * 1000 * sqrt((double)width));
            ahead[q] = (float)(reco_rng_normal(rng) * 1000 * sqrt((double)width));
            /* Near the middle of what there is, so that both answers happen. */
            floor[q] = q % 5 == 0 ? -INFINITY : (float)(reco_rng_normal(rng) * 1000 * sqrt((double)width));
            if (kind != RANDOM && q % 5 > 1) floor[q] = 127.0f * (float)levels * (float)width * 0.5f;
        }
        size_t room = (nq + 15) / 16 * 16 * width;
        int8_t *packed[2] = {malloc(room), malloc(room)};
        plain->pack(packed[0], a, nq, width);
        all[k]->pack(packed[1], a, nq, width);
        reco_scan_queries q[2];
        for (int i = 0; i < 2; i++)
            q[i] = (reco_scan_queries){.codes = packed[i],
                                       .start = start,
                                       .gain = gain,
                                       .beyond = beyond,
                                       .ahead = ahead,
                                       .n = nq,
                                       .width = width};
        for (size_t half = 0; half < 3; half++) {
            uint32_t live = half == 0 ? UINT32_MAX : half == 1 ? 0xffff : (uint32_t)reco_rng_next(rng);
            reco_scan_tile tile = {
                {rows, half == 1 ? rows : rows + group}, scale, slack, rest, along, floor, live};
            size_t hits = plain->scan(want, &q[0], &tile);
            assert_int_equal(all[k]->scan(got, &q[1], &tile), hits);
            for (size_t i = 0; i < hits; i++)
                assert_true(got[i].query == want[i].query && got[i].rows == want[i].rows);
        }
        free(packed[0]);
        free(packed[1]);
    }
    free(ahead);
    free(beyond);
    free(got);
    free(want);
    free(floor);
    free(gain);
    free(start);
    free(a);
    free(rows);
}

static void test_kernels_agree(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    for (size_t width = 64; width <= 1152; width += 64)
        for (int kind = 0; kind < CODES; kind++)
            check(width, 1 + (width / 64 * 7 + 5) % 53, (codes)kind, &rng);
    for (size_t nq = 1; nq <= 40; nq++) check(64, nq, RANDOM, &rng);
    check(65536, 3, GREATEST, &rng);
    check(65536, 3, LEAST, &rng);
}

static void test_dot_f16(void **state)
{
    (void)state;
    const reco_scan_kernel *all[8];
    size_t n = kernels(all);
    reco_rng rng;
    reco_rng_seed(&rng, 2);
    for (size_t d = 1; d <= 1100; d += d < 140 ? 1 : 37) {
        /* at the end of their blocks, so that a sanitizer sees reads beyond */
        float *q = malloc(d * sizeof *q);
        uint16_t *x = malloc(d * sizeof *x);
        double want = 0, size = 0;
        for (size_t i = 0; i < d; i++) {
            q[i] = (float)reco_rng_normal(&rng);
            x[i] = reco_f32_to_f16((float)reco_rng_normal(&rng));
            want += (double)q[i] * (double)reco_f16_to_f32(x[i]);
            size += fabs((double)q[i] * (double)reco_f16_to_f32(x[i]));
        }
        for (size_t k = 0; k < n; k++)
            assert_true(fabs((double)all[k]->dot_f16(q, x, d) - want) <=
                        (double)d * 0x1p-24 * size + 1e-12);
        free(x);
        free(q);
    }
}

/* The bound holds for every query and row, and is not wider than Cauchy and Schwarz make it. */
static void test_bound_holds(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    for (size_t d = 1; d <= 1100; d = d * 3 / 2 + 1)
        for (int kind = 0; kind < 4; kind++) {
            size_t width = reco_scan_width(d);
            float *mean = calloc(d, sizeof *mean), *query = malloc(d * sizeof *query), bounds[48];
            float *x = malloc(d * sizeof *x);
            uint16_t *rows = malloc(16 * d * sizeof *rows);
            uint8_t *group = malloc(16 * width);
            void *scratch = malloc(reco_scan_row_scratch(d));
            double norm = 0;
            for (size_t i = 0; i < d; i++)
                query[i] = (float)reco_rng_normal(&rng), norm += (double)query[i] * (double)query[i];
            for (size_t i = 0; i < d; i++) query[i] = (float)(query[i] / sqrt(norm));
            for (size_t i = 0; i < d; i++) mean[i] = kind ? (float)(0.3 * reco_rng_normal(&rng)) : 0;
            for (size_t r = 0; r < 16; r++)
                for (size_t i = 0; i < d; i++) {
                    double v = kind == 2   ? (double)mean[i]
                               : kind == 3 ? 6e-8 * (double)(i % 3)
                                           : reco_rng_normal(&rng);
                    rows[r * d + i] = reco_f32_to_f16((float)v);
                }
            for (size_t r = 0; r < 16; r++)
                reco_scan_encode_row(ctx, group, bounds, r, rows + r * d, mean, d, scratch);
            const reco_scan_kernel *all[8];
            size_t n = kernels(all);
            for (size_t k = 0; k < n; k++) {
                reco_mark mark = reco_scratch_mark(ctx);
                reco_scan_queries q;
                assert_int_equal(reco_scan_queries_new(ctx, &q, 1, d), RECO_OK);
                int8_t *a = calloc(width, 1);
                reco_scan_encode_queries(all[k], &q, a, NULL, query, 1, d, 0);
                double centre = 0;
                for (size_t i = 0; i < d; i++) centre += (double)query[i] * (double)mean[i];
                for (size_t r = 0; r < 16; r++) {
                    int64_t dot = 0;
                    double exact = 0;
                    for (size_t i = 0; i < d; i++) {
                        dot += (int64_t)a[i] * (group[(i / 4 * 16 + r) * 4 + i % 4] - 128);
                        exact += (double)query[i] * (double)reco_f16_to_f32(rows[r * d + i]);
                    }
                    double slack = (double)bounds[16 + r] + (double)q.error * (double)bounds[32 + r];
                    double estimate = centre + (double)q.step[0] * (double)bounds[r] * (double)dot;
                    double bound = (double)q.step[0] * slack * (double)q.gain[0];
                    assert_true(exact <= estimate + bound + 1e-12 && exact >= estimate - bound - 1e-12);
                    if (kind == 0) assert_true(bound < 0.05 * sqrt((double)d) + 1e-3);
                }
                free(a);
                reco_scratch_release(ctx, mark);
            }
            free(scratch);
            free(group);
            free(rows);
            free(x);
            free(query);
            free(mean);
        }
}

/* The same bits from every instruction set. */
static void test_dot_wide(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 4);
    static const reco_isa sets[] = {RECO_ISA_PLAIN, RECO_ISA_AVX2, RECO_ISA_AVX512};
    for (size_t d = 1; d < 1100; d += 13) {
        float a[1100], b[1100];
        for (size_t i = 0; i < d; i++)
            a[i] = (float)reco_rng_normal(&rng), b[i] = (float)reco_rng_normal(&rng);
        for (size_t s = 0; s < 3; s++) {
            reco_ctx *other;
            reco_ctx_opts opts = {.threads = 1, .max_isa = sets[s]};
            assert_int_equal(reco_ctx_create(&other, &opts), RECO_OK);
            double x = reco_dot_wide(other, a, b, d), y = reco_dot(a, b, d);
            assert_memory_equal(&x, &y, sizeof x);
            reco_ctx_free(other);
        }
    }
}

static int set_up(void **state)
{
    (void)state;
    return reco_ctx_create(&ctx, NULL) == RECO_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    reco_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_agree), cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_dot_f16),       cmocka_unit_test(test_bound_holds),
        cmocka_unit_test(test_dot_wide),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
