/* pipeline/shards.h: expanding the names of tars that a command gives. */
#ifndef RECO_SRC_SHARDS_H
#define RECO_SRC_SHARDS_H

#include "pipeline/pipeline_internal.h"

typedef struct reco_shards {
    char **
        paths; /* [n] in the order in which they are read: of the patterns, braces as written, then by name */
    size_t n, room;
    size_t missing;   /* of these can't be opened; not all of them */
    char content[33]; /* names what they are */
} reco_shards;
/* A pattern may have {000..009}, {a..e}, {a,b} (nested, too), "*", "?" and "[...]". RECO_E_NOTFOUND or RECO_E_IO where not one
 * can be opened. Of a shard its tars alone, of which there may be none. */
reco_status reco_shards_find(reco_ctx *ctx, reco_shards *s, const char *const *patterns, size_t n,
                             reco_shard shard);
void reco_shards_free(reco_shards *s);

#endif
