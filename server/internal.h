/* server/internal.h: how a request goes through the server. HTTP's threads read it and parse it (http.c, route.c); the engine
 * answers what waits in batches (engine.c); changes of banks are made one after another by the writer (writer.c). */
#ifndef RECO_SERVER_INTERNAL_H
#define RECO_SERVER_INTERNAL_H

#include "answer.h"
#include "server.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

struct MHD_Connection;
struct MHD_Daemon;

/* ---- state.c: what is served ---- */

enum { SERVE_FILTERS = 16, SERVE_CLASSIFIERS = 8, SERVE_FACETS = 8, SERVE_NAME_BYTES = 128 };

typedef struct serve_filter {
    char *where;
    reco_bank_filter *filter;
    uint64_t used;
} serve_filter;

typedef struct serve_facets {
    char *where;
    json_t *answer;
    uint64_t used;
} serve_facets;

/* A bank as it is read. The engine alone reads `now`; who has written leaves a newer snapshot in `next`. */
typedef struct serve_bank {
    char name[SERVE_NAME_BYTES];
    char *path;
    char *folder; /* of pictures that are added, and of the audit; NULL: none */
    reco_bank *now;
    reco_bank_info info; /* of now, under the lock */
    reco_bank *next;     /* under the lock */
    serve_filter filters[SERVE_FILTERS];
    uint64_t snapshot;  /* how many were opened */
    bool lacks;         /* a server did not answer when the engine looked */
    reco_bank *counted; /* the counter's, and what it counted there */
    serve_facets facets[SERVE_FACETS];
} serve_bank;

/* How often somebody may ask: a bucket of `burst` requests that fills again by `each` a second; each 0: as often as they like. */
typedef struct serve_rate {
    double each, burst, level, at;
} serve_rate;

typedef struct serve_token {
    char *name, *token;
    serve_rate rate;
} serve_token;

typedef struct serve_metrics {
    _Atomic uint64_t requests, errors, rejected, texts, pictures, searches, batches, batched, added,
        deleted, answered, micros; /* answered, micros: of questions that the engine answered */
} serve_metrics;

typedef struct serve_connection serve_connection;

typedef struct serve_queue {
    struct serve_request *first, **last;
    size_t n;
    pthread_cond_t more;
    bool closed; /* nothing more comes */
} serve_queue;

typedef struct serve {
    const serve_opts *opts;
    reco_model *model;
    reco_model_info model_info;
    char fingerprint[33];
    reco_fusion *fusion;      /* the engine's; */
    reco_fusion *next_fusion; /* put here, under the lock, by who has read a newer one */
    bool fusion_changed;
    serve_bank *banks;
    size_t nbanks;
    size_t d;
    uint64_t layers;     /* how many fusion layers were read */
    void *classifiers;   /* classify.c's */
    serve_token *tokens; /* [ntokens], under the lock */
    size_t ntokens;
    serve_rate anybody;   /* where there are no tokens; under the lock */
    pthread_mutex_t lock; /* of queues, tokens, snapshots and names */
    serve_queue questions, changes, pictures, fetches, counts;
    bool stopping;
    serve_metrics metrics;
    _Atomic uint64_t held; /* bytes of bodies in memory */
    time_t began;
    reco_ctx *engine_ctx, *writer_ctx, *picture_ctx, *counter_ctx;
    void *batch; /* the engine's */
    pthread_mutex_t connections_lock;
    serve_connection *connections; /* under it, */
    size_t nconnections;           /* likewise */
    size_t bound;                  /* of nconnections */
} serve;

reco_status serve_state_open(serve *s, reco_ctx *ctx);
void serve_state_close(serve *s);
/* The bank of this name, or the first where it is NULL; NULL: there is none. */
serve_bank *serve_find_bank(serve *s, const char *name);
/* The writer: open what is committed now, for the engine to read from its next batch on. */
reco_status serve_refresh(serve *s, serve_bank *bank, reco_ctx *ctx);
/* The engine: read from now on what is newest. `look`: also whether another process has written. */
void serve_adopt(serve *s, reco_ctx *ctx, bool look);
/* A filter of the bank's present snapshot; kept for the next request, borrowed. */
reco_status serve_where(serve_bank *bank, reco_ctx *ctx, const char *where,
                        const reco_bank_filter **filter);
reco_status serve_read_tokens(serve *s, reco_ctx *ctx, char *error);
/* The name of who has this token, copied to name; false: nobody. With no tokens everybody is "". With `wait` the request counts, and
 * *wait is for how many seconds it comes too early; 0: it does not. */
bool serve_who(serve *s, const char *token, char name[SERVE_NAME_BYTES], double *wait);
/* "5" or "5:20": requests a second, and how many may come at once (as many as a second's, and one at least). false: it is neither. */
bool serve_read_rate(const char *text, serve_rate *rate);

/* ---- requests ---- */

typedef enum serve_kind { SERVE_TEXT, SERVE_PICTURE, SERVE_VECTOR, SERVE_ROW } serve_kind;

/* One embedding that a request needs. */
typedef struct serve_item {
    serve_kind kind;
    reco_side own;        /* whose space it is in */
    char *text;           /* of a text */
    char *url;            /* where the picture is to be had */
    unsigned char *bytes; /* of a picture's file */
    size_t nbytes;
    int64_t row;
    float *vector; /* [d], given, or made by the engine */
    int cut, width, height;
    reco_status status; /* of this item alone */
    char *error;
    size_t n; /* what was found */
    int64_t *ids;
    float *scores, *plain, *refined; /* plain, refined: where there is a mixture */
    reco_pair *pairs;                /* what the rows say, where that was asked for */
} serve_item;

/* How the items are to be looked up; requests of equal ones share a scan. */
typedef struct serve_ask {
    bool search;    /* else they are embedded alone */
    bool pairs;     /* with what the rows say */
    bool refine;    /* with the fusion layer */
    bool only_rows; /* 1: no search; rows are wanted by id */
    float recall;   /* as of reco_search_opts */
    reco_side side; /* whose vectors of the rows */
    size_t k;
    int distinct;
    float least;
} serve_ask;

typedef struct serve_request serve_request;
typedef struct serve_route {
    const char *method, *path;
    /* Parse the body; in a thread of HTTP. On an error, or where there is nothing for the engine to do, it answers. */
    void (*parse)(serve *s, serve_request *r);
    /* Answer, in the engine once the items are there, or in the writer, which does all the work here. Without an answer the request
     * goes on to the pictures' thread. */
    void (*finish)(serve *s, serve_request *r, reco_ctx *ctx);
    void (*late)(serve *s, serve_request *r, reco_ctx *ctx); /* there */
    bool writes, guest;                                      /* guest: no token is needed */
    bool shared;                                             /* pages of other origins may ask (CORS) */
    int errors;                                              /* how errors look: SERVE_ERRORS_... */
} serve_route;
enum { SERVE_ERRORS_OWN, SERVE_ERRORS_OPENAI, SERVE_ERRORS_PLAIN };

struct serve_request {
    struct MHD_Connection *connection;
    struct MHD_PostProcessor *form; /* of multipart bodies */
    const serve_route *route;
    char path[256]; /* that was asked for */
    char who[SERVE_NAME_BYTES];
    char *body;
    size_t bytes, room, wasted, held; /* held: of serve's */
    double began;
    json_t *json, *fields; /* the body; of a form, its fields of text */
    unsigned char *file;   /* of a form: its picture */
    size_t file_bytes;
    serve_bank *bank;
    char *where;
    int64_t id;
    size_t edge;
    int explain;
    json_t *value; /* an answer that lacks its pictures, */
    char **paths;  /* [npaths] which are these, by element of `value`; NULL: none */
    size_t npaths;
    serve_item *items;
    size_t nitems;
    serve_ask ask;
    bool suspended, cancelled;
    serve_request *next;
    size_t batch;    /* how many requests were answered with it */
    json_t *missing; /* an object of the bank's servers that the answer lacks; NULL: none */
    /* the answer */
    int status;
    char *answer;
    size_t answer_bytes;
    const char *type;  /* of the answer; NULL = JSON */
    const void *fixed; /* instead of answer: lives as long as the program */
    const char *etag;
    char allowed[64]; /* methods of the path, where the answer is 405 */
    double retry;     /* seconds, of Retry-After; 0: none */
};

/* ---- what the engine asks with ---- */

/* What is asked, for the engine: the bank, and with `refine` the layer, as training chose to use it. */
reco_memory serve_memory(const serve *s, const serve_request *r, bool refine);
/* item->vector as the memory refines it, to out [d], which may be the vector itself. *refined 0: nothing was done. */
reco_status serve_refine(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx,
                         float *out, int *refined);
/* An event in the log; run.c. */
void serve_tell(serve *s, const char *event, const char *what);

/* ---- http.c ---- */

extern const serve_route serve_routes[];
extern const size_t serve_nroutes;
reco_status serve_listen(serve *s, struct MHD_Daemon **daemon, char *error);
double serve_patience(const serve *s);     /* how long a request may take */
double serve_idle_seconds(const serve *s); /* how long headers may take, and nothing may come */
/* A header's value, or NULL. */
const char *serve_header(const serve_request *r, const char *name);
const char *serve_parameter(const serve_request *r, const char *name);
void serve_release(serve_request *r);
/* Has the client gone? */
bool serve_is_gone(const serve_request *r);
/* The answer is there: HTTP's threads go on. */
void serve_resume(serve_request *r);
/* Answers. The JSON is released. */
void serve_reply(serve_request *r, int status, json_t *value);
void serve_fail(serve_request *r, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* An error of the library as HTTP has it. */
void serve_fail_status(serve_request *r, reco_ctx *ctx, reco_status status);
int serve_http_status(const serve_request *r, reco_status status);
/* Into a queue; false: it is full, and the request has its answer. */
bool serve_enqueue(serve *s, serve_queue *q, serve_request *r);
double serve_now(void);

/* ---- connections.c ---- */

/* End those that have waited for too long. To be called each second or so. */
void serve_connections_sweep(serve *s);

/* ---- engine.c, writer.c ---- */

bool serve_engine_create(serve *s); /* what the engine works in; false: memory ran out */
void serve_engine_free(serve *s);
/* Threads. */
void serve_classifiers_free(serve *s);
void *serve_engine(void *s);
void *serve_writer(void *s);
void *serve_painter(void *s);
void *serve_fetcher(void *s);
void *serve_counter(void *s);
void serve_facets_free(serve_bank *bank);
/* The next one of a queue, when there is one; NULL: the server stops. */
serve_request *serve_dequeue(serve *s, serve_queue *q);
/* A picture made small, as a JPEG; kept for the next time. To be freed; NULL: it can't be read. */
unsigned char *serve_thumbnail(serve *s, reco_ctx *ctx, const char *path, size_t edge, size_t *bytes);

/* ---- parse.c: what many bodies have ---- */

/* Members of r->json, which is an object. On a wrong type the request fails and the answer is false. */
bool serve_get_text(serve_request *r, const json_t *object, const char *key, const char **out);
bool serve_get_size(serve_request *r, const json_t *object, const char *key, size_t low, size_t high,
                    size_t *out);
bool serve_get_number(serve_request *r, const json_t *object, const char *key, double low, double high,
                      double *out, bool *given);
bool serve_get_bool(serve_request *r, const json_t *object, const char *key, int *out);
bool serve_get_recall(serve_request *r); /* "recall" or "exact", into r->ask */
/* Room for n items. */
bool serve_room(serve_request *r, size_t n);
/* Items from values; false: the request has failed. */
bool serve_put_json(serve_request *r); /* the body into r->json, an object */
/* Likewise, with members of these names alone, "text image ...", and none of them null. */
bool serve_put_own_json(serve_request *r, const char *names);
bool serve_has_only(serve_request *r, const json_t *object, const char *names);
bool serve_put_text(serve *s, serve_request *r, serve_item *item, const char *text);
bool serve_put_picture(serve *s, serve_request *r, serve_item *item, const char *base64);
bool serve_put_url(serve *s, serve_request *r, serve_item *item, const char *url);
bool serve_put_vector(serve *s, serve_request *r, serve_item *item, const json_t *numbers);
/* To norm 1; false: it is zero. */
bool serve_unit(float *x, size_t d);
/* Where the request's bank is named: NULL is the first. */
bool serve_put_bank(serve *s, serve_request *r, const char *name);
/* NULL: it is none, or memory ran out. Blanks, and the lack of padding, are fine; "data:...;base64," before it too. */
unsigned char *serve_base64(const char *text, size_t *bytes);
char *serve_to_base64(const void *data, size_t bytes);
/* The answer waits for the engine, and before that for pictures from elsewhere. */
void serve_ask_engine(serve *s, serve_request *r);

/* ---- answers.c ---- */

/* The bank's servers that don't answer are missing from the request's answer. */
void serve_note_missing(serve_request *r, const reco_bank *bank);
/* The names of these, with commas between them, to be freed; NULL: there are none. */
char *serve_missing(const serve_request *r);
/* serve_reply, with "missing_servers" where the bank may lack some, and after a search its "recall". In the thread of `bank`. */
void serve_reply_found(serve *s, serve_request *r, const reco_bank *bank, int status, json_t *value);
/* The answer to a row that can't be found. In the engine. */
void serve_fail_row(serve_request *r, int64_t id);
/* {"id", "caption", "uri", "meta"} of a row; NULL: it is not there. */
json_t *serve_row(reco_ctx *ctx, const serve_bank *bank, int64_t id);
/* What many rows say; those that are not there have no caption. NULL: no memory. To be freed with serve_free_pairs. */
reco_pair *serve_pairs(reco_ctx *ctx, const serve_bank *bank, const int64_t *ids, size_t n);
void serve_free_pairs(reco_pair *pairs, size_t n);
/* The same as serve_row; NULL for those that are not there. */
void serve_rows(reco_ctx *ctx, const serve_bank *bank, const int64_t *ids, size_t n, json_t **rows);
/* As text, numbers as they were written; NULL when memory ran out. To be freed. */
char *serve_dump(const json_t *value);
/* A vector as a list of numbers; as base64 of little-endian f32. */
json_t *serve_vector(const float *x, size_t d);
/* The file of a row's picture on this machine, to be freed; NULL where there is none. */
char *serve_picture_path(const reco_pair *pair);

#endif
