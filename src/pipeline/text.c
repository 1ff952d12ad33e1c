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
    if (!value) return reco_fail_nomem(ctx, 0, "JSON");
    char *line = reco_json_dump(ctx, value);
    json_decref(value);
    if (!line) return RECO_E_NOMEM;
    reco_status status = reco_file_write(ctx, file, line, strlen(line));
    if (status == RECO_OK) status = reco_file_write(ctx, file, "\n", 1);
    reco_free(line);
    return status;
}
