#include "pipeline/pipeline_internal.h"

#include <strings.h>

struct reco_source {
    char *path;
    char **files; /* of a folder */
    size_t n, at;
    reco_lines *lines; /* of a list */
};

static bool is_picture(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (length > n && strcasecmp(name + length - n, endings[i]) == 0) return true;
    }
    return false;
}

reco_status reco_source_open(reco_ctx *ctx, reco_source **out, const char *path)
{
    *out = NULL;
    reco_source *source = reco_alloc(ctx, 1, sizeof *source, "source");
    if (!source) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (!(source->path = reco_strdup(ctx, path))) RECO_GO(RECO_E_NOMEM);
    if (reco_path_is_dir(path)) {
        RECO_GO(reco_list_files(ctx, &source->files, &source->n, path, true, is_picture));
        if (source->n == 0)
            RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: no .jpg, .jpeg, .png or .webp below it", path));
    } else {
        RECO_GO(reco_lines_open(ctx, &source->lines, path));
    }
    *out = source;
    source = NULL;
out:
    reco_source_close(source);
    return status;
}

reco_status reco_source_next(reco_ctx *ctx, reco_source *source, char **item)
{
    *item = NULL;
    if (source->files) {
        if (source->at < source->n && !(*item = reco_strdup(ctx, source->files[source->at++])))
            return RECO_E_NOMEM;
        return RECO_OK;
    }
    const char *line;
    size_t bytes;
    do RECO_TRY(reco_lines_next(ctx, source->lines, &line, &bytes));
    while (line && bytes == 0);
    if (line && !(*item = reco_resolve_path(ctx, source->path, line))) return RECO_E_NOMEM;
    return RECO_OK;
}

uint64_t reco_source_total(const reco_source *source) { return source->n; }

void reco_source_close(reco_source *source)
{
    if (!source) return;
    for (size_t i = 0; i < source->n; i++) reco_free(source->files[i]);
    reco_free(source->files);
    reco_lines_close(source->lines);
    reco_free(source->path);
    reco_free(source);
}
