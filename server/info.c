/* What the server says of itself, and its page. */
#include "routes.h"

#include "page.h"

#include <signal.h>
#include <stdlib.h>

static void set_text_answer(serve_request *r, const char *type, char *answer, int bytes)
{
    r->status = bytes < 0 ? 500 : 200;
    r->answer = bytes < 0 ? NULL : answer;
    r->answer_bytes = bytes < 0 ? 0 : (size_t)bytes;
    r->type = type;
}

void serve_health_parse(serve *s, serve_request *r)
{
    serve_reply(r, 200, json_pack("{s:f}", "unix", (double)time(NULL)));
    (void)s;
}

static void line(FILE *out, const char *name, const char *kind, const char *help, uint64_t value)
{
    fprintf(out, "# HELP reco_%s %s\n# TYPE reco_%s %s\nreco_%s %llu\n", name, help, name, kind, name,
            (unsigned long long)value);
}

void serve_metrics_parse(serve *s, serve_request *r)
{
    char *answer = NULL;
    size_t bytes = 0;
    serve_metrics *m = &s->metrics;
    FILE *out = open_memstream(&answer, &bytes);
    if (!out) {
        serve_fail(r, 503, "out of memory");
        return;
    }
    line(out, "requests_total", "counter", "Answered requests.", atomic_load(&m->requests));
    line(out, "errors_total", "counter", "Answered requests with status 400 or above.",
         atomic_load(&m->errors));
    line(out, "rejected_total", "counter", "Requests refused because the queue was full.",
         atomic_load(&m->rejected));
    line(out, "texts_total", "counter", "Texts embedded.", atomic_load(&m->texts));
    line(out, "pictures_total", "counter", "Pictures embedded.", atomic_load(&m->pictures));
    line(out, "searches_total", "counter", "Query vectors that were searched for.",
         atomic_load(&m->searches));
    line(out, "batches_total", "counter", "Batches of requests.", atomic_load(&m->batches));
    line(out, "batched_requests_total", "counter", "Requests in these batches.", atomic_load(&m->batched));
    line(out, "pairs_added_total", "counter", "Rows added.", atomic_load(&m->added));
    line(out, "pairs_deleted_total", "counter", "Rows deleted.", atomic_load(&m->deleted));
    fprintf(out,
            "# HELP reco_question_seconds Time from the headers of a request to its answer.\n"
            "# TYPE reco_question_seconds summary\nreco_question_seconds_sum "
            "%.6f\nreco_question_seconds_count %llu\n",
            1e-6 * (double)atomic_load(&m->micros), (unsigned long long)atomic_load(&m->answered));
    pthread_mutex_lock(&s->lock);
    size_t waiting = s->questions.n + s->changes.n + s->pictures.n;
    fprintf(out, "# HELP reco_bank_rows Live rows.\n# TYPE reco_bank_rows gauge\n");
    for (size_t i = 0; i < s->nbanks; i++) {
        fprintf(out, "reco_bank_rows{bank=\"");
        for (const char *c = s->banks[i].name; *c; c++) {
            if (*c == '"' || *c == '\\') putc('\\', out);
            putc(*c == '\n' ? ' ' : *c, out);
        }
        fprintf(out, "\"} %lld\n", (long long)s->banks[i].info.rows);
    }
    pthread_mutex_unlock(&s->lock);
    line(out, "waiting_requests", "gauge", "Waiting requests.", waiting);
    set_text_answer(r, "text/plain; version=0.0.4; charset=utf-8", answer,
                    fclose(out) == 0 ? (int)bytes : -1);
}

void serve_reload_parse(serve *s, serve_request *r)
{
    (void)s;
    /* As the signal does it, in the main thread: an error stands in the log, and what was there before stays. */
    if (kill(getpid(), SIGHUP) == 0)
        serve_reply(r, 202, json_pack("{s:b}", "reloading", 1));
    else
        serve_fail(r, 500, "the server process cannot be signalled");
}

static const serve_file *find_served_file(const char *name)
{
    for (size_t i = 0; i < serve_nfiles; i++)
        if (strcmp(serve_files[i].name, name) == 0) return &serve_files[i];
    return NULL;
}

static void send_file(serve_request *r, const char *name, const char *type)
{
    const serve_file *f = find_served_file(name);
    r->status = 200;
    r->fixed = f->data;
    r->answer_bytes = f->bytes;
    r->etag = f->etag;
    r->type = type;
}

void serve_openapi_parse(serve *s, serve_request *r)
{
    (void)s;
    send_file(r, "openapi.json", "application/json");
}

void serve_page_parse(serve *s, serve_request *r)
{
    static const char *const types[][2] = {{"app.js", "text/javascript; charset=utf-8"},
                                           {"style.css", "text/css; charset=utf-8"}};
    (void)s;
    const char *name = strncmp(r->path, "/page/", 6) == 0 ? r->path + 6 : NULL;
    if (!name) {
        send_file(r, "index.html", "text/html; charset=utf-8");
        return;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i][0]) == 0) {
            send_file(r, name, types[i][1]);
            return;
        }
    serve_fail(r, 404, "there is no endpoint %s", r->path);
}
