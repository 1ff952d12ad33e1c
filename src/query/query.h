/* query/query.h: what modules of higher levels use besides reco/query.h. */
#ifndef RECO_SRC_QUERY_H
#define RECO_SRC_QUERY_H

#include "bank/bank.h"
#include "base/base.h"
#include "reco/query.h"

/* Can these be the same encoder? By their fingerprints, where both are known, else by their names; what is not known
 * matches all. */
bool reco_encoder_matches(const char *name, const char *print, const char *other_name,
                          const char *other_print);

/* A template with the name in the place of its first {} or {c}, to be freed; one without is an error that names it. */
char *reco_fill_template(reco_ctx *ctx, const char *template, const char *name);

/* near.c: near [n][reach] of rows ids [n][reach] (-1: none) to pictures x [n][d], by the metric that the memory's fusion has.
 * images [n][fetch][d]: their vectors, of which there may be more than reach; NULL: they are gathered. */
reco_status reco_vote_near(reco_ctx *ctx, const reco_memory *memory, const float *x, size_t n,
                           const int64_t *ids, size_t reach, const float *images, size_t fetch,
                           float *near);

/* ---- refine.c: the steps of reco_refine, for those who ask the bank for more in the same round trip ---- */

typedef struct reco_refining {
    const reco_memory *memory;
    const reco_question *q;
    reco_settings s;
    reco_side searched, fused;
    size_t d, reach, fetch; /* neighbours that are listed, that are looked for; fetch 0: none */
    bool fuses;             /* neighbours take part */
} reco_refining;
/* Looks at the arguments, which are to last. */
reco_status reco_refining_begin(reco_ctx *ctx, reco_refining *w, const reco_memory *memory,
                                const reco_question *question, const reco_refined *out);
/* What to look up for n items, with vectors of the sides in `also` besides those that it needs. The arrays are scratch. */
reco_status reco_refining_seek(reco_ctx *ctx, const reco_refining *w, size_t from, size_t n,
                               const bool also[2], reco_lookup *lookup);
/* Fills the part of these items, once they were looked up (or fetch is 0). */
reco_status reco_refining_end(reco_ctx *ctx, const reco_refining *w, size_t from, size_t n,
                              const reco_lookup *found, const reco_refined *out);

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
/* As reco_bank_look_up of one search, with each picture once, as of reco_search_distinct; and of another one, as it is, in the
 * same round trip. beside: NULL for none. */
reco_status reco_look_up_distinct(reco_ctx *ctx, const reco_bank *bank, reco_lookup *lookup,
                                  const reco_lookup *beside);

/* encoder.c: RECO_E_ARG where either asks for something that this library does not know; RECO_E_MISMATCH as
 * reco_check_encoder. */
reco_status reco_check_question(reco_ctx *ctx, const reco_memory *memory, const reco_question *question);

#endif
