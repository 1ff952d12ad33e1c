/* reco/study.h: a grid of trained layers and evaluations from one file, for tables of ablations. */
#ifndef RECO_STUDY_H
#define RECO_STUDY_H

#include "reco/base.h"
#include "reco/clip.h"
#include "reco/eval.h"
#include "reco/pipeline.h"
#include "reco/query.h"
#include "reco/train.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reco_study reco_study;

/* Metrics, as fractions; NaN if not applicable: old, new and their harmonic mean need queries of new
 * concepts. */
typedef enum reco_study_metric {
    RECO_STUDY_ALL = 0, /* top-1 of all queries */
    RECO_STUDY_OLD = 1,
    RECO_STUDY_NEW = 2,
    RECO_STUDY_HARMONIC = 3,
    RECO_STUDY_ACC5 = 4,
    RECO_STUDY_PER_CLASS = 5,
    RECO_STUDY_METRICS = 6
} reco_study_metric;
RECO_API const char *reco_study_metric_name(reco_study_metric metric); /* "all", "old", ... */

/* A row of the table: one method, over all seeds that it depends on. */
typedef struct reco_study_row {
    const char *group, *name; /* borrowed from the study */
    double x;                 /* position of the row on its group's axis; NaN: none */
    size_t seeds;             /* 1 if nothing is random */
    double mean[RECO_STUDY_METRICS], deviation[RECO_STUDY_METRICS]; /* sample deviation; NaN for one seed */
    /* gain in top-1 over CLIP on all queries, by paired bootstrap; a query's score is its mean over the
     * seeds */
    reco_interval gain;
    /* sides that were refined: "none", "image", "text", "both"; "varies" if seeds differ */
    const char *sides;
    const char *chosen; /* sides that training chose, likewise; "" if nothing was trained */
} reco_study_row;

/* The work to be done. */
typedef struct reco_study_plan {
    size_t rows, cells, trainings; /* cells: one checkpoint and one evaluation */
    /* estimate for two cores with AVX2, from the number of lines in the tables */
    double minutes;
} reco_study_plan;

typedef struct reco_study_result {
    size_t cells, reused;        /* cells that already existed */
    size_t trained, checkpoints; /* trained by this call, used in all */
    /* pictures that count; pictures that could not be read or whose label is not a class */
    size_t queries, failures;
    size_t classes;
    double seconds;
    float recall; /* the lowest expected recall of searches in the banks; 1: exact */
    uint64_t reserved[RECO_RESERVED - 1];
} reco_study_result;

/* Read and check a configuration (docs/study.md): keys, values and the existence of the files. Nothing is
 * written. RECO_E_FORMAT names file, line and key, and for an unknown key the nearest known one;
 * RECO_E_NOTFOUND a file. */
RECO_API reco_status reco_study_open(reco_ctx *ctx, reco_study **out, const char *config);
RECO_API void reco_study_close(reco_study *study); /* NULL is fine */
RECO_API const char *reco_study_title(const reco_study *study);
/* Borrowed from the study. */
RECO_API const reco_study_plan *reco_study_get_plan(const reco_study *study);
/* [n] files and folders that the study reads; borrowed. */
RECO_API const char *const *reco_study_inputs(const reco_study *study, size_t *n);
/* i = 0..rows-1, NULL for any other i; scores are set once the study has run. Borrowed from the study. */
RECO_API const reco_study_row *reco_study_get_row(const reco_study *study, size_t i);

/* A cell that starts (done 0) or is finished (done 1). */
typedef struct reco_study_step {
    const reco_study_row *row;
    uint64_t seed;
    size_t at, cells; /* the at-th, from 1, of so many */
    int done;
    int reused;     /* it already existed */
    double top1;    /* of all queries, as a fraction */
    double seconds; /* that it took */
    double left;    /* estimated seconds for the rest */
} reco_study_step;
/* Non-zero asks to stop, with RECO_E_CANCELLED. */
typedef int (*reco_study_step_fn)(void *user, const reco_study_step *step);

typedef struct reco_study_opts {
    reco_model_opts model;
    const reco_table_opts *table; /* of all tables; NULL = {0} */
    reco_failure_fn failure;      /* may be NULL */
    reco_study_step_fn step;      /* may be NULL */
    void *user;                   /* of both */
    uint64_t reserved[RECO_RESERVED];
} reco_study_opts;

/* Run the cells that are not done yet.
 *   out   folder, created if missing:
 *           cells/HASH.json                      results of one evaluation of one layer
 *           checkpoints/HASH.safetensors         trained layers
 *           banks/HASH.bank, queries/HASH.npy    embeddings of the tables of pairs and of the queries
 *         Names are hashes of everything that the content depends on (including the content of every
 *         picture and embeddings file). A study that was interrupted, even by kill -9, therefore resumes, and
 *         another configuration reuses what it shares with this one

 *   opts  NULL = {0}
 * Each file appears once it is complete. The bytes are the same with any number of threads. Nothing is
 * written before model, classes, templates, labels and embedded queries have been read and found valid.
 * RECO_E_CANCELLED, RECO_E_IO, RECO_E_MISMATCH (a bank or embeddings of another encoder), RECO_E_BUSY
 * (another study is running in the folder). */
RECO_API reco_status reco_study_run(reco_ctx *ctx, reco_study *study, const char *out,
                                    const reco_study_opts *opts, reco_study_result *result);

#ifdef __cplusplus
}
#endif
#endif
