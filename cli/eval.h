/* cli/eval.h: the parts of `reco eval`. */
#ifndef RECO_CLI_EVAL_H
#define RECO_CLI_EVAL_H

#include "zero_shot.h"

typedef struct eval_args {
    cli *common;
    zero_shot z;
    const char *labels, *details, *page;
    const char *embeddings, *class_embeddings, *encoder, *groups, *results;
    bool retrieval, controls, per_class;
    bool joint;   /* text_emb beside the pictures are questions, img_emb beside the classes show them */
    bool dataset; /* embeddings is a data set of CLIP_benchmark's, to be embedded */
    char *own[2]; /* its files of names and templates, where they were not given */
    size_t skipped, asked; /* rows that could not be used; pictures that were asked about */
    size_t explain;        /* pictures of the page */
    const char *how;       /* labels are "names", "numbers", "folders" or "order" */
} eval_args;

/* Pictures and their labels. All arrays are in step, and what cannot be used drops out of all of them. */
typedef struct eval_work {
    zero_shot *z;
    char **groups;                   /* [total] of --groups; NULL: none asked for */
    char **images, **names, **paths; /* [n] as typed, the labels, the files; [total] are allocated */
    char **reasons;    /* [total] what is wrong with a row of --labels, or NULL; NULL: nothing */
    uint64_t *rows_at; /* [n] row of the input, for messages */
    uint32_t *labels;  /* [n] class of each */
    size_t n, total;
    float *rows, *improved; /* [n][d] */
    unsigned char *ok;
    int64_t *top[3]; /* [n][5] of CLIP, of the refined cosines, and of the mixture where there is one */
    cli *c;
} eval_work;

/* The pictures of --labels or --images, those whose label is no class reported and gone. */
reco_status eval_load(cli *c, eval_args *a, eval_work *w);
/* Of those that could be read, the embeddings. */
reco_status eval_embed(cli *c, eval_work *w);
void eval_free(eval_work *w);
/* Which of top and scores is RECO's answer. */
static inline int eval_answer(const eval_work *w) { return zero_shot_mixes(w->z) ? 2 : 1; }
/* --details: atomic. */
reco_status eval_write_details(cli *c, const eval_args *a, const eval_work *w);
/* --explain: the page. */
reco_status eval_explain(cli *c, const eval_args *a, eval_work *w, const reco_class_scores scores[3]);
void eval_print(cli *c, const eval_args *a, const eval_work *w, const reco_class_scores scores[3]);

#endif
