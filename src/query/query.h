/* query/query.h: what modules of higher levels use besides reco/query.h. */
#ifndef RECO_SRC_QUERY_H
#define RECO_SRC_QUERY_H

#include "base/base.h"
#include "reco/query.h"

/* Can these be the same encoder? By their fingerprints, where both are known, else by their names; what is not known
 * matches all. */
bool reco_encoder_matches(const char *name, const char *print, const char *other_name,
                          const char *other_print);

/* A template with the name in the place of its first {} or {c}, to be freed; one without is an error that names it. */
char *reco_fill_template(reco_ctx *ctx, const char *template, const char *name);

/* near.c: near [n][reach] of rows ids [n][reach] (-1: none) to pictures x [n][d], by the metric that the memory's fusion has. */
reco_status reco_vote_near(reco_ctx *ctx, const reco_memory *memory, const float *x, size_t n,
                           const int64_t *ids, size_t reach, float *near);

/* ---- distinct.c ---- */

/* Pictures, each once, with a row that shows it. */
typedef struct reco_pictures {
    const reco_bank *bank;
    size_t d, n;
    float *vectors; /* [n][d] */
    int64_t *ids;   /* [n] */
} reco_pictures;
/* Add the picture of a row, whose image vector this is, unless it is there. The arrays have room. */
reco_status reco_pictures_add(reco_ctx *ctx, reco_pictures *p, int64_t id, const float *vector,
                              bool *added);
/* Add those of n rows; -1 is none. */
reco_status reco_pictures_add_rows(reco_ctx *ctx, reco_pictures *p, const int64_t *ids, size_t n);

/* encoder.c: RECO_E_ARG where either asks for something that this library does not know; RECO_E_MISMATCH as
 * reco_check_encoder. */
reco_status reco_check_question(reco_ctx *ctx, const reco_memory *memory, const reco_question *question);

#endif
