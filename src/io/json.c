#include "io/internal.h"

#include <stdlib.h>

#define MAX_BYTES ((size_t)64 << 20)

reco_status reco_io_json_parse(json_t **out, const char *text, size_t bytes, reco_io_json_error *error)
{
    *out = NULL;
    const char *excess = reco_json_excess(text, bytes, &error->line, &error->byte);
    if (excess) {
        snprintf(error->reason, sizeof error->reason, "%s", excess);
        return RECO_E_FORMAT;
    }
    json_error_t met;
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &met);
    /* Where a string found no memory, jansson speaks of bad syntax. Bad syntax is there the second time, too. */
    if (!*out) *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &met);
    if (*out) return RECO_OK;
    error->line = met.line > 0 ? (size_t)met.line : 1;
    error->byte = met.position > 0 ? (size_t)met.position : 0;
    snprintf(error->reason, sizeof error->reason, "%s", met.text);
    if (json_error_code(&met) != json_error_out_of_memory && met.text[0]) return RECO_E_FORMAT;
    snprintf(error->reason, sizeof error->reason, "out of memory"); /* mostly jansson says nothing at all */
    return RECO_E_NOMEM;
}

bool reco_io_is_utf8(const char *text, size_t bytes)
{
    json_t *checked = json_stringn(text, bytes), *unchecked = json_stringn_nocheck(text, bytes);
    bool is = checked || !unchecked;
    json_decref(checked);
    json_decref(unchecked);
    return is;
}

reco_status reco_json_parse_object(reco_ctx *ctx, json_t **out, const char *text, size_t bytes)
{
    reco_io_json_error error;
    reco_status status = reco_io_json_parse(out, text, bytes, &error);
    if (status != RECO_OK) return reco_fail(ctx, status, "line %zu of .json: %s", error.line, error.reason);
    if (json_is_object(*out)) return RECO_OK;
    json_decref(*out);
    *out = NULL;
    return reco_fail(ctx, RECO_E_FORMAT, ".json: want a JSON object");
}

reco_status reco_json_load(reco_ctx *ctx, json_t **out, const char *path)
{
    *out = NULL;
    char *text;
    size_t bytes;
    RECO_TRY(reco_read_file(ctx, &text, &bytes, path, MAX_BYTES));
    size_t mark = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    reco_io_json_error error;
    reco_status status = reco_io_json_parse(out, text + mark, bytes - mark, &error);
    const char *excuse = status == RECO_E_FORMAT ? reco_content_excuse(text, bytes) : NULL;
    if (excuse)
        reco_fail(ctx, status, "%s: %s", path, excuse);
    else if (status != RECO_OK)
        reco_fail(ctx, status, "%s:%zu: %s", path, error.line, error.reason);
    free(text);
    return status;
}

/* Do 15 digits, as most numbers were written (0.1), tell every one of these? Else it takes 17. */
static bool is_short(const json_t *value)
{
    if (json_is_real(value)) {
        char text[32];
        snprintf(text, sizeof text, "%.15g", json_real_value(value));
        return strtod(text, NULL) == json_real_value(value);
    }
    const char *key;
    json_t *member;
    size_t i;
    json_object_foreach((json_t *)value, key, member)
    {
        if (!is_short(member)) return false;
    }
    json_array_foreach(value, i, member)
    {
        if (!is_short(member)) return false;
    }
    return true;
}

/* jansson's own json_dumps leaves a piece out, and says nothing, when its buffer can't grow. Its text is of one
 * length however often it is asked. */
char *reco_json_dump(reco_ctx *ctx, const json_t *value)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | (is_short(value) ? JSON_REAL_PRECISION(15) : 0);
    size_t bytes = json_dumpb(value, NULL, 0, flags);
    char *text = bytes ? reco_alloc(ctx, bytes + 1, 1, "JSON") : NULL;
    if (text && json_dumpb(value, text, bytes, flags) == bytes &&
        json_dumpb(value, NULL, 0, flags) == bytes)
        return text;
    reco_fail_nomem(ctx, bytes, "JSON");
    reco_free(text);
    return NULL;
}
