/* cli/eval.h: the parts of `reco eval`: a question is put to several memories, layers and numbers of neighbours, side by side. */
#ifndef RECO_CLI_EVAL_H
#define RECO_CLI_EVAL_H

#include "zero_shot.h"

typedef struct eval_args {
    cli *common;
    zero_shot z;
    const char *labels, *details, *page;
    const char *embeddings, *class_embeddings, *encoder, *groups, *results, *classifier;
    bool retrieval, controls, per_class;
    bool joint;     /* text_emb beside the pictures are questions, img_emb beside the classes show them */
    bool dataset;   /* embeddings is a data set of CLIP_benchmark's, to be embedded */
    char *own[2];   /* its files of names and templates, where they were not given */
    size_t explain; /* pictures of the page */
    char *cache;    /* folder of what was embedded; NULL: nothing is kept */
    bool no_cache;
} eval_args;

/* Pictures, and what they are asked among, which stands in the zero_shot: classes, or the captions of all of them. */
typedef struct eval_question {
    bool retrieval;
    size_t n, total;          /* pictures, rows that were there */
    float *images;            /* [n][d] */
    float *asked;             /* [n][d] of --joint: questions beside pictures; NULL: none */
    uint32_t *labels;         /* [n] class of each, or */
    uint32_t *of;             /* [candidates] picture of each caption */
    char **places, **paths;   /* [n] what pictures are called, and where they lie; NULL: not known */
    float *prompts, *shown;   /* of the candidates, where they are no others' */
    char **captions;          /* [candidates], likewise */
    char **groups;            /* [ngroups] names, ascending */
    uint32_t *group;          /* [n] of each picture */
    size_t ngroups, *group_n; /* [ngroups] how many pictures */
    const char *how;          /* labels are "names", "numbers", "folders" or "order" */
} eval_question;

/* The pictures of --labels or --images, or --embeddings. Those whose label is no class are reported and gone. */
reco_status eval_load_pictures(cli *c, eval_args *a, eval_question *q);
reco_status eval_load_embeddings(cli *c, eval_args *a, eval_question *q);
/* --dataset: what its files say of classes, templates and the task, where the user does not. */
reco_status eval_dataset(eval_args *a);
/* names [n], NULL: no group. */
reco_status eval_group(eval_question *q, char *const *names);
void eval_question_free(const eval_args *a, eval_question *q);

enum { EVAL_FIGURES = 6, EVAL_TOP = 5 };
/* One method's answers. Figures are acc1, acc5, mean per class, calibration error; or recall@1, 5, 10 of captions, of pictures. */
typedef struct eval_method {
    double (*figures)[EVAL_FIGURES]; /* [1+ngroups] of all, of each group */
    double mean[EVAL_FIGURES];       /* harmonic, of the groups */
    float *hit[2];                   /* [n], [candidates]: is the first answer right; of classes only [n] */
    int64_t *top;                    /* [n][EVAL_TOP] of classes only */
} eval_method;

typedef struct eval_run {
    const char *bank, *fusion;
    size_t k;
    bool control;
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
    char *refined; /* what was refined in the first run, in words */
} eval_runs;

/* Before the work: do all memories, layers and embeddings belong together, and can the results be written? */
reco_status eval_check(cli *c, const eval_args *a);
/* Every bank with every layer and k, then the controls; of the first one the details and the page. */
reco_status eval_ask(cli *c, eval_args *a, eval_question *q, eval_runs *r);
void eval_runs_free(eval_runs *r);
void eval_print(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r);
/* --results: a file of each method, in CLIP_benchmark's shape. */
reco_status eval_write_results(const eval_args *a, const eval_question *q, const eval_runs *r);
/* --details, --explain: of a run whose memory the zero_shot holds. */
reco_status eval_write_details(cli *c, eval_args *a, const eval_question *q, const eval_method *clip,
                               const eval_method *reco);
reco_status eval_explain(cli *c, eval_args *a, const eval_question *q, const eval_method *clip,
                         const eval_run *run);

#endif
