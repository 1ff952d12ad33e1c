/* The protocol of clip-retrieval 2.45 (clip_back.py), so that its client and its page work unchanged. What a model of ours is missing
 * for (safety, violence, aesthetics, mclip) is passed over; /config.json tells its page not to offer them. */
#include "routes.h"

#include <stdlib.h>

enum { IMAGES = 100, MOST_IDS = RECO_BANK_MAX_K };
static const float SAME =
    0.94f; /* rows with this cosine to one another are one, of which the first is shown */
enum { FULL_EDGE = 4096 };

void serve_knn_parse(serve *s, serve_request *r)
{
    const char *text, *image, *url, *name, *modality;
    if (!serve_put_json(r)) return;
    const json_t *vector = json_object_get(r->json, "embedding_input");
    size_t images = IMAGES;
    int dedup = 0;
    if (!serve_get_text(r, r->json, "text", &text) || !serve_get_text(r, r->json, "image", &image) ||
        !serve_get_text(r, r->json, "image_url", &url) ||
        !serve_get_text(r, r->json, "indice_name", &name) ||
        !serve_get_text(r, r->json, "modality", &modality) ||
        !serve_get_bool(r, r->json, "deduplicate", &dedup) ||
        !serve_get_size(r, r->json, "num_images", 0, 1000000, &images))
        return;
    size_t ids = images;
    if (!serve_get_size(r, r->json, "num_result_ids", 0, 1000000, &ids)) return;
    if (!serve_put_bank(s, r, name && *name ? name : NULL) || !serve_room(r, 1)) return;
    r->ask = (serve_ask){.search = true, .least = -1};
    r->ask.k = ids < 1 ? 1 : ids > MOST_IDS ? MOST_IDS : ids;
    r->ask.side = modality && strcmp(modality, "text") == 0 ? RECO_TEXT : RECO_IMAGE;
    r->edge = images; /* how many get their metadata */
    r->explain = dedup;
    serve_item *item = &r->items[0];
    bool fine;
    if (text && *text)
        fine = serve_put_text(s, r, item, text);
    else if (image)
        fine = serve_put_picture(s, r, item, image);
    else if (vector && !json_is_null(vector)) {
        item->own = r->ask.side;
        fine = serve_put_vector(s, r, item, vector);
    } else if (url)
        fine = serve_put_url(s, r, item, url);
    else {
        serve_fail(r, 400, "must fill one of text, image and image url input");
        return;
    }
    r->ask.refine = s->opts->fusion && item->own != r->ask.side;
    if (fine) serve_ask_engine(s, r);
}

static json_t *metadata(const reco_pair *pair)
{
    json_t *row = pair->caption ? answer_row(pair) : NULL, *out = json_object();
    const json_t *meta = json_object_get(row, "meta"), *uri = json_object_get(row, "uri");
    if (json_is_object(meta)) json_object_update(out, (json_t *)(uintptr_t)meta);
    const char *place = json_string_value(uri);
    if (place) json_object_set(out, strstr(place, "://") ? "url" : "image_path", (json_t *)(uintptr_t)uri);
    if (row) json_object_set(out, "caption", json_object_get(row, "caption"));
    json_decref(row);
    return out;
}

/* Keep of the rows, best first, those that belong to no earlier one: groups are connected by SAME, as there. */
static size_t deduplicate(serve *s, const serve_request *r, serve_item *item, reco_ctx *ctx)
{
    size_t n = item->n, kept = 0, d = s->d;
    float *rows = malloc((n ? n : 1) * d * sizeof *rows);
    size_t *group = malloc((n ? n : 1) * sizeof *group);
    if (!rows || !group ||
        reco_bank_gather(ctx, r->bank->now, r->ask.side, item->ids, n, rows) != RECO_OK) {
        free(rows);
        free(group);
        return n;
    }
    for (size_t i = 0; i < n; i++) group[i] = i;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            float sum = 0;
            if (group[i] == group[j]) continue;
            for (size_t k = 0; k < d; k++) sum += rows[i * d + k] * rows[j * d + k];
            if (sum <= SAME) continue;
            size_t from = group[i] > group[j] ? group[i] : group[j],
                   to = group[i] > group[j] ? group[j] : group[i];
            for (size_t k = 0; k <= i; k++)
                if (group[k] == from) group[k] = to;
        }
    for (size_t i = 0; i < n; i++) {
        if (group[i] != i) continue;
        item->ids[kept] = item->ids[i];
        item->scores[kept] = item->scores[i];
        if (item->plain) item->plain[kept] = item->plain[i];
        kept++;
    }
    free(rows);
    free(group);
    return kept;
}

/* Where the pictures are that go into the elements of `list`, of which the first n are these rows. */
static void note_paths(serve_request *r, json_t *list, const reco_pair *pairs, size_t n)
{
    r->value = list;
    r->paths = calloc(n ? n : 1, sizeof *r->paths);
    r->npaths = r->paths ? n : 0;
    for (size_t i = 0; i < r->npaths; i++) r->paths[i] = serve_picture_path(&pairs[i]);
}

void serve_knn_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    serve_item *item = &r->items[0];
    if (item->status != RECO_OK) {
        serve_fail(r, serve_http_status(r, item->status), "%s",
                   item->error ? item->error : "out of memory");
        return;
    }
    serve_note_missing(r, r->bank->now);
    if (r->explain) item->n = deduplicate(s, r, item, ctx);
    json_t *list = json_array();
    size_t told = item->n < r->edge ? item->n : r->edge;
    reco_pair *pairs = serve_pairs(ctx, r->bank, item->ids, told);
    if (!pairs) told = 0;
    for (size_t i = 0; i < item->n; i++) {
        json_t *hit = i < told ? metadata(&pairs[i]) : json_object();
        json_object_set_new(hit, "id", json_integer(item->ids[i]));
        json_object_set_new(hit, "similarity", answer_score(item->scores[i]));
        json_array_append_new(list, hit);
    }
    note_paths(r, list, pairs, told);
    serve_free_pairs(pairs, told);
}

/* The pictures of the elements, under "image"; of /metadata's within "metadata". */
void serve_knn_late(serve *s, serve_request *r, reco_ctx *ctx)
{
    for (size_t i = 0; i < r->npaths; i++) {
        size_t bytes = 0;
        unsigned char *jpeg = r->paths[i] ? serve_thumbnail(s, ctx, r->paths[i], FULL_EDGE, &bytes) : NULL;
        char *text = jpeg ? serve_to_base64(jpeg, bytes) : NULL;
        json_t *hit = json_array_get(r->value, i), *within = json_object_get(hit, "metadata");
        if (text) json_object_set_new(within ? within : hit, "image", json_string_nocheck(text));
        free(text);
        free(jpeg);
    }
    json_t *value = r->value;
    r->value = NULL;
    serve_reply(r, 200, value);
}

void serve_indices_parse(serve *s, serve_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->nbanks; i++) json_array_append_new(list, json_string(s->banks[i].name));
    serve_reply(r, 200, list);
}

void serve_metadata_parse(serve *s, serve_request *r)
{
    const char *name;
    if (!serve_put_json(r) || !serve_get_text(r, r->json, "indice_name", &name) ||
        !serve_put_bank(s, r, name))
        return;
    const json_t *ids = json_object_get(r->json, "ids");
    bool fine = json_is_array(ids) && json_array_size(ids) <= MOST_IDS;
    for (size_t i = 0; fine && i < json_array_size(ids); i++)
        fine = json_is_integer(json_array_get(ids, i));
    if (!fine)
        serve_fail(r, 400, "\"ids\" must be a list of at most %d row ids", MOST_IDS);
    else {
        r->ask.only_rows = true;
        serve_ask_engine(s, r);
    }
}

void serve_metadata_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    (void)s;
    const json_t *asked = json_object_get(r->json, "ids");
    size_t n = json_array_size(asked);
    int64_t *ids = malloc((n ? n : 1) * sizeof *ids);
    for (size_t i = 0; i < n && ids; i++) ids[i] = json_integer_value(json_array_get(asked, i));
    reco_pair *pairs = ids ? serve_pairs(ctx, r->bank, ids, n) : NULL;
    json_t *list = pairs ? json_array() : NULL;
    for (size_t i = 0; i < n && list; i++)
        json_array_append_new(
            list, json_pack("{s:I, s:o}", "id", (json_int_t)ids[i], "metadata", metadata(&pairs[i])));
    if (list)
        note_paths(r, list, pairs, n);
    else
        serve_fail(r, 503, "out of memory");
    serve_free_pairs(pairs, n);
    free(ids);
}

void serve_front_parse(serve *s, serve_request *r)
{
    serve_reply(r, 200,
                json_pack("{s:s, s:s?, s:b, s:b, s:b, s:b, s:b, s:b}", "backend", "", "default_index",
                          s->nbanks ? s->banks[0].name : NULL, "use_mclip", 0, "has_safety_model", 0,
                          "has_violence_detector", 0, "has_aesthetic_embeddings", 0, "has_image_url",
                          s->opts->nfetch_hosts > 0, "refined", s->opts->fusion != NULL));
}

void serve_summary_parse(serve *s, serve_request *r)
{
    uint64_t n = atomic_load(&s->metrics.answered), micros = atomic_load(&s->metrics.micros);
    char *text = NULL;
    int bytes =
        n ? asprintf(
                &text,
                "Among %llu calls to the knn end point with an average latency of %.4fs per request, %llu "
                "texts and %llu pictures were embedded, and %llu searches made in %llu batches\n",
                (unsigned long long)n, 1e-6 * (double)micros / (double)n,
                (unsigned long long)atomic_load(&s->metrics.texts),
                (unsigned long long)atomic_load(&s->metrics.pictures),
                (unsigned long long)atomic_load(&s->metrics.searches),
                (unsigned long long)atomic_load(&s->metrics.batches))
          : asprintf(&text, "No request yet, go do some");
    r->status = bytes < 0 ? 500 : 200;
    r->answer = bytes < 0 ? NULL : text;
    r->answer_bytes = bytes < 0 ? 0 : (size_t)bytes;
    r->type = "text/plain; charset=utf-8";
}
