/* reco/query.h: queries to a memory: retrieval, refinement of embeddings, and answers among classes or
 * rows.
 *
 * The command line, Python and the server use these functions, so all of them give the same answers. */
#ifndef RECO_QUERY_H
#define RECO_QUERY_H

#include "reco/bank.h"
#include "reco/base.h"
#include "reco/clip.h"
#include "reco/fusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A bank and how to query it. Everything is borrowed, and may be shared between threads. RECO_MEMORY_INIT
 * sets the defaults. */
typedef struct reco_memory {
    const reco_bank *bank;
    /* NULL: no refinement and no mixture. */
    const reco_fusion *fusion;
    /* Rows that can be retrieved, fused and vote; NULL: all live rows of the bank. */
    const reco_bank_filter *filter;
    /* Number of neighbours to fuse; 0: the layer's own number. */
    size_t k;
    /* Neighbours of smaller cosine are ignored; the layer's own threshold applies too. -1: only that one. */
    float min_similarity;
    /* Sides to refine; RECO_SIDES_DEFAULT: as training chose. */
    reco_sides sides;
    /* How answers are read out. NULL: the mixture that training found, if `sides` are those that training
     * chose; scale[0] = 0: only the refined cosines. */
    const reco_mixture *mixture;
    /* Expected recall of each search, as in reco_search_opts; 0: the default of the open bank; 1: exact. */
    float recall;
    uint64_t reserved[RECO_RESERVED];
} reco_memory;
#define RECO_MEMORY_INIT                                                                                   \
    {                                                                                                      \
        .min_similarity = -1, .sides = RECO_SIDES_DEFAULT                                                  \
    }

/* The settings that result from a memory for one kind of query. */
typedef struct reco_settings {
    reco_sides sides;     /* as in the memory, or as training chose */
    int refines;          /* 1: embeddings of the query's side are refined */
    size_t k;             /* neighbours that are fused */
    float min_similarity; /* the greater of both thresholds */
    reco_mixture mixture; /* scale[0] = 0: there is none */
    size_t voters;        /* neighbours whose captions vote; 0: none */
    uint64_t reserved[RECO_RESERVED];
} reco_settings;
/* Settings for queries of side `own` that are compared with vectors of side `in`. The results of training
 * apply to pictures among texts and to texts among pictures, not within one side. Only neighbours of
 * pictures vote, for captions. */
RECO_API void reco_memory_settle(const reco_memory *memory, reco_side own, reco_side in,
                                 reco_settings *settings);

/* The mixture with these two weights (the vote gets the rest) and the scales that training found; without
 * those, CLIP's own scale (`logit_scale`; 0: 100), and 40 for the vote. */
RECO_API void reco_mixture_of(reco_mixture *mixture, const reco_fusion *fusion, float clip, float refined,
                              float logit_scale);

/* RECO_E_MISMATCH, naming both encoders, unless model, bank and fusion were made with the same one. Any may
 * be NULL; an encoder that is not recorded matches all. */
RECO_API reco_status reco_check_encoder(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                                        const reco_fusion *fusion);

/* Query embeddings. */
typedef struct reco_question {
    reco_side side; /* side of the embeddings */
    const float *x; /* [n][d] unit rows */
    size_t n;
    /* [n][nexclude] rows of the bank that are excluded from the retrieval and refinement of each query; -1:
     * none. May be NULL if nexclude is 0. */
    const int64_t *exclude;
    size_t nexclude;
    uint64_t reserved[RECO_RESERVED];
} reco_question;

/* ---- refining ---- */

/* Results of refinement: arrays of the caller, NULL if not wanted. */
typedef struct reco_refined {
    /* [n][d] unit rows; may be the question's x. Without refinement, or without valid neighbours, a row
     * stays the same bit for bit. */
    float *rows;
    size_t reach;   /* number of neighbours to list; 0: as many as are fused */
    reco_hits hits; /* [n][reach] the neighbours that count, best first */
    /* [n][k + 1] of the original and of each neighbour, as reco_fusion_weights gives them. */
    float *weights;
    reco_pair *pairs; /* [n][reach] what the neighbours say, as `pairs` of reco_answer */
    uint64_t reserved[RECO_RESERVED - 1];
} reco_refined;
/* Search the bank with each embedding, and fuse what is retrieved. With a filter, the result is that of a
 * bank that holds only its rows. RECO_E_MISMATCH if the width or the encoder of bank and layer differ;
 * RECO_E_ARG for a filter of another bank, or k or reach above RECO_BANK_MAX_K. */
RECO_API reco_status reco_refine(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                                 const reco_refined *out);

/* ---- answers among rows ---- */

/* RECO_FIND_OPTS_INIT sets the defaults. */
typedef struct reco_find_opts {
    reco_side in; /* side of the rows' vectors that are compared with the question */
    size_t k;     /* number of answers; 0 = 10 */
    /* The original or the refined question must reach this cosine; -1: no threshold. */
    float min_similarity;
    int distinct; /* 1: each picture only once, as in reco_search_distinct */
    uint64_t reserved[RECO_RESERVED];
} reco_find_opts;
#define RECO_FIND_OPTS_INIT                                                                                \
    {                                                                                                      \
        .min_similarity = -1                                                                               \
    }

/* [n][k], best first; unused places hold id -1 and zeros. */
typedef struct reco_answer {
    int64_t *ids;
    float *scores; /* probabilities where there is a mixture, else cosines of the refined question */
    float *plain, *refined; /* cosines of the original and of the refined question; NULL: not wanted */
    size_t *counts;         /* [n]; may be NULL */
    /* What the rows say, as reco_bank_get_many, each to be freed with reco_pair_free; on servers, they come
     * in the same round trip. NULL: not wanted. Nothing to free after an error. */
    reco_pair *pairs;
    uint64_t reserved[RECO_RESERVED - 1];
} reco_answer;

/* Find the rows of the memory that answer a question, with their probabilities. Without a mixture, the
 * answers are the rows nearest to the refined question. With one, the candidates are the best 128 rows of
 * the original question, the best 128 of the refined one (1,024 if k is above 128; with `distinct`, the
 * rows of as many pictures), and the rows whose captions vote; scores are reco_mixture_posterior over them,
 * where rows of equal vectors are one candidate. Rows are compared as stored, not refined. Ties are ordered
 * by ascending id. With `distinct`, the pictures of excluded rows are excluded too. Errors as of
 * reco_refine and reco_bank_search. */
RECO_API reco_status reco_ask(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                              const reco_find_opts *opts, const reco_answer *out);

/* As reco_bank_search, but with each picture only once, by its best row; k pictures are found if there are
 * that many. Two rows are of the same picture if their image vectors are equal, or if their URIs are equal
 * and the vectors differ only by rounding (cosine above 0.999). The pictures of excluded rows are excluded
 * too; such rows must exist (RECO_E_NOTFOUND). */
RECO_API reco_status reco_search_distinct(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                          const float *queries, size_t nq, const reco_search_opts *opts,
                                          const reco_hits *hits);

/* ---- classes and labels ---- */

typedef struct reco_class_list reco_class_list;

/* Create a list from names in memory; path: their source in messages. */
RECO_API reco_status reco_class_list_from(reco_ctx *ctx, reco_class_list **out, const char *const *names,
                                          size_t n, const char *path);
/* Find names that are the same class. To be called once, before the functions below. Two names are the same
 * class if the model's tokenizer gives the same tokens for them (after truncation), so that they have the
 * same embedding, or if they differ only in case, Unicode form or blanks.
 *   model  NULL, here and below: only the names are compared, not their tokens
 *   merge  1: they become one class with the first name; 0: RECO_E_EXISTS, which names both lines */
RECO_API reco_status reco_class_list_settle(reco_ctx *ctx, reco_class_list *list, const reco_model *model,
                                            int merge);
RECO_API void reco_class_list_free(reco_class_list *list); /* NULL is fine */
RECO_API size_t reco_class_list_count(const reco_class_list *list);
/* names that became part of another class */
RECO_API size_t reco_class_list_merged(const reco_class_list *list);
/* [count + merged] all names, in the order of the file or folders; borrowed. */
RECO_API const char *const *reco_class_list_entries(const reco_class_list *list);
/* [count + merged] the class of each; borrowed. */
RECO_API const uint32_t *reco_class_list_of(const reco_class_list *list);
/* [count] names to show, and texts for the model; borrowed. */
RECO_API const char *const *reco_class_list_names(const reco_class_list *list);
RECO_API const char *const *reco_class_list_texts(const reco_class_list *list);

#define RECO_NO_CLASS UINT32_MAX
/* Match labels to classes.
 *   classes  [n] the class of each label, or RECO_NO_CLASS
 *   how      a static string: "names" (or "folders"), "numbers", "order"
 * A label matches a name as is, or as reco_class_list_settle compares names, where _ and - count as blanks.
 * If all labels are integers (or synsets) and none is a name, they are the numbers of the file or, if it
 * has none, the positions of its names, from 0. If some labels are names, all are. folders 1: labels are
 * names of folders in their order; synsets that the file does not have are then taken in that order, if
 * there are as many. */
RECO_API reco_status reco_class_list_match(reco_ctx *ctx, const reco_class_list *list,
                                           const reco_model *model, const char *const *labels, size_t n,
                                           int folders, uint32_t *classes, const char **how);
/* The name nearest to a label by edit distance; borrowed. */
RECO_API const char *reco_class_list_nearest(const reco_class_list *list, const char *label);

/* ---- a closed set of answers ---- */

/* The candidates that pictures are classified among: classes or captions. Everything is borrowed as long as
 * a classifier uses it. */
typedef struct reco_candidates {
    size_t n, d;
    const char *const *names;    /* [n] their names; NULL: unknown, or given by the list */
    const reco_class_list *list; /* settled, of n classes; NULL: none */
    /* Embeds the prompts, and tells which captions have the same tokens. May be NULL if rows are given. */
    const reco_model *model;
    const char *const *templates; /* [m] prompts, each with {} (or {c}) in the place of the name */
    size_t m;                     /* 0: the name alone */
    /* [max(1, m)][n][d] unit rows: each candidate in every prompt; NULL: the model embeds them. */
    const float *rows;
    /* [n][d] unit rows of pictures of the candidates, which are added to their texts; NULL: none. */
    const float *pictures;
    float scale; /* CLIP's own exp(logit_scale); 0: the model's, else the bank's, else 100 */
    uint64_t reserved[RECO_RESERVED];
} reco_candidates;

/* Embed rows [max(1, m)][n][d] of candidates without rows, by their model.
 *   truncated  number of prompts that were truncated to the model's context; may be NULL */
RECO_API reco_status reco_embed_prompts(reco_ctx *ctx, const reco_candidates *candidates, float *rows,
                                        uint64_t *truncated);

/* Embeddings of candidates by CLIP alone and with a memory: the original and the refined prompts, averaged
 * and normalised. Immutable; may be shared between threads. */
typedef struct reco_classifier reco_classifier;
/*   memory     NULL: CLIP alone
 *   truncated  as in reco_embed_prompts, of prompts that are embedded here; may be NULL
 * Memory: 8 n d bytes, and 16 for each prompt. RECO_E_ARG for a template without {}; otherwise as
 * reco_refine. */
RECO_API reco_status reco_classifier_create(reco_ctx *ctx, reco_classifier **out, const reco_memory *memory,
                                            const reco_candidates *candidates, uint64_t *truncated);
RECO_API void reco_classifier_free(reco_classifier *classifier); /* NULL is fine */
/* [n][d] unit rows of the candidates, by CLIP alone and refined; borrowed. */
RECO_API const float *reco_classifier_plain(const reco_classifier *classifier);
RECO_API const float *reco_classifier_refined(const reco_classifier *classifier);
/* The refined rows as a .npy [n][d] of float32, for ranking by cosine elsewhere. Atomic. */
RECO_API reco_status reco_classifier_save(reco_ctx *ctx, const reco_classifier *classifier,
                                          const char *path);
/* Settings for pictures among these candidates. */
RECO_API void reco_classifier_settings(const reco_classifier *classifier, reco_settings *settings);

/* Findings for a batch of pictures. Free with reco_findings_free. */
typedef struct reco_findings {
    size_t n;     /* pictures */
    size_t reach; /* neighbours listed for each: those that are fused, and those that vote */
    /* [n][d] unit rows. If nothing changes them, they point to the question's own rows, which must stay
     * valid. */
    const float *plain, *refined;
    float *rows[2]; /* rows owned by the findings */
    /* [n][reach] valid neighbours, best first, or -1; their cosines; and [n] their number. */
    int64_t *ids;
    float *scores;
    size_t *counts;
    /* [n] how many of the first neighbours vote, and [n][reach] the candidate of each one's caption, or
     * RECO_NO_CANDIDATE. */
    size_t *voters;
    uint32_t *of;
    /* [n][reach] similarities that weight the votes if the layer learned a metric; NULL: the cosines */
    float *near;
    uint64_t reserved[RECO_RESERVED];
} reco_findings;
/* Refine pictures, and find their neighbours and the candidates those vote for. A neighbour votes for the
 * candidate whose name or prompt equals its caption, apart from case, Unicode form and blanks, or by the
 * model's tokenizer; or for the one whose vector it has, apart from rounding.
 *   texts  [n][d] unit rows of a text beside each picture, which is refined and added, as in the OVEN task;
 *          NULL: none
 * Errors as of reco_refine. */
RECO_API reco_status reco_classifier_ask(reco_ctx *ctx, const reco_classifier *classifier,
                                         const reco_question *question, const float *texts,
                                         reco_findings *out);
RECO_API void reco_findings_free(reco_findings *findings);

/* The answers: arrays of the caller, NULL if not wanted. */
typedef struct reco_ranking {
    size_t top;   /* number of candidates to list */
    int64_t *of;  /* [n][top] candidates, best first; -1 past their number */
    float *p;     /* [n][top] their probabilities */
    float *score; /* [n][top] refined cosines, or CLIP's cosines if it alone decides */
    float *all;   /* [n][candidates] all probabilities */
    uint64_t reserved[RECO_RESERVED];
} reco_ranking;
/* Rank the candidates for each picture.
 *   by  NULL: the memory's mixture, else the refined cosines. Another mixture can show a single expert:
 *       weight 1 for CLIP or for the refined embeddings ranks by cosines. Scales that are 0 become CLIP's
 *       own
 * Ties are ordered by ascending index. RECO_E_ARG for an invalid mixture. Scratch: 16 MiB times 3, or rows
 * of n. */
RECO_API reco_status reco_classifier_rank(reco_ctx *ctx, const reco_classifier *classifier,
                                          const reco_findings *findings, const reco_mixture *by,
                                          const reco_ranking *out);
/* The rows of the memory that took part in refining a candidate: the k best over all its prompts, by score
 * or, if weights are wanted, by weight, each averaged over the prompts.
 *   out  hits, all three [1][k]; weights [k + 1] or NULL; rows, reach and pairs are ignored */
RECO_API reco_status reco_classifier_neighbours(reco_ctx *ctx, const reco_classifier *classifier,
                                                size_t candidate, const reco_refined *out);

/* Find the candidate that each row of a bank votes for, of [n], or RECO_NO_CANDIDATE.
 *   ids  [n]; -1: no row */
RECO_API reco_status reco_classifier_votes(reco_ctx *ctx, const reco_classifier *classifier,
                                           const reco_bank *bank, const int64_t *ids, size_t n,
                                           uint32_t *of);

#ifdef __cplusplus
}
#endif
#endif
