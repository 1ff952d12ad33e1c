/* reco/query.h: questions to a memory: what it finds, what that makes of an embedding, and which class or row the answer is.
 *
 * The command line, Python and a server ask through these functions, so that all of them give the same answer. */
#ifndef RECO_QUERY_H
#define RECO_QUERY_H

#include "reco/bank.h"
#include "reco/base.h"
#include "reco/clip.h"
#include "reco/fusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is asked, and how. Everything is borrowed, and may be shared between threads. RECO_MEMORY_INIT sets the defaults. */
typedef struct reco_memory {
    const reco_bank *bank;
    /* NULL: nothing is refined and nothing mixed. */
    const reco_fusion *fusion;
    /* Rows that are found, are fused and vote; NULL: all live rows of the bank. */
    const reco_bank_filter *filter;
    /* Neighbours that an embedding is fused with; 0: the layer's own number. */
    size_t k;
    /* Neighbours of smaller cosine do not count; the layer's own threshold counts, too. -1 = that alone. */
    float min_similarity;
    /* Embeddings of these are refined; RECO_SIDES_DEFAULT: what training chose. */
    reco_sides sides;
    /* How answers are read out. NULL: as training found it, where `sides` are those that it found it with; scale[0] = 0: by
     * the refined cosines alone. */
    const reco_mixture *mixture;
} reco_memory;
#define RECO_MEMORY_INIT                                                                                   \
    {                                                                                                      \
        .min_similarity = -1, .sides = RECO_SIDES_DEFAULT                                                  \
    }

/* What the fields of a memory come to for questions of one kind. */
typedef struct reco_settings {
    reco_sides sides;     /* as in the memory, or as training chose */
    int refines;          /* 1: embeddings of the question's side are changed */
    size_t k;             /* neighbours that are fused */
    float min_similarity; /* of both thresholds the greater */
    reco_mixture mixture; /* scale[0] = 0: there is none */
    size_t voters;        /* neighbours whose captions have a say; 0: none have */
} reco_settings;
/* For questions of `own` that are compared with vectors of `in`. What training found holds for pictures among texts and texts among
 * pictures; of pictures among pictures it knows nothing. Only neighbours of pictures vote, for captions. */
RECO_API void reco_memory_settle(const reco_memory *memory, reco_side own, reco_side in,
                                 reco_settings *settings);

/* The mixture of these two weights, the vote having what is left, with the scales that training found; else with CLIP's own scale
 * (`logit_scale`; 100 where it is 0), and 40 for the vote. */
RECO_API void reco_mixture_of(reco_mixture *mixture, const reco_fusion *fusion, float clip, float refined,
                              float logit_scale);

/* RECO_E_MISMATCH, naming both encoders, unless model, bank and fusion were made with the same one. Any may be NULL; an
 * encoder that is not recorded matches all. */
RECO_API reco_status reco_check_encoder(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                                        const reco_fusion *fusion);

/* Embeddings that are asked with. */
typedef struct reco_question {
    reco_side side; /* what they are embeddings of */
    const float *x; /* [n][d] unit rows */
    size_t n;
    /* [n][nexclude] rows of the bank that each neither finds nor is refined with; -1: none. May be NULL where nexclude is 0. */
    const int64_t *exclude;
    size_t nexclude;
} reco_question;

/* ---- refining ---- */

/* What the memory makes of embeddings: arrays of the caller, NULL where one is not wanted. */
typedef struct reco_refined {
    /* [n][d] unit rows; may be the question's x. Where nothing is refined, or no neighbour counts, a row is what it was, bit
     * for bit. */
    float *rows;
    size_t reach;   /* neighbours to list; 0: as many as are fused */
    reco_hits hits; /* [n][reach] the neighbours that count, best first */
    /* [n][k + 1] of the original and of each neighbour, as reco_fusion_weights gives them. */
    float *weights;
} reco_refined;
/* Search the bank with each embedding, and fuse what is found. With a filter the result is that of a bank that holds its rows alone.
 * RECO_E_MISMATCH when the width or the encoder of bank and layer differ; RECO_E_ARG for a filter of another bank, or k or reach
 * above RECO_BANK_MAX_K. */
RECO_API reco_status reco_refine(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                                 const reco_refined *out);

/* ---- which rows answer? ---- */

/* RECO_FIND_OPTS_INIT sets the defaults. */
typedef struct reco_find_opts {
    reco_side in; /* whose vectors of the rows are compared with the question */
    size_t k;     /* answers; 0 = 10 */
    /* The question as it came or as it was refined must reach this cosine; -1 = any does. */
    float min_similarity;
    int distinct; /* 1: each picture once, as reco_search_distinct */
    uint64_t reserved[RECO_RESERVED];
} reco_find_opts;
#define RECO_FIND_OPTS_INIT                                                                                \
    {                                                                                                      \
        .min_similarity = -1                                                                               \
    }

/* [n][k], best first; places without an answer hold id -1 and zeros. */
typedef struct reco_answer {
    int64_t *ids;
    float *scores; /* probabilities where there is a mixture, else cosines of the refined question */
    float *plain, *refined; /* cosines of the question as it came and as it was refined; NULL: not wanted */
    size_t *counts;         /* [n]; may be NULL */
} reco_answer;

/* Which rows of the memory answer, and how probably.
 * Without a mixture the answers are the rows nearest to the refined question. With one, the candidates are the best 128 rows of
 * the question and the best 128 of the refined one (1,024 where k is above 128; with `distinct`, of so many pictures), and the rows
 * whose captions vote; scores are reco_mixture_posterior over them, rows of equal vectors being one candidate. Rows are
 * compared as they are stored, not refined. Equal scores order by smaller id. With `distinct`, the pictures of rows that are excluded
 * are excluded, too.
 * Errors as of reco_refine and reco_bank_search. */
RECO_API reco_status reco_ask(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                              const reco_find_opts *opts, reco_answer out);

/* As reco_bank_search, each picture once: of rows of the same picture the best, and so many more that k pictures are found where
 * there are as many. Two rows are of the same picture when their image vectors are equal, or when their URIs are and the
 * vectors differ by rounding alone (cosine above 0.999). The pictures of rows that are excluded are excluded, too; such rows must be
 * there (RECO_E_NOTFOUND). */
RECO_API reco_status reco_search_distinct(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                          const float *queries, size_t nq, const reco_search_opts *opts,
                                          reco_hits hits);

/* ---- classes and labels ---- */

typedef struct reco_class_list reco_class_list;

/* Of names in memory; path: what messages call them. */
RECO_API reco_status reco_class_list_from(reco_ctx *ctx, reco_class_list **out, const char *const *names,
                                          size_t n, const char *path);
/* Once, before what follows: find names that are one class. Two are when the model's tokenizer makes the same tokens of
 * them, cut included, so that they have the same embedding; or when they differ in case, Unicode form or blanks alone.
 *   model  NULL, here and below: what tokens say is not known, and words are compared alone
 *   merge  1: they become one class, of the first one's name; 0: RECO_E_EXISTS, which names both lines */
RECO_API reco_status reco_class_list_settle(reco_ctx *ctx, reco_class_list *list, const reco_model *model,
                                            int merge);
RECO_API void reco_class_list_free(reco_class_list *list); /* NULL is fine */
RECO_API size_t reco_class_list_count(const reco_class_list *list);
RECO_API size_t
reco_class_list_merged(const reco_class_list *list); /* names that became part of another class */
/* [count + merged] all names, in the order of the file or folders; borrowed. */
RECO_API const char *const *reco_class_list_entries(const reco_class_list *list);
/* [count + merged] the class of each; borrowed. */
RECO_API const uint32_t *reco_class_list_of(const reco_class_list *list);
/* [count] to show, and for the model; borrowed. */
RECO_API const char *const *reco_class_list_names(const reco_class_list *list);
RECO_API const char *const *reco_class_list_texts(const reco_class_list *list);

#define RECO_NO_CLASS UINT32_MAX
/* Which class each label means.
 *   classes  [n] RECO_NO_CLASS where it is none
 *   how      a static string: "names" (or "folders"), "numbers", "order"
 * A label is a name, as it is or as reco_class_list_settle compares, _ and - being blanks too. Where all labels are whole
 * numbers (or synsets) and none is a name, they are the numbers of the file, or where it has none the positions of its
 * names, from 0. Where some are names, names they are. folders 1: labels are names of folders in their order; synsets that the
 * file does not have are then taken in that order, when there are as many. */
RECO_API reco_status reco_class_list_match(reco_ctx *ctx, const reco_class_list *list,
                                           const reco_model *model, const char *const *labels, size_t n,
                                           int folders, uint32_t *classes, const char **how);
/* The name that is nearest to a label by edit distance; borrowed. */
RECO_API const char *reco_class_list_nearest(const reco_class_list *list, const char *label);

/* ---- a closed set of answers ---- */

/* What pictures are asked among: classes, or captions. Everything is borrowed, for as long as a classifier of it lives. */
typedef struct reco_candidates {
    size_t n, d;
    const char *const *names;    /* [n] what they are called; NULL: nobody says, or the list does */
    const reco_class_list *list; /* settled, of n classes; NULL: there is none */
    /* Embeds the prompts, and knows which captions it reads alike. May be NULL where rows are there. */
    const reco_model *model;
    const char *const *templates; /* [m] prompts, each with {} (or {c}) in the place of the name */
    size_t m;                     /* 0: the name alone */
    /* [max(1, m)][n][d] unit rows: each candidate in every prompt; NULL: the model embeds them. */
    const float *rows;
    /* [n][d] unit rows of pictures of the candidates, that are added to their texts; NULL: none. */
    const float *pictures;
    float scale; /* CLIP's own exp(logit_scale); 0: the model's, else the bank's, else 100 */
} reco_candidates;

/* rows [max(1, m)][n][d] of candidates that have none, embedded by their model.
 *   truncated  how many of the prompts are longer than the model's context and were cut; may be NULL */
RECO_API reco_status reco_embed_prompts(reco_ctx *ctx, const reco_candidates *candidates, float *rows,
                                        uint64_t *truncated);

/* Candidates, by CLIP alone and with a memory: every prompt refined or not, averaged, normalised. Immutable; may be shared between
 * threads. */
typedef struct reco_classifier reco_classifier;
/*   memory     NULL: CLIP alone
 *   truncated  as in reco_embed_prompts, of prompts that are embedded here; may be NULL
 * Memory: 8 n d bytes, and 16 for each prompt. RECO_E_ARG for a template without a place for the name; otherwise as reco_refine. */
RECO_API reco_status reco_classifier_create(reco_ctx *ctx, reco_classifier **out, const reco_memory *memory,
                                            const reco_candidates *candidates, uint64_t *truncated);
RECO_API void reco_classifier_free(reco_classifier *classifier); /* NULL is fine */
/* [n][d] unit rows of the candidates, by CLIP alone and refined; borrowed. */
RECO_API const float *reco_classifier_plain(const reco_classifier *classifier);
RECO_API const float *reco_classifier_refined(const reco_classifier *classifier);
/* The refined rows as a .npy [n][d] of float32, for who ranks by cosine elsewhere. Atomic. */
RECO_API reco_status reco_classifier_save(reco_ctx *ctx, const reco_classifier *classifier,
                                          const char *path);
/* Of pictures among these candidates. */
RECO_API void reco_classifier_settings(const reco_classifier *classifier, reco_settings *settings);

/* What is known of some pictures. Free with reco_findings_free. */
typedef struct reco_findings {
    size_t n;     /* pictures */
    size_t reach; /* neighbours that are listed of each: those that are fused, and those that vote */
    /* [n][d] unit rows. Where nothing changes them they are the question's own, which must still be there. */
    const float *plain, *refined;
    float *rows[2]; /* those of them that are not */
    /* [n][reach] neighbours that count, best first, or -1; their cosines; and [n] how many there are. */
    int64_t *ids;
    float *scores;
    size_t *counts;
    /* [n] how many of the first vote, and [n][reach] which candidate the caption of each is, or RECO_NO_CANDIDATE. */
    size_t *voters;
    uint32_t *of;
    float *
        near; /* [n][reach] what votes are weighed by, where the layer learned a metric; NULL: the cosines */
} reco_findings;
/* Refine pictures, and find their neighbours and whom those vote for: the candidate whose name or prompt is the caption, but for
 * case, Unicode form and blanks, or by the model's tokenizer; or the one that it has the vector of, but for rounding.
 *   texts  [n][d] unit rows of a text beside each picture, that is refined and added, as OVEN asks; NULL: none
 * Errors as of reco_refine. */
RECO_API reco_status reco_classifier_ask(reco_ctx *ctx, const reco_classifier *classifier,
                                         const reco_question *question, const float *texts,
                                         reco_findings *out);
RECO_API void reco_findings_free(reco_findings *findings);

/* The answers: arrays of the caller, NULL where one is not wanted. */
typedef struct reco_ranking {
    size_t top;   /* how many candidates are listed */
    int64_t *of;  /* [n][top] which, best first; -1 past the number of candidates */
    float *p;     /* [n][top] their probabilities */
    float *score; /* [n][top] cosines of the refined, or of CLIP's where it alone decides */
    float *all;   /* [n][candidates] all probabilities */
} reco_ranking;
/* Read out what is known of pictures.
 *   by  NULL: the memory's mixture, else the refined cosines. Another one says what a single expert thinks: weight 1 of CLIP or of the
 *       refined ranks by cosines. Scales that are 0 are CLIP's own
 * Equal ones rank by smaller number. RECO_E_ARG for a mixture that is none. Scratch: 16 MiB times 3, or rows of n. */
RECO_API reco_status reco_classifier_rank(reco_ctx *ctx, const reco_classifier *classifier,
                                          const reco_findings *findings, const reco_mixture *by,
                                          const reco_ranking *out);
/* The rows of the memory that took part in refining a candidate, of all its prompts the k best: by their scores, or where weights are
 * wanted by those, each the mean over the prompts.
 *   out  hits, all three [1][k]; weights [k + 1] or NULL; rows and reach are not looked at */
RECO_API reco_status reco_classifier_neighbours(reco_ctx *ctx, const reco_classifier *classifier,
                                                size_t candidate, const reco_refined *out);

/* of [n]: which candidate each row of a bank says, or RECO_NO_CANDIDATE.
 *   ids  [n]; -1 is no row */
RECO_API reco_status reco_classifier_votes(reco_ctx *ctx, const reco_classifier *classifier,
                                           const reco_bank *bank, const int64_t *ids, size_t n,
                                           uint32_t *of);

#ifdef __cplusplus
}
#endif
#endif
