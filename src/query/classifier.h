/* query/classifier.h: the layout of a classifier. */
#ifndef RECO_SRC_CLASSIFIER_H
#define RECO_SRC_CLASSIFIER_H

#include "query/class_list.h"
#include "query/query.h"

struct reco_classifier {
    reco_memory memory;
    bool remembers; /* there is a memory */
    reco_candidates c;
    reco_settings s;
    size_t m; /* prompts of a candidate, at least 1 */
    float scale;
    float *plain, *refined; /* [n][d] */
    /* Hashes of what candidates are called, and of what their prompts say, sorted; entry: the candidate. */
    struct reco_class_index *names, *said;
    size_t nnames, nsaid;
};

/* ---- prompts.c ---- */

/* Some prompts; of [n]: the candidate of each, prompt [n]: which of its prompts. Texts and hashes of their tokens are NULL where rows
 * were given. */
typedef struct reco_prompts {
    size_t n;
    const float *rows; /* [n][d] */
    uint32_t of[512], prompt[512];
    char *const *texts;
    const uint64_t *hashes;
} reco_prompts;
enum { RECO_PROMPTS = sizeof((reco_prompts *)0)->of / sizeof(uint32_t) };
typedef reco_status (*reco_prompts_fn)(reco_ctx *ctx, void *user, const reco_prompts *prompts);
/* All prompts of the candidates, some at a time; those of a candidate come in order. */
reco_status reco_each_prompt(reco_ctx *ctx, const reco_candidates *c, reco_prompts_fn fn, void *user,
                             uint64_t *truncated);
/* What the model reads as a candidate's name; NULL: nobody says. */
const char *reco_candidate_text(const reco_candidates *c, size_t i);

/* ---- votes.c ---- */

/* The names' hashes, and what is known of prompts without the model that embedded them. */
reco_status reco_classifier_index(reco_ctx *ctx, reco_classifier *c);
/* What reco_classifier_votes finds, of [nq][k], where what the neighbours say was looked up with them: pairs, and the text
 * vectors where the candidates have rows. */
reco_status reco_classifier_listen(reco_ctx *ctx, const reco_classifier *c, const reco_lookup *found,
                                   uint32_t *of);
/* A prompt of a candidate, by its tokens and by its words. said has room. */
reco_status reco_classifier_note(reco_ctx *ctx, reco_classifier *c, uint32_t of, const char *text,
                                 uint64_t tokens);

#endif
