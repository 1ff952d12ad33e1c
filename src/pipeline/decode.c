#include "pipeline/pipeline_internal.h"

/* Pieces of about a thousand tokens: products of fewer rows are slower, more would only take memory. */
#define PIECE_TOKENS 1024
#define LEAST_PIECE ((size_t)4)
#define MOST_PIECE ((size_t)16)
#define MOST_BYTES ((size_t)256 << 20) /* of a picture whose content is hashed */

/* Each worker has a context of its own, since errors and scratch live there. */
struct reco_decoder {
    const reco_model *model;
    reco_image_limits limits;
    reco_ctx **workers;  /* [n] */
    reco_status *status; /* [n] */
    size_t n, pixels, d;
    size_t piece;  /* pictures that a thread decodes and embeds at a time */
    float *buffer; /* [n][piece][pixels]; NULL until something is embedded */
};

reco_status reco_decoder_create(reco_ctx *ctx, reco_decoder **out, const reco_model *model,
                                const reco_embed_opts *opts)
{
    /* Before any input is read: a model without that tower says so once. */
    RECO_TRY(reco_model_embed_pixels(ctx, model, NULL, 0, NULL));
    *out = NULL;
    reco_status status = RECO_OK;
    reco_decoder *d = reco_alloc(ctx, 1, sizeof *d, "decoder");
    if (!d) return RECO_E_NOMEM;
    reco_model_info info = *reco_model_get_info(model);
    size_t side = info.image_size, tokens = (side / info.patch) * (side / info.patch) + 1;
    d->model = model;
    if (opts) d->limits = opts->limits;
    d->n = (size_t)reco_ctx_threads(ctx);
    d->pixels = 3 * side * side;
    d->d = info.d;
    d->piece = reco_max(LEAST_PIECE, reco_min(MOST_PIECE, PIECE_TOKENS / tokens));
    d->workers = reco_alloc(ctx, d->n, sizeof(reco_ctx *), "decoder");
    d->status = reco_alloc(ctx, d->n, sizeof *d->status, "decoder");
    if (!d->workers || !d->status) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < d->n; i++) RECO_GO(reco_ctx_worker(ctx, &d->workers[i]));
    *out = d;
    d = NULL;
out:
    reco_decoder_free(d);
    return status;
}

void reco_decoder_free(reco_decoder *d)
{
    if (!d) return;
    for (size_t i = 0; d->workers && i < d->n; i++) reco_ctx_free(d->workers[i]);
    reco_free(d->workers);
    reco_free(d->status);
    reco_free(d->buffer);
    reco_free(d);
}

typedef struct args {
    reco_decoder *decoder;
    const char *const *paths;
    const reco_picture_bytes *data; /* NULL: all from files */
    float *pixels, *rows;           /* what is asked for */
    char **reasons;
} args;

static void decode_one(const args *a, size_t i, int worker, float *to)
{
    reco_decoder *d = a->decoder;
    reco_ctx *ctx = d->workers[worker];
    const reco_picture_bytes *in = a->data && a->data[i].data ? &a->data[i] : NULL;
    reco_status status = !in          ? reco_model_pixels(ctx, d->model, a->paths[i], &d->limits, to)
                         : in->height ? reco_model_pixels_rgb(ctx, d->model, a->paths[i], in->data,
                                                              in->height, in->width, &d->limits, to)
                                      : reco_model_pixels_of(ctx, d->model, a->paths[i], in->data,
                                                             in->bytes, &d->limits, to);
    if (status == RECO_OK) return;
    a->reasons[i] = reco_strdup(ctx, reco_ctx_error(ctx));
    if (!a->reasons[i]) d->status[worker] = RECO_E_NOMEM;
}

static void decode(void *arg, size_t begin, size_t end, int worker)
{
    const args *a = arg;
    const reco_decoder *d = a->decoder;
    for (size_t i = begin; i < end; i++) decode_one(a, i, worker, a->pixels + i * d->pixels);
}

/* A disk that is asked for many files at once is faster than one asked for each in turn. */
static void ask_for(const char *const *paths, const reco_picture_bytes *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!data || !data[i].data) reco_read_ahead(paths[i]);
}

static reco_status outcome(reco_ctx *ctx, const reco_decoder *d)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->status[i] != RECO_OK)
            return reco_fail(ctx, d->status[i], "%s", reco_ctx_error(d->workers[i]));
    return RECO_OK;
}

reco_status reco_decoder_run(reco_ctx *ctx, reco_decoder *decoder, const char *const *paths,
                             const reco_picture_bytes *data, size_t n, float *pixels, char **reasons)
{
    args a = {.decoder = decoder, .paths = paths, .data = data, .pixels = pixels, .reasons = reasons};
    memset(reasons, 0, n * sizeof *reasons);
    ask_for(paths, data, n);
    reco_parallel(ctx, n, 1, decode, &a);
    return outcome(ctx, decoder);
}

/* ---- contents ---- */

typedef struct hashing {
    reco_decoder *decoder;
    const char *const *paths;
    const reco_picture_bytes *data;
    unsigned char (*hashes)[RECO_BANK_HASH];
    bool *good, upright;
    size_t most; /* bytes of a file that is a picture */
} hashing;

static void hash_some(void *arg, size_t begin, size_t end, int worker)
{
    const hashing *h = arg;
    for (size_t i = begin; i < end; i++) {
        reco_map map = {0};
        const void *data = h->data[i].data;
        size_t bytes = h->data[i].bytes;
        h->good[i] = data || reco_map_open(h->decoder->workers[worker], &map, h->paths[i]) == RECO_OK;
        if (!h->good[i]) continue;
        if (!data) data = map.data, bytes = map.bytes;
        h->good[i] = bytes > 0 && bytes <= h->most;
        if (h->good[i]) reco_hash128(data, bytes, h->hashes[i]);
        h->hashes[i][0] ^= h->upright; /* the same file, another picture */
        reco_map_close(&map);
    }
}

void reco_decoder_hash(reco_ctx *ctx, reco_decoder *decoder, const char *const *paths,
                       const reco_picture_bytes *data, size_t n, unsigned char (*hashes)[RECO_BANK_HASH],
                       bool *good)
{
    hashing h = {decoder,
                 paths,
                 data,
                 hashes,
                 good,
                 reco_model_get_info(decoder->model)->preprocess.upright,
                 decoder->limits.max_bytes ? decoder->limits.max_bytes : MOST_BYTES};
    ask_for(paths, data, n);
    reco_parallel(ctx, n, 1, hash_some, &h);
}

/* ---- decoding and embedding in one ---- */

/* Rows of the good ones, which lie side by side, to their places; zeros for the others. */
static void spread_good_rows(float *rows, char *const *reasons, size_t n, size_t good, size_t d)
{
    for (size_t i = n; i-- > 0;)
        if (reasons[i])
            memset(rows + i * d, 0, d * sizeof *rows);
        else if (--good != i)
            memcpy(rows + i * d, rows + good * d, d * sizeof *rows);
}

/* A piece is one thread's from the file to the embedding: while one decodes others multiply, and none waits. */
static void embed_piece(void *arg, size_t begin, size_t end, int worker)
{
    args *a = arg;
    reco_decoder *d = a->decoder;
    float *x = d->buffer + (size_t)worker * d->piece * d->pixels, *rows = a->rows + begin * d->d;
    size_t good = 0;
    if (d->status[worker] != RECO_OK) return;
    for (size_t i = begin; i < end; i++) {
        decode_one(a, i, worker, x + good * d->pixels);
        good += !a->reasons[i];
    }
    if (d->status[worker] == RECO_OK)
        d->status[worker] = reco_model_embed_pixels(d->workers[worker], d->model, x, good, rows);
    spread_good_rows(rows, a->reasons + begin, end - begin, good, d->d);
}

/* Too few for that: the threads share one product. */
static reco_status embed_together(reco_ctx *ctx, args *a, size_t n)
{
    reco_decoder *d = a->decoder;
    size_t good = 0;
    a->pixels = d->buffer;
    reco_parallel(ctx, n, 1, decode, a);
    RECO_TRY(outcome(ctx, d));
    for (size_t i = 0; i < n; i++) {
        if (a->reasons[i]) continue;
        if (good != i)
            memcpy(d->buffer + good * d->pixels, d->buffer + i * d->pixels, d->pixels * sizeof(float));
        good++;
    }
    RECO_TRY(reco_model_embed_pixels(ctx, d->model, d->buffer, good, a->rows));
    spread_good_rows(a->rows, a->reasons, n, good, d->d);
    return RECO_OK;
}

reco_status reco_decoder_embed(reco_ctx *ctx, reco_decoder *d, const char *const *paths,
                               const reco_picture_bytes *data, size_t n, float *rows, char **reasons)
{
    args a = {.decoder = d, .paths = paths, .data = data, .rows = rows, .reasons = reasons};
    memset(reasons, 0, n * sizeof *reasons);
    if (!d->buffer &&
        !(d->buffer = reco_alloc_raw(ctx, d->n * d->piece * d->pixels, sizeof(float), "pixels")))
        return RECO_E_NOMEM;
    ask_for(paths, data, n);
    if (n < LEAST_PIECE * d->n) return embed_together(ctx, &a, n);
    size_t pieces = (n + d->piece - 1) / d->piece;
    pieces = (pieces + d->n - 1) / d->n * d->n; /* all threads end together */
    reco_parallel(ctx, n, (n + pieces - 1) / pieces, embed_piece, &a);
    return outcome(ctx, d);
}
