/* Pictures at URLs: --fetch-hosts says of which hosts. What is asked waits here for its pictures, and goes on to the engine. */
#include "fetch.h"
#include "internal.h"

#include <stdlib.h>

static const double SECONDS = 10;

bool serve_put_url(serve *s, serve_request *r, serve_item *item, const char *url)
{
    item->kind = SERVE_PICTURE;
    item->own = RECO_IMAGE;
    if (s->opts->nfetch_hosts == 0) {
        serve_fail(r, 400, "this server does not fetch pictures from URLs; send the picture as base64");
        return false;
    }
    if (!s->model || !s->model_info.has_image) {
        serve_fail(r, 400, "this server was started without a model for pictures");
        return false;
    }
    item->url = strdup(url);
    if (!item->url) serve_fail(r, 503, "out of memory");
    return item->url;
}

static void fetch_picture(serve *s, const serve_request *r, serve_item *item, reco_ctx *ctx)
{
    reco_download_opts opts = {.hosts = s->opts->fetch_hosts,
                               .nhosts = s->opts->nfetch_hosts,
                               .max_bytes = s->opts->body,
                               .seconds = SECONDS};
    if (!item->url || serve_is_gone(r)) return;
    unsigned char *data = NULL;
    item->status = ctx ? reco_download(ctx, item->url, &opts, &data, &item->nbytes) : RECO_E_NOMEM;
    if (item->status == RECO_OK && !(item->bytes = malloc(item->nbytes + 1))) item->status = RECO_E_NOMEM;
    if (item->status == RECO_OK)
        memcpy(item->bytes, data, item->nbytes);
    else /* whatever it was, it is for the one who gave the URL to mend */
        item->error = strdup(ctx && *reco_ctx_error(ctx) ? reco_ctx_error(ctx) : "out of memory");
    if (item->status != RECO_OK && item->status != RECO_E_NOMEM) item->status = RECO_E_ARG;
    reco_free(data);
}

void *serve_fetcher(void *user)
{
    serve *s = user;
    reco_ctx *ctx = NULL;
    if (reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) != RECO_OK) ctx = NULL;
    for (serve_request *r; (r = serve_dequeue(s, &s->fetches));) {
        for (size_t i = 0; i < r->nitems; i++) fetch_picture(s, r, &r->items[i], ctx);
        (void)serve_enqueue(s, &s->questions, r); /* it is suspended, and so it is never refused */
    }
    reco_ctx_free(ctx);
    return NULL;
}

void serve_ask_engine(serve *s, serve_request *r)
{
    bool away = false;
    for (size_t i = 0; i < r->nitems; i++) away |= r->items[i].url != NULL;
    (void)serve_enqueue(s, away ? &s->fetches : &s->questions, r);
}
