#include "pipeline/sink_internal.h"

/* From which folder a relative URI is to be taken: of a pairs file, the one where the picture was found; of embeddings, whose
 * pictures may be gone, the one that has the first of them. */
static const char *base_of(reco_ctx *ctx, reco_sink *s, const reco_sink_entry *e)
{
    const reco_pair_row *row = &e->row;
    if (row->base) return row->base;
    if (row->path) return strcmp(row->path, row->uri) == 0 || !s->folder ? s->cwd : s->folder;
    if (s->relative == 0) {
        char *inside = reco_path_join(ctx, s->folder, row->uri);
        bool there = inside && reco_path_exists(inside);
        s->relative = !there && reco_path_exists(row->uri) ? 2 : 1;
        reco_free(inside);
    }
    return s->relative == 2 ? s->cwd : s->folder;
}

reco_status reco_sink_locate(reco_ctx *ctx, reco_sink *s, reco_sink_entry *e)
{
    const char *uri = e->row.uri;
    if (!uri || !*uri) return RECO_OK; /* nobody can tell */
    char *path = reco_place_path(ctx, uri);
    if (!path) return RECO_E_NOMEM;
    if (*path != '/' && !reco_place_is_url(uri)) e->base = base_of(ctx, s, e);
    e->resolved = reco_place_resolve(ctx, e->base, path);
    reco_free(path);
    if (!e->resolved) return RECO_E_NOMEM;
    reco_place_hash(e->resolved, e->place);
    return RECO_OK;
}
