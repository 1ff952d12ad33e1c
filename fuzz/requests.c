/* Bodies of requests, each for every question that has one: they are refused with a status and JSON, or are ready to be answered. */
#include "routes.h"

#include <stdlib.h>

static void check_base64(const uint8_t *data, size_t bytes)
{
    size_t n = 0;
    char *text = serve_to_base64(data, bytes);
    unsigned char *back = text ? serve_base64(text, &n) : NULL;
    if (bytes && (!back || n != bytes || memcmp(back, data, n) != 0)) abort();
    if (!bytes && back) abort();
    free(back);
    free(text);
}

static void check(serve *s, const serve_route *route, const uint8_t *data, size_t bytes)
{
    serve_request *r = calloc(1, sizeof *r);
    char *body = malloc(bytes + 1);
    if (!r || !body) abort();
    memcpy(body, data, bytes);
    body[bytes] = 0;
    r->route = route;
    r->body = body;
    r->bytes = bytes;
    if (strcmp(route->path, "/predict") == 0) {
        r->fields = json_object();
        json_object_set_new(r->fields, "entries", json_string(body));
        json_object_set_new(r->fields, "text", json_string("a"));
    }
    route->parse(s, r);
    if (r->status < 400) abort(); /* the queue is full: 503 is what a good one gets */
    json_t *answer = json_loads(r->answer, 0, NULL);
    if (!json_is_object(answer)) abort();
    json_decref(answer);
    serve_release(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static serve_opts opts = {.fusion = "f"};
    static serve_bank bank = {.name = "b", .path = "b", .folder = "b"};
    static serve s = {.opts = &opts, .banks = &bank, .nbanks = 1, .d = 4, .stopping = true};
    static int model;
    s.model = (reco_model *)&model; /* parsing asks only whether there is one */
    s.model_info.has_image = s.model_info.has_text = true;
    s.model_info.tokenizer.kind[0] = 'x';
    pthread_mutex_init(&s.lock, NULL);
    for (size_t i = 0; i < serve_nroutes; i++)
        if (strcmp(serve_routes[i].method, "GET") != 0 && serve_routes[i].finish)
            check(&s, &serve_routes[i], data, bytes);
    check_base64(data, bytes < 100 ? bytes : 100);
    pthread_mutex_destroy(&s.lock);
    return 0;
}
