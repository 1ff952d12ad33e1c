/* Threads that wait for work should sleep: spinning gains nothing on an idle machine and makes everything several times slower on a
 * busy one. OMP_WAIT_POLICY would say so, but runtimes read it when they are loaded, and a library has no say in that.
 *
 * libomp (clang's) has a function for it. libgomp (gcc's) spins for 300 times fewer turns, which is microseconds, where it manages
 * more threads than there are processors (its manual, GOMP_SPINCOUNT). So that many are added, in a team of their own that sleeps
 * for the life of the process: one more where a context uses all processors. */
#include "base/base.h"

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

extern void kmp_set_blocktime(int milliseconds) __attribute__((weak));

#ifndef __clang__
static _Noreturn void sleep_forever(void)
{
    for (;;) pause();
}

static void *team(void *arg)
{
    int *threads = arg;
    atomic_int came = 0;
    /* The team's threads stay when this is over, asleep, for as long as their master is there. */
#pragma omp parallel num_threads(*threads)
    atomic_fetch_add(&came, 1); /* an empty region is no region */
    reco_free(threads);
    sleep_forever();
}

/* Signals are for the program's own threads. */
static void start_team(int threads)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int *arg = reco_alloc(NULL, 1, sizeof *arg, "threads");
    if (!arg || pthread_attr_init(&attributes) != 0) {
        reco_free(arg);
        return;
    }
    *arg = threads;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                pthread_create(&thread, &attributes, team, arg) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!good) reco_free(arg); /* no harm done: threads spin */
}
#endif

void reco_threads_sleep(int threads)
{
    if (threads < 2) return;
    if (kmp_set_blocktime) kmp_set_blocktime(0);
#ifndef __clang__            /* whose own runtime it is then */
    static atomic_int added; /* to the runtime, of which a process has one */
    int want = omp_get_num_procs() - threads + 1, have = atomic_load(&added);
    while (have < want && !atomic_compare_exchange_weak(&added, &have, want)) continue;
    if (have < want) start_team(want - have + 1);
#endif
}
#else
void reco_threads_sleep(int threads) { (void)threads; }
#endif
