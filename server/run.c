/* The process: open what is served, start the threads, wait for signals, finish what runs. */
#include "internal.h"

#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 8 };

static reco_status fill_error(char *error, reco_ctx *ctx, reco_status status)
{
    if (!*error) snprintf(error, SERVE_ERROR_BYTES, "%s", ctx ? reco_ctx_error(ctx) : "out of memory");
    return status;
}

static void begin_queue(serve_queue *q)
{
    q->first = NULL;
    q->last = &q->first;
    q->n = 0;
    pthread_cond_init(&q->more, NULL);
}

void serve_tell(serve *s, const char *event, const char *what)
{
    if (!s->opts->log) return;
    json_t *line = json_pack("{s:s, s:s?}", "event", event, "what", what);
    flockfile(s->opts->log);
    json_dumpf(line, s->opts->log, JSON_COMPACT);
    putc_unlocked('\n', s->opts->log);
    fflush(s->opts->log);
    funlockfile(s->opts->log);
    json_decref(line);
}

/* A newer fusion layer, and tokens. What can't be read stays as it was. */
static void reload(serve *s, reco_ctx *ctx)
{
    char error[SERVE_ERROR_BYTES] = "";
    reco_fusion *fresh = NULL;
    if (serve_read_tokens(s, ctx, error) != RECO_OK) serve_tell(s, "reload failed", error);
    if (!s->opts->fusion) return;
    reco_status status = reco_fusion_open(ctx, &fresh, s->opts->fusion, s->d, 0);
    if (status == RECO_OK) status = reco_check_encoder(ctx, s->model, NULL, fresh);
    if (status != RECO_OK) {
        serve_tell(s, "reload failed", reco_ctx_error(ctx));
        reco_fusion_free(fresh);
        return;
    }
    pthread_mutex_lock(&s->lock);
    reco_fusion *stale = s->next_fusion;
    s->next_fusion = fresh;
    s->fusion_changed = true;
    pthread_mutex_unlock(&s->lock);
    reco_fusion_free(stale);
    serve_tell(s, "reloaded", s->opts->fusion);
}

static reco_status write_port(const serve_opts *o, unsigned port, char *error)
{
    if (!o->port_file) return RECO_OK;
    FILE *out = fopen(o->port_file, "w");
    if (out && fprintf(out, "%u\n", port) > 0 && fclose(out) == 0) return RECO_OK;
    snprintf(error, SERVE_ERROR_BYTES, "%s cannot be written: %s", o->port_file, strerror(errno));
    return RECO_E_IO;
}

/* Threads, and the queue of each, in the order in which they hand on what they have: to the engine, and from there to the painter. */
static void *(*const mains[THREADS])(void *) = {serve_fetcher, serve_fetcher, serve_fetcher, serve_fetcher,
                                                serve_engine,  serve_writer,  serve_painter, serve_counter};

static void stop(serve *s, pthread_t threads[THREADS], int n)
{
    serve_queue *const queues[THREADS] = {&s->fetches,   &s->fetches, &s->fetches,  &s->fetches,
                                          &s->questions, &s->changes, &s->pictures, &s->counts};
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < n; i++) {
        pthread_mutex_lock(&s->lock);
        queues[i]->closed = true;
        pthread_cond_broadcast(&queues[i]->more);
        pthread_mutex_unlock(&s->lock);
        pthread_join(threads[i], NULL);
    }
}

static void wait_for_signals(serve *s, reco_ctx *ctx, const sigset_t *set)
{
    const struct timespec second = {.tv_sec = 1};
    for (int sig = 0; sig != SIGTERM && sig != SIGINT;) {
        sig = sigtimedwait(set, NULL, &second);
        if (sig == SIGHUP) reload(s, ctx);
        serve_connections_sweep(s);
    }
}

static reco_status make_contexts(serve *s)
{
    const serve_opts *o = s->opts;
    /* Adding goes on beside questions: it leaves them half of the processors. */
    reco_ctx_opts engine = {.threads = o->threads, .max_isa = o->max_isa}, beside = engine;
    reco_status status = reco_ctx_create(&s->engine_ctx, &engine);
    if (status != RECO_OK) return status;
    beside.threads = (reco_ctx_threads(s->engine_ctx) + 1) / 2;
    beside.wait = 30;
    status = reco_ctx_create(&s->writer_ctx, &beside);
    beside.threads = 1;
    if (status == RECO_OK) status = reco_ctx_create(&s->picture_ctx, &beside);
    return status == RECO_OK ? reco_ctx_create(&s->counter_ctx, &beside) : status;
}

reco_status serve_run(const serve_opts *opts, char error[SERVE_ERROR_BYTES])
{
    serve s = {.opts = opts,
               .lock = PTHREAD_MUTEX_INITIALIZER,
               .connections_lock = PTHREAD_MUTEX_INITIALIZER,
               .began = time(NULL)};
    pthread_t threads[THREADS];
    int running = 0;
    struct MHD_Daemon *daemon = NULL;
    reco_ctx *ctx = NULL;
    sigset_t set;
    *error = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before there are threads, which inherit it */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of the one who writes it */
    begin_queue(&s.questions);
    begin_queue(&s.changes);
    begin_queue(&s.pictures);
    begin_queue(&s.fetches);
    begin_queue(&s.counts);
    reco_status status = make_contexts(&s);
    if (status == RECO_OK)
        status = reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1, .max_isa = opts->max_isa});
    if (status == RECO_OK && opts->rate && !serve_read_rate(opts->rate, &s.anybody)) {
        snprintf(error, SERVE_ERROR_BYTES, "--rate is \"%s\", want requests per second, such as 5 or 5:20",
                 opts->rate);
        status = RECO_E_ARG;
    }
    if (status == RECO_OK) status = serve_read_tokens(&s, ctx, error);
    if (status == RECO_OK) status = serve_state_open(&s, ctx);
    if (status == RECO_OK && !serve_engine_create(&s)) status = RECO_E_NOMEM;
    for (; running < THREADS && status == RECO_OK; running++)
        if (pthread_create(&threads[running], NULL, mains[running], &s) != 0) {
            status = RECO_E_NOMEM;
            break;
        }
    if (status == RECO_OK) status = serve_listen(&s, &daemon, error);
    if (status == RECO_OK) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
        unsigned port = info ? info->port : opts->port;
        status = write_port(opts, port, error);
        char where[300];
        snprintf(where, sizeof where, "http%s://%s:%u/", opts->cert ? "s" : "",
                 opts->host ? opts->host : "127.0.0.1", port);
        if (status == RECO_OK) serve_tell(&s, "listening", where);
        if (status == RECO_OK) wait_for_signals(&s, ctx, &set);
    }
    if (status != RECO_OK) status = fill_error(error, ctx, status);
    if (daemon) {
        int listening = MHD_quiesce_daemon(daemon); /* no new connections */
        if (listening >= 0) close(listening);
    }
    stop(&s, threads, running);
    if (daemon) MHD_stop_daemon(daemon);
    serve_classifiers_free(&s);
    serve_state_close(&s);
    serve_engine_free(&s);
    reco_ctx_free(ctx);
    reco_ctx_free(s.engine_ctx);
    reco_ctx_free(s.writer_ctx);
    reco_ctx_free(s.picture_ctx);
    reco_ctx_free(s.counter_ctx);
    return status;
}
