/* text/ids.h: the ids of a caption as they come; for text/ alone. */
#ifndef RECO_SRC_TEXT_IDS_H
#define RECO_SRC_TEXT_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ids so far; full when only the end token's place is left. */
typedef struct reco_ids {
    int32_t *at;
    size_t n, max;
} reco_ids;
static inline bool reco_ids_full(const reco_ids *ids) { return ids->n + 1 >= ids->max; }
static inline void reco_ids_push(reco_ids *ids, int32_t id)
{
    if (!reco_ids_full(ids)) ids->at[ids->n++] = id;
}

#endif
