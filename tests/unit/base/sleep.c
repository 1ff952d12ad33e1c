/* A thread that waits for another one takes no processor time, whatever the environment says of OpenMP. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

static double clock_of(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#define WORK 2e-3 /* seconds of the first piece; the second one has nothing to do */

static void piece(void *arg, size_t begin, size_t end, int worker)
{
    (void)arg, (void)end, (void)worker;
    double until = clock_of(CLOCK_THREAD_CPUTIME_ID) + WORK;
    while (begin == 0 && clock_of(CLOCK_THREAD_CPUTIME_ID) < until) continue;
}

static void test_waiting(void **state)
{
    (void)state;
    enum { TURNS = 100 };
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    for (int i = 0; i < 10; i++) reco_parallel(ctx, 2, 1, piece, NULL);
    double start = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < TURNS; i++) reco_parallel(ctx, 2, 1, piece, NULL);
    double spent = (clock_of(CLOCK_PROCESS_CPUTIME_ID) - start) / (TURNS * WORK);
    print_message("processor time: %.2f times the work\n", spent);
    assert_true(spent < 1.4);
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_waiting)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
