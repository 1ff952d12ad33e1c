/* study/study_internal.h: shared by the files of study/. */
#ifndef RECO_SRC_STUDY_INTERNAL_H
#define RECO_SRC_STUDY_INTERNAL_H

#include "base/base.h"
#include "io/io.h"
#include "io/toml.h"
#include "reco/bank.h"
#include "reco/query.h"
#include "reco/study.h"

enum { STUDY_MOST_VALUES = 64, STUDY_MOST_ROWS = 1024, STUDY_MOST_SEEDS = 64, STUDY_MOST_MEMORIES = 32 };

/* A memory: banks, or tables of pairs and embeddings that become banks; more than one are joined. */
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
    int mixture;           /* 1: the checkpoint's, where `sides` are what training chose */
    float min_similarity;
    size_t memory;       /* of study->memories */
    double share, wrong; /* percent */
    study_without without;
} study_spec;

/* What one evaluation gave. */
typedef struct study_cell {
    double acc1, acc5, per_class;
    char *right;    /* [n] '1' where the answer is right; NUL-terminated */
    char sides[8];  /* that were refined */
    char chosen[8]; /* that training chose; "" of what was not trained */
} study_cell;

/* A query before it is embedded: a picture, or a row of embeddings. */
typedef struct study_query {
    char *path;
    const float *row; /* [d] of the sets */
    uint32_t label;
    unsigned char is_new;
} study_query;

/* Queries and classes, embedded. */
typedef struct study_data {
    reco_model *model; /* NULL: all is embedded already */
    reco_class_list *list;
    char **templates;
    size_t ntemplates;
    reco_query_set sets[2], class_set; /* embeddings that were given */
    study_query *queries;              /* [nqueries] */
    size_t nqueries;
    size_t n, d, c, failures;
    float scale;           /* exp(logit_scale) of the encoder, 100 where it is not known */
    float recall;          /* of the study */
    float *rows;           /* [n][d] */
    uint32_t *labels;      /* [n] */
    unsigned char *is_new; /* [n] */
    reco_candidates among; /* the classes, their prompts embedded */
    float *prompts;        /* [max(1, ntemplates)][c][d] of them, where they were embedded here */
    reco_classifier *clip; /* CLIP alone */
    char key[33];          /* of all that */
} study_data;

struct reco_study {
    char *path, *title, *model, *pairs, *classes, *class_embeddings, *templates, *queries[2], *labels[2];
    study_memory memories[STUDY_MOST_MEMORIES]; /* 0: asked, 1: trained with, then those of [memories] */
    size_t nmemories;
    uint64_t seeds[STUDY_MOST_SEEDS];
    size_t nseeds;
    reco_train_opts train;
    int mixture;
    float recall; /* expected of searches; 0: the banks' own; 1: exact */
    study_spec *specs;
    reco_study_row *rows;
    size_t nrows;
    reco_study_plan plan;
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
bool study_is_embeddings(const char *path); /* a folder or .npy, no table */

/* plan.c */
reco_status study_plan(study_reader *r);
extern const char *const study_groups[];      /* keys of [rows]; NULL ends */
bool study_is_random(const study_spec *spec); /* does a seed matter? */
/* About how long each cell of a row takes; the first row of a training counts it. */
void study_cost(reco_study *study); /* its plan, once its rows and pairs are known */
double study_seconds(const reco_study *s, size_t row);

/* key.c: names of what is embedded once, by the encoder and the content of all files. A file that can't be read counts as itself. */
reco_status study_encoder_hash(reco_ctx *ctx, const study_data *data, reco_hash **out);
void study_hash_content(reco_ctx *ctx, reco_hash *h, const char *path);
reco_status study_table_key(reco_ctx *ctx, const char *path, const study_data *data,
                            const reco_table_opts *table, char key[33]);
reco_status study_folder_key(reco_ctx *ctx, const char *path, const study_data *data, char key[33]);

/* memory.c: the bank of a memory, made below out where it is not there; keys say what it holds. */
typedef struct study_bank {
    reco_bank *bank;
    char key[33];
    uint32_t *of; /* the class of each live row, RECO_NO_CLASS */
    int64_t *ids; /* live */
    size_t n;
    float recall; /* expected of searches */
} study_bank;
/* wrong: percent of its captions, drawn by the seed */
reco_status study_bank_open(reco_ctx *ctx, study_bank *out, const reco_study *study, const study_data *data,
                            size_t memory, double wrong, uint64_t seed, const char *dir,
                            const reco_study_opts *opts);
reco_status study_bank_at(reco_ctx *ctx, study_bank *b, const char *path, const study_data *data);
reco_status study_bank_classes(reco_ctx *ctx, study_bank *b, const study_data *data);
void study_bank_close(study_bank *b);
reco_status study_bank_filter(reco_ctx *ctx, reco_bank_filter **out, const study_bank *b,
                              const study_spec *spec, const study_data *data, uint64_t seed);
/* The bank that a path is, or that its pairs become, once, below dir. */
reco_status study_as_bank(reco_ctx *ctx, char **out, const char *path, const study_data *data,
                          const char *dir, const reco_study_opts *opts);

/* derive.c: the bank of several, joined, of whose captions `wrong` percent are another row's; made once, below dir. */
reco_status study_derive(reco_ctx *ctx, char **out, char *const *paths, size_t n, const study_data *data,
                         double wrong, uint64_t seed, const char *dir);

/* queries.c, which writes nothing: queries and classes as the study names them. */
reco_status study_data_read(reco_ctx *ctx, study_data *data, const reco_study *study,
                            const reco_study_opts *opts);
/* data.c: embedded, once, below dir. */
reco_status study_data_embed(reco_ctx *ctx, study_data *data, const char *dir, const reco_study_opts *opts);
void study_data_drop(const reco_study_opts *opts, study_data *data, size_t row, const char *what,
                     const char *reason);
void study_data_free(study_data *data);

/* cell.c; known: what layers are trained with; pairs: on which, empty where these are its own rows. */
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
/* of [n]: the class whose name the caption of each row is, RECO_NO_CLASS where there is none */

#endif
