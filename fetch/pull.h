/* fetch/pull.h: what the parts of pull share. */
#ifndef RECO_SRC_PULL_H
#define RECO_SRC_PULL_H

#include "fetch/internal.h"

typedef struct reco_pull {
    reco_ctx *ctx;
    reco_fetch *fetch;
    const char *endpoint, *name, *revision;
    char *out, *work, *state_path;
    int lock;     /* of the work folder, held until the end; -1: none */
    json_t *list; /* the hub's answer: "sha", "siblings" */
    json_t *
        state; /* reco-pull.json: endpoint, name, revision, commit, files {NAME: {etag, size, sha256, git, done}} */
    json_t *seen; /* files that this run has dealt with: a shard is named by each of its tensors */
    uint64_t max_bytes;
    reco_pull_result *result;
} reco_pull;

/* ---- pull_state.c ---- */

/* RECO_OK with *done when `out` holds this commit already. Otherwise the work folder is there, locked, and p->state says
 * what of it can be used. */
reco_status reco_pull_prepare(reco_pull *p, bool *done);
reco_status reco_pull_save(reco_pull *p);
/* The entry of a file, made when it is missing; borrowed. NULL: no memory. */
json_t *reco_pull_entry(reco_pull *p, const char *file);
/* Give the folder its name. */
reco_status reco_pull_finish(reco_pull *p);

/* ---- pull_choose.c ---- */

/* What the hub's list says of a file; NULL where it has none. */
const json_t *reco_pull_listed(const reco_pull *p, const char *file);
/* Every name of the list is a relative path that stays below its folder, in printable characters. */
reco_status reco_pull_check_list(reco_pull *p);
/* Of the fixed names those that the hub has; calls get for each, weights last. config.json decides between transformers'
 * files and open_clip's. */
reco_status reco_pull_choose(reco_pull *p,
                             reco_status (*get)(reco_pull *p, const char *file, bool weights));

#endif
