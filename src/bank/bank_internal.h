/* bank/bank_internal.h: a bank folder, opened: its catalog and its mapped vector files. */
#ifndef RECO_SRC_BANK_INTERNAL_H
#define RECO_SRC_BANK_INTERNAL_H

#include "bank/segment/segment.h"

struct reco_bank {
    char *path; /* of the folder, resolved: the working directory may change before a refresh */
    reco_catalog *catalog;
    reco_bank_info info;
    reco_segment *segments;
    reco_segment_entry *entries; /* [nsegments] */
    size_t nsegments, positions; /* positions: rows of all segments, deleted ones too */
    uint64_t *deleted;           /* bit p: position p is deleted; NULL when nothing is */
};

/* The segment of a position below bank->positions. */
size_t reco_bank_segment_at(const reco_bank *bank, size_t position);
/* Position of an id; false when the snapshot does not hold it. */
bool reco_bank_find(const reco_bank *bank, int64_t id, size_t *position);
static inline bool reco_bank_is_deleted(const reco_bank *bank, size_t position)
{
    return bank->deleted && (bank->deleted[position / 64] >> position % 64 & 1);
}
int64_t reco_bank_id_at(const reco_bank *bank, size_t position);
/* [d] f16 at a position. *hint is a segment at or before it, updated: walking upwards costs nothing. */
static inline const uint16_t *reco_bank_row(const reco_bank *bank, reco_side side, size_t position,
                                            size_t *hint)
{
    const reco_segment *s = &bank->segments[*hint];
    while (position - s->base >= s->rows) s = &bank->segments[++*hint];
    return s->vectors[side] + (position - s->base) * bank->info.d;
}

#endif
