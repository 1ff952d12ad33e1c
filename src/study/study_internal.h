/* study/study_internal.h: what the files of study/ share. */
#ifndef RECO_SRC_STUDY_INTERNAL_H
#define RECO_SRC_STUDY_INTERNAL_H

#include "base/base.h"
#include "io/io.h"
#include "io/toml.h"
#include "reco/bank.h"
#include "reco/study.h"

enum { STUDY_MOST_VALUES = 64, STUDY_MOST_ROWS = 1024, STUDY_MOST_SEEDS = 64, STUDY_MOST_MEMORIES = 32 };

/* A memory: banks, or tables of pairs that become banks; more than one are joined. */
typedef struct study_memory {
    char *name;
    char *paths[STUDY_MOST_VALUES];
    size_t n;
} study_memory;

typedef enum study_kind { STUDY_CLIP, STUDY_KNN, STUDY_TIP, STUDY_LAYER } study_kind;
typedef enum study_without { STUDY_WITH_ALL, STUDY_WITHOUT_EVALUATED, STUDY_WITHOUT_NEW } study_without;

/* A row before it is evaluated: what is trained, and what is asked. */
typedef struct study_spec {
    const char *group;
    char *name;
    double x;
    study_kind kind;
    const char *control;   /* a layer without training; NULL: `train` is */
    reco_train_opts train; /* seed apart */
    size_t k;              /* asked with; 0: the layer's own */
    reco_sides sides;      /* RECO_SIDES_DEFAULT: what training chose */
    int mixture;           /* 1: the checkpoint's */
    float min_similarity;  /* counts with use_min */
    int use_min;
    size_t memory;       /* of study->memories */
    double share, wrong; /* percent */
    study_without without;
} study_spec;

/* What one evaluation gave. */
typedef struct study_cell {
    double acc1, acc5, per_class;
    char *right; /* [n] '1' where the answer is right; NUL-terminated */
    char sides[8];
} study_cell;

/* Queries and classes, embedded. */
typedef struct study_data {
    reco_model *model;
    reco_class_list *list;
    char **templates;
    size_t ntemplates;
    size_t n, d, c, failures;
    float *rows;           /* [n][d] */
    uint32_t *labels;      /* [n] */
    unsigned char *is_new; /* [n] */
    float *prompts;        /* [max(1, ntemplates)][c][d] */
    float *plain;          /* [c][d] */
    char key[33];          /* of all that */
} study_data;

struct reco_study {
    char *path, *title, *model, *pairs, *classes, *templates, *queries[2];
    study_memory memories[STUDY_MOST_MEMORIES]; /* 0: asked, 1: trained with, then those of [memories] */
    size_t nmemories;
    uint64_t seeds[STUDY_MOST_SEEDS];
    size_t nseeds;
    reco_train_opts train;
    int mixture;
    study_spec *specs;
    reco_study_row *rows;
    size_t nrows;
    const char *inputs[STUDY_MOST_VALUES * 8];
    size_t ninputs;
    double pairs_known; /* lines of what is trained with */
};

/* config.c: everything but the rows; entries of [rows] are left to plan.c. */
typedef struct study_reader {
    reco_ctx *ctx;
    reco_study *study;
    const char *path;
    reco_toml toml;
} study_reader;
reco_status study_bad(const study_reader *r, const reco_toml_entry *e, const char *want);
reco_status study_number(const study_reader *r, const reco_toml_entry *e, const json_t *v, double low,
                         double high, double *out);
const reco_toml_entry *study_find(const study_reader *r, const char *table, const char *key);

/* plan.c */
reco_status study_plan(study_reader *r);
extern const char *const study_groups[];      /* keys of [rows]; NULL ends */
bool study_is_random(const study_spec *spec); /* does a seed matter? */

/* memory.c: the bank of a memory, with n % of its captions wrong; made below out where it is not there. Keys say what it holds. */
typedef struct study_bank {
    reco_bank *bank;
    char key[33];
    uint32_t *of; /* the class of each live row, RECO_NO_CLASS */
    int64_t *ids; /* live */
    size_t n;
} study_bank;
reco_status study_bank_open(reco_ctx *ctx, study_bank *out, const reco_study *study, const study_data *data,
                            size_t memory, double wrong, const char *dir, const reco_stream_opts *stream);
reco_status study_is_bank(reco_ctx *ctx, const char *path, bool *bank);
reco_status study_bank_at(reco_ctx *ctx, study_bank *b, const char *path, const study_data *data);
reco_status study_bank_classes(reco_ctx *ctx, study_bank *b, const study_data *data);
void study_bank_close(study_bank *b);
reco_status study_bank_filter(reco_ctx *ctx, reco_bank_filter **out, const study_bank *b,
                              const study_spec *spec, const study_data *data, uint64_t seed);
reco_status study_pairs_path(reco_ctx *ctx, char **path, const reco_study *study, const study_data *data,
                             const char *dir, const reco_stream_opts *stream);

/* data.c */
reco_status study_data_load(reco_ctx *ctx, study_data *data, const reco_study *study, const char *dir,
                            const reco_model_opts *model, const reco_stream_opts *stream);
void study_data_free(study_data *data);

/* cell.c */
/* known: what layers are trained with; pairs: on which, empty where these are not a bank. */
reco_status study_evaluate(reco_ctx *ctx, study_cell *cell, const study_spec *spec, const study_data *data,
                           const study_bank *bank, const study_bank *known, const study_bank *pairs,
                           const reco_bank_filter *filter, const char *fusion);
reco_status study_cell_load(reco_ctx *ctx, study_cell *cell, const char *path, size_t n);
reco_status study_cell_save(reco_ctx *ctx, const study_cell *cell, const char *path);
void study_cell_free(study_cell *cell);

/* baselines.c */
reco_status study_knn(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const study_spec *spec,
                      const study_data *data, const study_bank *bank, const reco_bank_filter *filter);
reco_status study_tip(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const study_data *data,
                      const study_bank *bank, const study_bank *known, const study_bank *pairs);
reco_status study_votes(reco_ctx *ctx, const study_data *data, const reco_bank *bank, const int64_t *ids,
                        size_t n, uint32_t *of);

#endif
