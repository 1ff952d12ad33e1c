/* bank/search/filter.h: the layout of a filter, a set of rows. */
#ifndef RECO_SRC_BANK_FILTER_H
#define RECO_SRC_BANK_FILTER_H

#include "bank/bank_internal.h"

struct reco_bank_filter {
    const reco_bank *bank;
    /* On servers: a condition, or ids as they are sent. */
    char *where;
    unsigned char *packed;
    size_t packed_bytes;
    /* In a folder: */
    uint64_t *bits; /* [positions / 64 + 1], bit p: position p is in the set; never of a deleted row */
    size_t count;   /* rows: bits that are set */
    /* With lists: how many of them they have, and how many in each cell [ncells] of a side. */
    size_t listed;
    uint32_t *cells[2];
    bool even[2]; /* as in lists.h */
};
/* The empty set; the caller sets bits and count, and owns it. */
reco_status reco_bank_filter_new(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank);

/* Once bits and count are there: what lists want to know of them. */
reco_status reco_bank_filter_finish(reco_ctx *ctx, reco_bank_filter *f);

#endif
