#include "pipeline/export.h"

static const char *const image_keys[] = {"image", "image_path", "filepath", "uri", "url"};
static const char *const text_keys[] = {"text", "caption", "title"};

bool reco_pair_key_means(const char *key)
{
    for (size_t i = 0; i < sizeof image_keys / sizeof *image_keys; i++)
        if (strcmp(key, image_keys[i]) == 0) return true;
    for (size_t i = 0; i < sizeof text_keys / sizeof *text_keys; i++)
        if (strcmp(key, text_keys[i]) == 0) return true;
    return false;
}

void reco_pair_row_free(reco_pair_row *row)
{
    reco_free(row->uri);
    reco_free(row->path);
    reco_free(row->caption);
    reco_free(row->meta);
    reco_free(row->data);
    *row = (reco_pair_row){0};
}

/* The value of the first of these keys that is a string, taken out of the record. */
static reco_status take(reco_ctx *ctx, char **out, json_t *record, const char *const *keys, size_t n)
{
    *out = NULL;
    for (size_t i = 0; i < n; i++) {
        json_t *value = json_object_get(record, keys[i]);
        if (!json_is_string(value)) continue;
        /* A NUL inside would cut the string where C reads it; such a value is treated as missing. */
        if (strlen(json_string_value(value)) == json_string_length(value) &&
            !(*out = reco_strdup(ctx, json_string_value(value))))
            return RECO_E_NOMEM;
        json_object_del(record, keys[i]);
        break;
    }
    return RECO_OK;
}

reco_status reco_pair_row_read(reco_ctx *ctx, reco_pair_row *row, json_t *record, const char *file,
                               bool need_image, const char **reason)
{
    *row = (reco_pair_row){0};
    *reason = NULL;
    RECO_TRY(take(ctx, &row->uri, record, image_keys, sizeof image_keys / sizeof *image_keys));
    RECO_TRY(take(ctx, &row->caption, record, text_keys, sizeof text_keys / sizeof *text_keys));
    if (need_image && (!row->uri || !*row->uri))
        *reason = "no image";
    else if (need_image && (!row->caption || !*row->caption))
        *reason = "no text";
    else if (row->caption && strlen(row->caption) > RECO_CAPTION_MAX)
        *reason = "text longer than 65536 bytes";
    if (*reason) return RECO_OK;
    if (!row->caption && !(row->caption = reco_strdup(ctx, ""))) return RECO_E_NOMEM;
    if (need_image && !(row->path = reco_resolve_path(ctx, file, row->uri))) return RECO_E_NOMEM;
    if (json_object_size(record) > 0 && !(row->meta = json_dumps(record, JSON_COMPACT)))
        return reco_fail_nomem(ctx, 0, "JSON");
    return RECO_OK;
}
