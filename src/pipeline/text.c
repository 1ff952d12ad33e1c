#include "pipeline/pipeline_internal.h"

json_t *reco_json_text(const char *text, size_t bytes)
{
    json_t *value = json_stringn(text, bytes);
    if (value) return value;
    char *clean = reco_text_repair(text, bytes, NULL);
    value = clean ? json_string(clean) : NULL;
    reco_free(clean);
    return value;
}

reco_status reco_write_json_line(reco_ctx *ctx, reco_file *file, json_t *value)
{
    char *line = value ? json_dumps(value, JSON_COMPACT | reco_json_digits(value)) : NULL;
    json_decref(value);
    if (!line) return reco_fail_nomem(ctx, 0, "JSON");
    reco_status status = reco_file_write(ctx, file, line, strlen(line));
    if (status == RECO_OK) status = reco_file_write(ctx, file, "\n", 1);
    reco_free(line);
    return status;
}
