/* OpenAI's embeddings API: the openai package and infinity's clients work unchanged. Refined vectors are not sent here, unless the
 * name of the model ends in "+reco". */
#include "routes.h"

#include <stdlib.h>

enum { INPUTS = 2048 };

static bool is_picture(const char *text, const char *modality)
{
    return modality ? strcmp(modality, "image") == 0 : strncmp(text, "data:image/", 11) == 0;
}

void serve_embeddings_parse(serve *s, serve_request *r)
{
    const char *format, *modality, *model;
    size_t width = s->d;
    if (!serve_put_json(r) || !serve_get_text(r, r->json, "encoding_format", &format) ||
        !serve_get_text(r, r->json, "modality", &modality) ||
        !serve_get_text(r, r->json, "model", &model) ||
        !serve_get_size(r, r->json, "dimensions", 0, RECO_BANK_MAX_WIDTH, &width))
        return;
    if (!modality && strcmp(r->path, "/embeddings_image") == 0) modality = "image";
    const json_t *input = json_object_get(r->json, "input");
    bool list = json_is_array(input);
    size_t n = list ? json_array_size(input) : 1;
    if (format && strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
        serve_fail(r, 400, "\"encoding_format\" is \"%s\"; it must be float or base64", format);
    else if (width && width != s->d) /* 0: infinity's client, which means none */
        serve_fail(r, 400, "\"dimensions\" is %zu; the embeddings of this model have %zu", width, s->d);
    else if (n < 1 || n > INPUTS || (!list && !json_is_string(input)))
        serve_fail(r, 400, "\"input\" must be a text or a list of 1 to %d texts", INPUTS);
    if (r->status || !serve_room(r, n)) return;
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(list ? json_array_get(input, i) : input);
        if (!text) {
            serve_fail(r, 400, "\"input\" must contain only texts; token ids are not supported");
            return;
        }
        bool picture = is_picture(text, modality), away = picture && strncmp(text, "http", 4) == 0;
        if (!(away      ? serve_put_url
              : picture ? serve_put_picture
                        : serve_put_text)(s, r, &r->items[i], text))
            return;
    }
    size_t length = model ? strlen(model) : 0;
    r->explain = length > 5 && strcmp(model + length - 5, "+reco") == 0;
    if (r->explain && !(s->opts->fusion && serve_put_bank(s, r, NULL))) {
        serve_fail(r, 404,
                   "there is no model named \"%s\", because this server was started without a fusion layer "
                   "or a bank",
                   model);
        return;
    }
    serve_ask_engine(s, r);
}

static json_t *embedding(const serve *s, const float *x, bool base64)
{
    if (!base64) return serve_vector(x, s->d);
    unsigned char *bytes = malloc(4 * s->d); /* little-endian, whatever this machine is */
    for (size_t i = 0; i < s->d && bytes; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        for (int j = 0; j < 4; j++) bytes[4 * i + (size_t)j] = (unsigned char)(bits >> 8 * j);
    }
    char *text = bytes ? serve_to_base64(bytes, 4 * s->d) : NULL;
    json_t *value = text ? json_string_nocheck(text) : json_null();
    free(text);
    free(bytes);
    return value;
}

static size_t count_tokens(const serve *s, reco_ctx *ctx, const char *text)
{
    size_t n = 0;
    int32_t *ids = malloc(s->model_info.context * sizeof *ids);
    if (!ids || reco_model_tokens(ctx, s->model, text, strlen(text), ids, &n) != RECO_OK) n = 0;
    free(ids);
    return n;
}

void serve_embeddings_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    const char *format = json_string_value(json_object_get(r->json, "encoding_format"));
    const json_t *model = json_object_get(r->json, "model");
    json_t *data = json_array();
    size_t tokens = 0;
    for (size_t i = 0; i < r->nitems; i++) {
        serve_item *item = &r->items[i];
        if (item->text) tokens += count_tokens(s, ctx, item->text);
        int refined;
        if (item->status == RECO_OK && r->explain) {
            item->status = serve_refine(s, r, item, ctx, item->vector, &refined);
            if (item->status != RECO_OK) item->error = strdup(reco_ctx_error(ctx));
        }
        if (item->status != RECO_OK) {
            serve_fail(r, serve_http_status(r, item->status), "input %zu: %s", i,
                       item->error ? item->error : "out of memory");
            json_decref(data);
            return;
        }
        json_array_append_new(data,
                              json_pack("{s:s, s:i, s:o}", "object", "embedding", "index", (int)i,
                                        "embedding", embedding(s, item->vector, format && *format == 'b')));
    }
    serve_reply(r, 200,
                json_pack("{s:s, s:o, s:s, s:{s:I, s:I}}", "object", "list", "data", data, "model",
                          json_is_string(model) ? json_string_value(model) : s->model_info.name, "usage",
                          "prompt_tokens", (json_int_t)tokens, "total_tokens", (json_int_t)tokens));
}

void serve_models_parse(serve *s, serve_request *r)
{
    json_t *list = json_array();
    const char *endings[] = {"", "+reco"};
    for (int i = 0; i < 2 && s->model && (i == 0 || (s->opts->fusion && s->nbanks)); i++) {
        char name[sizeof s->model_info.name + 8];
        snprintf(name, sizeof name, "%s%s", s->model_info.name, endings[i]);
        /* infinity's client reads "stats" and knows one owner. */
        bool infinity = strcmp(r->path, "/models") == 0;
        json_t *model = json_pack("{s:s, s:s, s:I, s:s}", "id", name, "object", "model", "created",
                                  (json_int_t)s->began, "owned_by", infinity ? "infinity" : "reco");
        if (infinity) json_object_set_new(model, "stats", json_object());
        if (infinity) json_object_set_new(model, "backend", json_string("reco"));
        json_array_append_new(list, model);
    }
    serve_reply(r, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}
