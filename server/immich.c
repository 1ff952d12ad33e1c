/* Immich's machine-learning service: GET /ping, POST /predict, a form of "entries" (JSON: {"clip": {"visual": ...}} or {"clip":
 * {"textual": ...}}) and an "image" file or a "text". Whatever model the entries name, the answer is of the one that is served. */
#include "routes.h"

#include <stdlib.h>

void serve_ping_parse(serve *s, serve_request *r)
{
    (void)s;
    r->status = 200;
    r->fixed = "pong";
    r->answer_bytes = 4;
    r->type = "text/plain; charset=utf-8";
}

void serve_predict_parse(serve *s, serve_request *r)
{
    const char *entries = json_string_value(json_object_get(r->fields, "entries")),
               *text = json_string_value(json_object_get(r->fields, "text"));
    r->json = entries ? json_loads(entries, 0, NULL) : NULL;
    const json_t *clip = json_object_get(r->json, "clip");
    const char *key;
    json_t *value;
    bool known = clip != NULL;
    json_object_foreach(r->json, key, value) known &= strcmp(key, "clip") == 0;
    bool picture = json_is_object(json_object_get(clip, "visual")),
         words = json_is_object(json_object_get(clip, "textual"));
    if (!json_is_object(r->json) || (clip && !picture && !words))
        serve_fail(r, 422, "Invalid request format.");
    else if (!known)
        serve_fail(r, 422, "this server supports only CLIP");
    else if (!(r->file && r->file_bytes) && !text)
        serve_fail(r, 400, "Either image or text must be provided");
    else if (serve_room(r, 1)) {
        serve_item *item = &r->items[0];
        bool image = r->file && r->file_bytes;
        if (!image) {
            if (serve_put_text(s, r, item, text)) serve_ask_engine(s, r);
            return;
        }
        item->kind = SERVE_PICTURE;
        item->own = RECO_IMAGE;
        item->bytes = r->file;
        item->nbytes = r->file_bytes;
        r->file = NULL;
        if (s->model && s->model_info.has_image)
            serve_ask_engine(s, r);
        else
            serve_fail(r, 400, "this server was started without a model for pictures");
    }
}

void serve_predict_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    serve_item *item = &r->items[0];
    if (item->status != RECO_OK) {
        serve_fail(r, serve_http_status(r, item->status), "%s",
                   item->error ? item->error : "out of memory");
        return;
    }
    json_t *vector = serve_vector(item->vector, s->d);
    char *text = json_dumps(vector, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_t *out = json_pack("{s:s}", "clip", text ? text : "");
    size_t width = 0, height = 0;
    if (item->kind == SERVE_PICTURE && reco_image_size(ctx, "image", item->bytes, item->nbytes, NULL,
                                                       s->opts->exif, &width, &height) == RECO_OK) {
        json_object_set_new(out, "imageHeight", json_integer((json_int_t)height));
        json_object_set_new(out, "imageWidth", json_integer((json_int_t)width));
    }
    free(text);
    json_decref(vector);
    serve_reply(r, 200, out);
}
