#include "pipeline/export.h"
#include "text/tokenizer.h"

/* In a pairs file "image" and "text" come first, beside embeddings the names that clip-retrieval gives them. */
static const char *const image_keys[] = {"image", "image_path", "image", "filepath", "uri", "url"};
static const char *const text_keys[] = {"text", "caption", "text", "title"};

bool reco_pair_key_means(const char *key)
{
    for (size_t i = 0; i < sizeof image_keys / sizeof *image_keys; i++)
        if (strcmp(key, image_keys[i]) == 0) return true;
    for (size_t i = 0; i < sizeof text_keys / sizeof *text_keys; i++)
        if (strcmp(key, text_keys[i]) == 0) return true;
    return false;
}

static bool has_any(const reco_records *records, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (reco_records_has(records, keys[i])) return true;
    return false;
}

reco_status reco_pair_columns(reco_ctx *ctx, const reco_records *records, const char *file)
{
    bool image = has_any(records, image_keys, sizeof image_keys / sizeof *image_keys);
    if (image && has_any(records, text_keys, sizeof text_keys / sizeof *text_keys)) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: no column %s in its header", file,
                     image ? "text (nor caption, title)" : "image (nor image_path, filepath, uri, url)");
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

/* What is found under the keys of an image or a caption. */
typedef struct taken {
    char *text; /* NULL: none */
    bool named; /* one of the keys is there, whatever it holds */
} taken;

/* The value of the first of these keys that is a string, taken out of the record. */
static reco_status take(reco_ctx *ctx, taken *out, json_t *record, const char *const *keys, size_t n)
{
    *out = (taken){0};
    for (size_t i = 0; i < n; i++) {
        json_t *value = json_object_get(record, keys[i]);
        out->named |= value != NULL;
        if (!json_is_string(value)) continue;
        /* A NUL inside would cut the string where C reads it; such a value is treated as missing. */
        if (strlen(json_string_value(value)) == json_string_length(value) &&
            !(out->text = reco_strdup(ctx, json_string_value(value))))
            return RECO_E_NOMEM;
        json_object_del(record, keys[i]);
        break;
    }
    return RECO_OK;
}

static bool is_blank(const char *text)
{
    size_t bytes = strlen(text);
    for (size_t i = 0, n; i < bytes; i += n)
        if (!reco_point_space(reco_utf8_next((const uint8_t *)text + i, bytes - i, &n))) return false;
    return true;
}

static const char *judge(const taken *uri, const taken *caption, reco_pair_need need)
{
    if (need == RECO_NEED_BOTH && (!uri->text || is_blank(uri->text))) return "no image";
    if (need == RECO_NEED_BOTH && !caption->text) return "no text";
    if (need != RECO_NEED_NOTHING && caption->named && (!caption->text || is_blank(caption->text)))
        return "text is empty";
    if (caption->text && strlen(caption->text) > RECO_CAPTION_MAX) return "text longer than 65536 bytes";
    return NULL;
}

reco_status reco_pair_row_read(reco_ctx *ctx, reco_pair_row *row, json_t *record, const char *file,
                               reco_pair_need need, const char **reason)
{
    taken uri = {0}, caption = {0};
    *row = (reco_pair_row){0};
    *reason = NULL;
    size_t first = need == RECO_NEED_BOTH ? 0 : 1;
    reco_status status =
        take(ctx, &uri, record, image_keys + first, sizeof image_keys / sizeof *image_keys - first);
    if (status == RECO_OK)
        status =
            take(ctx, &caption, record, text_keys + first, sizeof text_keys / sizeof *text_keys - first);
    row->uri = uri.text;
    row->caption = caption.text;
    if (status != RECO_OK || (*reason = judge(&uri, &caption, need))) return status;
    if (!row->caption && !(row->caption = reco_strdup(ctx, ""))) return RECO_E_NOMEM;
    if (need == RECO_NEED_BOTH && !(row->path = reco_resolve_path(ctx, file, row->uri)))
        return RECO_E_NOMEM;
    if (json_object_size(record) > 0 && !(row->meta = reco_json_dump(ctx, record))) return RECO_E_NOMEM;
    return RECO_OK;
}

void reco_table_key(char key[32], const reco_table_opts *table)
{
    *key = 0;
    if (!table) return;
    const char *const names[] = {table->image_column, table->text_column, table->types, table->encoding};
    const uint64_t numbers[] = {(uint64_t)(unsigned char)table->separator, table->quote, table->max_lines};
    uint64_t hash = 0;
    bool any = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        any = any || names[i];
        if (names[i]) hash = reco_hash64(names[i], strlen(names[i]), hash + i + 1);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) any = any || numbers[i];
    if (any)
        snprintf(key, 32, ":table=%016llx", (unsigned long long)reco_hash64(numbers, sizeof numbers, hash));
}
