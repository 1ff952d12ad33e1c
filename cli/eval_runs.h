/* cli/eval_runs.h: the same question put to several memories, layers and numbers of neighbours, side by side. */
#ifndef RECO_CLI_EVAL_RUNS_H
#define RECO_CLI_EVAL_RUNS_H

#include "eval.h"

/* Pictures, and what they are asked among: classes, or the captions of all of them. */
typedef struct eval_question {
    bool retrieval;
    size_t n, c, m, d,
        total;      /* pictures, candidates, prompts of a candidate, width; rows that were there */
    float *images;  /* [n][d] */
    float *prompts; /* [m][c][d] */
    float *plain;   /* [c][d] the candidates by CLIP alone; may be prompts itself */
    float *asked,
        *shown; /* [n][d], [c][d] of --joint, raw: questions beside pictures, pictures of classes; NULL: none */
    float *joint;     /* [n][d] pictures by CLIP alone, with their questions; may be images itself */
    uint32_t *labels; /* [n] class of each, or */
    uint32_t *of;     /* [c] picture of each caption */
    char **names;     /* [c]; NULL: nobody says */
    size_t ngroups;   /* pictures of a group lie together, and so do captions of theirs */
    char **groups;    /* [ngroups] */
    size_t *start[2]; /* [ngroups+1] first picture, first caption of each */
    float scale;      /* CLIP's own; 0: not known */
    const char *how;  /* as of eval_args */
} eval_question;

/* From --embeddings, --pairs, or the pictures that w holds (NULL: none). */
reco_status eval_question_load(cli *c, eval_args *a, eval_question *q);
reco_status eval_question_of(cli *c, eval_args *a, eval_work *w, eval_question *q);
/* Rows of one group follow one another. names [n], NULL: no group. */
reco_status eval_question_group(eval_question *q, char *const *names);
void eval_question_free(eval_question *q);
/* x [n][d] += y, of norm 1 again. y NULL: nothing. */
void eval_join(float *x, const float *y, size_t n, size_t d);
/* The mean over each candidate's prompts, of norm 1: out [c][d]. */
void eval_average(const eval_question *q, const float *prompts, float *out);

enum { EVAL_FIGURES = 6 };
/* One method's answers. Figures are acc1, acc5, mean per class, calibration error; or recall@1, 5, 10 of captions, of pictures. */
typedef struct eval_method {
    double (*figures)[EVAL_FIGURES]; /* [1+ngroups] of all, of each group */
    double mean[EVAL_FIGURES];       /* harmonic, of the groups */
    float *hit[2];                   /* [n], [c]: is the first answer right; of classes only [n] */
    uint32_t *right; /* [c] of each class, how many pictures are named right; of classes only */
} eval_method;

typedef struct eval_run {
    const char *bank, *fusion;
    size_t k;
    bool control, own;
    reco_sides sides;
    reco_layer layer;
    reco_mixture mixture; /* scale[0] = 0: none */
    eval_method cosines, reco;
    reco_interval off[2]; /* to CLIP, of the first figure; of retrieval both ways */
} eval_run;

typedef struct eval_runs {
    eval_method clip;
    eval_run *runs;
    size_t n;
} eval_runs;

/* --dataset: what its files say of classes, templates and the task, where the user does not. */
reco_status eval_dataset(eval_args *a);
/* Before the work: do all memories, layers and embeddings belong together, and can the results be written? */
reco_status eval_runs_check(cli *c, const eval_args *a);
/* Every bank with every layer and k, then the controls. */
reco_status eval_runs_ask(cli *c, const eval_args *a, const eval_question *q, const reco_model *model,
                          eval_runs *r);
void eval_runs_free(eval_runs *r);
void eval_runs_print(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r);
/* --results: a file of each method, in CLIP_benchmark's shape. */
reco_status eval_runs_write(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r);

#endif
