#include "pipeline/export.h"

#include <limits.h>
#include <strings.h>

bool reco_pair_key_means(const char *key)
{
    return reco_column_rank(RECO_COLUMN_IMAGE, key) >= 0 || reco_column_rank(RECO_COLUMN_TEXT, key) >= 0;
}

reco_status reco_pair_columns(reco_ctx *ctx, const reco_records *records)
{
    RECO_TRY(reco_records_need(ctx, records, RECO_COLUMN_IMAGE));
    return reco_records_need(ctx, records, RECO_COLUMN_TEXT);
}

void reco_pair_row_free(reco_pair_row *row)
{
    reco_free(row->uri);
    reco_free(row->path);
    reco_free(row->caption);
    reco_free(row->meta);
    reco_free(row->data);
    reco_free(row->base);
    *row = (reco_pair_row){0};
}

static bool is_blank_text(const char *text)
{
    size_t bytes = strlen(text);
    for (size_t i = 0, n; i < bytes; i += n)
        if (!reco_point_space(reco_utf8_next((const uint8_t *)text + i, bytes - i, &n))) return false;
    return true;
}

/* What is found under the names of an image or a caption. */
typedef struct taken {
    char *text; /* NULL: none */
    bool named; /* one of the names is there, whatever it holds, */
    bool blank; /* and in it a text that says nothing */
} taken;

/* Names of a file within an object, as Hugging Face's datasets write an image. */
static const char *const inner[] = {"path", "file_name", "filename", "src", "url"};

/* What a value says as text: itself, the digits of a number, the first of a list, the path of an image's object. NULL: nothing. */
static reco_status say(reco_ctx *ctx, reco_column kind, const json_t *value, char **out)
{
    *out = NULL;
    const json_t *first = NULL;
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        /* A NUL inside would cut the string where C reads it; such a value is treated as missing. */
        if (strlen(text) != json_string_length(value) || is_blank_text(text)) return RECO_OK;
        *out = reco_strdup(ctx, text);
        return *out ? RECO_OK : RECO_E_NOMEM;
    }
    if (json_is_number(value)) {
        *out = reco_json_dump(ctx, value);
        return *out ? RECO_OK : RECO_E_NOMEM;
    }
    for (size_t i = 0; kind == RECO_COLUMN_TEXT && !*out && i < json_array_size(value); i++) {
        first = json_array_get(value, i);
        if (json_is_string(first) || json_is_number(first)) RECO_TRY(say(ctx, kind, first, out));
    }
    for (size_t i = 0; kind == RECO_COLUMN_IMAGE && !*out && i < sizeof inner / sizeof *inner; i++) {
        first = json_object_get(value, inner[i]);
        if (json_is_string(first)) RECO_TRY(say(ctx, kind, first, out));
    }
    return RECO_OK;
}

/* Does anything remain to be kept of what was taken? A list of captions does, an image's object that has more than its path. */
static bool is_spent(const json_t *value)
{
    const char *key;
    json_t *member;
    size_t more = 0;
    json_object_foreach((json_t *)value, key, member) more += !json_is_null(member);
    return !(json_array_size(value) > 1 || more > 1);
}

static bool is_nothing(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && is_blank_text(json_string_value(value)));
}

/* The place of a name among those that are looked for; -1: none of them. Beside embeddings the names that clip-retrieval
 * gives them come first. */
static int rank_column(reco_column kind, const char *name, const reco_table_opts *table,
                       reco_pair_need need)
{
    const char *given = reco_column_given(kind, table);
    if (given) return reco_column_same(given, name) ? strcmp(given, name) != 0 : -1;
    const char *own = kind == RECO_COLUMN_IMAGE ? "image_path" : "caption";
    int rank = reco_column_rank(kind, name);
    return need != RECO_NEED_BOTH && strcmp(name, own) == 0 ? 0 : rank < 0 ? -1 : rank + 1;
}

/* The best of a record's names of this kind behind place *last, which moves on; NULL: there are no more. */
static const char *next_name(const json_t *record, reco_column kind, const reco_table_opts *table,
                             reco_pair_need need, int *last, json_t **value)
{
    const char *key, *best = NULL;
    json_t *member;
    int least = INT_MAX;
    json_object_foreach((json_t *)record, key, member)
    {
        int at = rank_column(kind, key, table, need);
        if (at <= *last || at >= least) continue;
        least = at;
        best = key;
        *value = member;
    }
    *last = least;
    return best;
}

/* The best value that says something, taken out of the record. Those before it that say nothing go, too. */
static reco_status take_value(reco_ctx *ctx, taken *out, json_t *record, reco_column kind,
                              const reco_table_opts *table, reco_pair_need need)
{
    *out = (taken){0};
    json_t *found = NULL;
    int last = -1;
    for (const char *name; (name = next_name(record, kind, table, need, &last, &found));) {
        out->named = true;
        out->blank |= json_is_string(found);
        RECO_TRY(say(ctx, kind, found, &out->text));
        if (is_nothing(found) || (out->text && is_spent(found))) json_object_del(record, name);
        if (out->text) break;
    }
    return RECO_OK;
}

static const char *judge_pair(const taken *uri, const taken *caption, reco_pair_need need)
{
    if (need == RECO_NEED_BOTH && !uri->text) return "no image";
    if (need == RECO_NEED_BOTH &&
        (strncasecmp(uri->text, "http://", 7) == 0 || strncasecmp(uri->text, "https://", 8) == 0))
        return "the image is a URL, which reco does not fetch; img2dataset does (bank build --tars reads "
               "what it writes)";
    if (need == RECO_NEED_BOTH && !caption->text) return caption->blank ? "text is empty" : "no text";
    if (caption->text && strlen(caption->text) > RECO_CAPTION_MAX) return "text longer than 65536 bytes";
    return NULL;
}

/* Which names the record has, where none of them is looked for. */
static const char *show_names(reco_ctx *ctx, const json_t *record, const char *reason)
{
    char shown[300] = "";
    size_t at = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)record, key, value)
    {
        if (at < sizeof shown - 1)
            at += (size_t)snprintf(shown + at, sizeof shown - at, "%s\"%.60s\"", at ? ", " : "", key);
    }
    reco_fail(ctx, RECO_E_FORMAT, "%s: its keys are %s", reason, at ? shown : "none");
    return reco_ctx_error(ctx);
}

reco_status reco_pair_row_read(reco_ctx *ctx, reco_pair_row *row, json_t *record, const char *file,
                               const reco_table_opts *table, reco_pair_need need, const char **reason)
{
    taken uri = {0}, caption = {0};
    *row = (reco_pair_row){0};
    *reason = NULL;
    reco_status status = take_value(ctx, &uri, record, RECO_COLUMN_IMAGE, table, need);
    if (status == RECO_OK) status = take_value(ctx, &caption, record, RECO_COLUMN_TEXT, table, need);
    row->uri = uri.text;
    row->caption = caption.text;
    if (status != RECO_OK) return status;
    if ((*reason = judge_pair(&uri, &caption, need))) {
        bool image = !uri.text;
        if ((image ? !uri.named : !caption.named) && json_object_size(record))
            *reason = show_names(ctx, record, *reason);
        return RECO_OK;
    }
    if (!row->caption && !(row->caption = reco_strdup(ctx, ""))) return RECO_E_NOMEM;
    if (need == RECO_NEED_BOTH && !(row->path = reco_resolve_path(ctx, file, row->uri)))
        return RECO_E_NOMEM;
    if (json_object_size(record) > 0 && !(row->meta = reco_json_dump(ctx, record))) return RECO_E_NOMEM;
    return RECO_OK;
}

reco_status reco_pair_captions(reco_ctx *ctx, const json_t *record, const reco_table_opts *table,
                               char **name, json_t **captions)
{
    json_t *found = NULL;
    int last = -1;
    *name = NULL;
    *captions = NULL;
    for (const char *at;
         (at = next_name(record, RECO_COLUMN_TEXT, table, RECO_NEED_BOTH, &last, &found));) {
        char *text;
        RECO_TRY(say(ctx, RECO_COLUMN_TEXT, found, &text));
        reco_free(text);
        if (!text) continue;
        if (json_array_size(found) < 2) break;
        if (!(*name = reco_strdup(ctx, at))) return RECO_E_NOMEM;
        *captions = json_incref(found);
        break;
    }
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
