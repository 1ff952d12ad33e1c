/* train/train_internal.h: the parts of training; used by train/ and its tests. */
#ifndef RECO_SRC_TRAIN_H
#define RECO_SRC_TRAIN_H

#include "fusion/fusion.h"
#include "reco/train.h"

#include <jansson.h>

/* ---- same.c ---- */

/* Which captions are right answers to which pictures: those of any row of the picture. Captions are the same when their
 * texts are but for case and blanks, or their embeddings but for rounding (so equal tokens always are); pictures when
 * they have one name, or equal embeddings. */
typedef struct reco_answers {
    uint32_t *caption, *picture; /* [rows] equal numbers: the same */
    size_t captions, pictures;   /* how many */
    uint32_t *start;             /* [pictures+1] where in `of` the captions of each picture begin */
    uint32_t *of;                /* ascending within a picture, each once */
} reco_answers;

/* Is the caption of row `text` right for the picture of row `image`? */
static inline bool reco_is_right(const reco_answers *a, uint32_t image, uint32_t text)
{
    uint32_t picture = a->picture[image], caption = a->caption[text];
    uint32_t low = a->start[picture], high = a->start[picture + 1];
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (a->of[middle] <= caption)
            low = middle;
        else
            high = middle;
    }
    return a->of[low] == caption;
}

/* ---- loss.c ---- */

/* L = NCE(v',t') + NCE(v',t) + NCE(v,t'), scale exp(min(logit_scale, ln 100)), and its gradients.
 *   dv2, dt2      [B][d] overwritten with dL/dv', dL/dt'
 *   dlogit_scale  overwritten
 *   v2, t2, v, t  [B][d] refined and original
 *   answers       or NULL: texts that are right for a picture are not its negatives; row i is items[i] of answers */
reco_status reco_train_loss(reco_ctx *ctx, double *loss, float *dv2, float *dt2, float *dlogit_scale,
                            const float *v2, const float *t2, const float *v, const float *t,
                            float logit_scale, const reco_answers *answers, const uint32_t *items, size_t B,
                            size_t d);

/* ---- adamw.c ---- */

typedef struct reco_adamw {
    double lr, beta1, beta2, eps, decay; /* decay: of parameters that say so */
    double clip;                         /* global gradient norm; 0 = none */
} reco_adamw;

/* One step: clip dvector's norm, update moments and parameters. step counts from 1. *norm: before. The number of threads changes
 * no bit. */
reco_status reco_adamw_step(reco_ctx *ctx, double *norm, reco_fusion *fusion, const float *dvector,
                            float *m, float *v, const reco_adamw *opts, size_t step);
/* Factor of the learning rate at step (from 1) of steps: linear warm-up, then half a cosine to 0. */
double reco_cosine(size_t step, size_t steps, double warmup);

/* Can the layer learn its pairs by heart? Then it is trained once, and stays as it was when held-out pairs were served best. */
static inline bool reco_layer_memorises(reco_layer layer)
{
    return layer == RECO_LAYER_TRANSFORMER || layer == RECO_LAYER_MLP;
}

/* ---- pairs.c, search.c: what is trained on, and what each pair retrieves ---- */

/* Choices of sides, as bits of reco_sides, are indices of arrays of 4: none (CLIP), image, text, both. */
enum { RECO_CHOICES = 4 };

/* Pairs judged of one fold, and candidates ranked: more would not change the verdict, and cost their square. */
enum { RECO_MOST_JUDGED = 2048 };

/* Neighbours whose vote is asked at most, unless more are fused. */
enum { RECO_MOST_VOTERS = 100 };

#define RECO_NOTHING UINT32_MAX

enum { RECO_LISTS = 3 };

/* neighbours.c: a file of what was found. */
typedef struct reco_neighbours {
    bool open;
    int fd;
    void *map; /* NULL: there is none */
    size_t bytes, done;
    double synced; /* when it was last */
} reco_neighbours;

typedef struct reco_job {
    reco_ctx *ctx;
    const reco_bank *bank;
    reco_train_opts o; /* no defaults left */
    bool own;          /* the pairs are the bank's own rows */
    bool inside;       /* most of them are, by whatever way they came */
    size_t n, d;
    size_t trained;       /* pairs before those that everything is judged on, n where there are none such */
    const float *rows[2]; /* [n][d] by side */
    float *owned[2];      /* rows, where they are not the caller's */
    /* The pairs, then, where they are not the bank's own rows, the rows of the bank that they retrieved. */
    size_t total;
    int64_t *id;       /* [total] row of the bank, ascending; -1: none */
    reco_answers same; /* [total] */
    uint64_t *keys[2]; /* [total] of pictures, captions as rows name them, 0: no name; till loaded */
    uint32_t *fold;    /* [n] below folds; a caption and a picture are in one fold, as far as that can be */
    size_t folds, runs; /* runs: folds that are held out */
    uint32_t *held;     /* [nheld] pairs measured when their fold is held out, run by run */
    size_t *held_start; /* [runs+1] where each run's begin */
    size_t nheld;
    size_t depth; /* neighbours of each pair that may be fused */
    /* Lists of neighbours, best first: of the image, of the text, and those of the text among texts. The third is the second
     * unless the search is cross-modal: it tells which captions the memory holds. */
    size_t lists;               /* 2 or 3 */
    size_t reach[RECO_LISTS];   /* neighbours kept of each pair: of the image, those that may vote, too */
    int64_t *found[RECO_LISTS]; /* [n][reach] ids of them, -1 at the end; gone after loading */
    uint32_t *near[RECO_LISTS]; /* [n][reach] which of the job's list of rows; RECO_NOTHING at the end */
    float *scores[RECO_LISTS];  /* [n][reach] cosines of the search */
    /* Inner products that never change, of the relational layer: of each pair with the partners of its neighbours [depth],
     * then of these with one another, h with each l < h at depth + h(h-1)/2 + l. NULL: not kept. */
    float *products[2]; /* [n][reco_job_products] */
    /* Of each side, the rows of the list from reco_job_first on that it fuses [][d]. NULL: not kept. */
    const float *fused[2];
    float *gathered[2]; /* these, where they are not the pairs */
    reco_neighbours kept;
    bool twins; /* the memory holds most of the captions, with other pictures */
    /* Of the image's neighbours: is it in the nearer half of those of its caption? NULL without twins. */
    unsigned char *kin; /* [n][reach] */
    bool apart;         /* some are */
} reco_job;

/* options.c: defaults and ranges; n pairs, rows: neighbours that the bank can give. */
reco_status reco_train_resolve(reco_ctx *ctx, reco_train_opts *o, size_t n, size_t d, size_t rows);
/* pairs.c: all of the job, given ctx, bank and o. pairs NULL: the bank's own rows. */
reco_status reco_job_load(reco_job *job, const reco_train_pairs *pairs);
void reco_job_clear(reco_job *job);
/* The same job for another layer, with the options that were asked for. */
reco_status reco_job_turn(reco_job *job, const reco_train_opts *asked, reco_layer layer);
/* The list of texts among texts. */
static inline size_t reco_job_told(const reco_job *job) { return job->lists - 1; }
/* Where the bank's rows begin in the list. */
static inline size_t reco_job_first(const reco_job *job) { return job->own ? 0 : job->n; }
static inline size_t reco_job_products(const reco_job *job)
{
    return job->depth + job->depth * (job->depth - 1) / 2;
}
/* kin.c: kin and apart. Pictures of a bank are often taken together, and a row that is held out finds those; a query seldom
 * has any there. So a pair is asked twice: with all of the memory, and apart from its kin. */
reco_status reco_job_find_kin(reco_job *job);
/* products.c: fused, and products, where there is room for them. */
reco_status reco_job_gather(reco_job *job);
reco_status reco_job_multiply(reco_job *job);
/* Place in the list of a row of the bank, or RECO_NOTHING. */
size_t reco_job_index(const reco_job *job, int64_t id);

/* same.c: number the pictures and captions of the list. */
reco_status reco_job_number(reco_job *job);
/* folds.c: fold and held; the second held alone, which hangs on the layer. */
reco_status reco_job_split(reco_job *job);
reco_status reco_job_hold(reco_job *job);
/* neighbours.c: where the options name a file, found and scores lie in it, and the first kept.done pairs of all lists are there. */
reco_status reco_neighbours_open(reco_job *job);
reco_status reco_neighbours_done(reco_job *job, size_t done);
reco_status reco_neighbours_check(const reco_job *job); /* RECO_E_FORMAT */
void reco_neighbours_close(reco_job *job);              /* found and scores that lie in it are NULL then */
/* search.c: found and scores. Barred: the pair itself, rows of its picture, and rows whose image is above max_similarity to its
 * own. */
reco_status reco_job_search(reco_job *job);

/* ---- batch.c ---- */

typedef struct reco_batch {
    size_t max, n;
    uint32_t *items;      /* [n] pairs */
    float *x[2];          /* [n][d] */
    float *R[2];          /* [n][k][d] partners of the neighbours of x; or NULL: they are those at */
    uint32_t *place[2];   /* [n][k] of */
    const float *rows[2]; /* [][d], the job's */
    float *s[2];          /* [n][k] */
    size_t *valid[2];     /* [n] */
    /* [n][k] products of each neighbour with x, and with the others on average; where they are known */
    float *c[2], *a[2];
    bool known;
    int64_t *ids;     /* [n][k] scratch */
    uint32_t *picked; /* [k] scratch */
} reco_batch;

/* One side of a batch, as the layer wants it. */
reco_fusion_input reco_batch_input(const reco_batch *b, int side, size_t k);
reco_status reco_batch_create(const reco_job *job, reco_batch *b, size_t max);
void reco_batch_clear(reco_batch *b);
/* Refine the items [first, first+n), whose gathered rows are in use then until backward has run. */
reco_status reco_batch_forward(reco_ctx *ctx, const reco_batch *b, const reco_fusion *fusion,
                               reco_side side, size_t first, size_t n, size_t k, float *out,
                               reco_tape *tape);
/* Rows of the bank that do not count, by what they show and what they say. */
typedef struct reco_mask {
    unsigned char *picture, *caption; /* [pictures], [captions] */
} reco_mask;

reco_status reco_mask_create(const reco_job *job, reco_mask *mask);
void reco_mask_clear(reco_mask *mask);
/* Mask what the pairs of a fold show and say, and nothing else. */
void reco_mask_fold(const reco_job *job, reco_mask *mask, size_t fold, bool captions);

/* Gather the pairs b->items[0..n). mask NULL: all rows count. apart: but their kin. rng NULL: no dropout; else half of the pairs,
 * drawn, are apart. */
reco_status reco_batch_fill(const reco_job *job, reco_batch *b, size_t n, const reco_mask *mask, bool apart,
                            reco_rng *rng);
/* What votes for the captions of pair i: of the pictures most like its own, at most k; how many. rows: of the job's list. */
size_t reco_job_voters(const reco_job *job, size_t i, const reco_mask *mask, bool apart, size_t k,
                       float *scores, uint32_t *rows);
/* Turn all of the batch by one random orthogonal matrix (rotate.c). */
reco_status reco_batch_rotate(const reco_job *job, reco_batch *b, reco_rng *rng);

/* ---- measure.c ---- */

typedef enum reco_twin { RECO_TWIN_NONE, RECO_TWIN_UNKNOWN, RECO_TWIN_KNOWN } reco_twin;

/* How one held-out pair fared with each choice of sides: means of both directions. */
typedef struct reco_outcome {
    float hit[RECO_CHOICES]; /* ranked first */
    /* 1/rank: when the memory does not hold its caption, and when it may */
    float reciprocal[2][RECO_CHOICES];
    /* reco_twin: is the caption in the memory with another picture, and does CLIP recognise that one? */
    float twin;
} reco_outcome;

/* Refine the pairs that run `run` holds out, and rank each among them all. out is that of all runs [nheld]. */
reco_status reco_measure(const reco_job *job, const reco_fusion *fusion, size_t run, reco_outcome *out);

/* ---- metric.c ---- */

/* Pictures are dealt into so many parts; a metric is learned of all but one of them. */
enum { RECO_METRICS = 5 };
static inline size_t reco_metric_part(const reco_job *job, size_t i)
{
    return job->same.picture[i] % RECO_METRICS;
}
/* The metric (fusion.h) [d+1][d] of all pictures whose captions are not masked and that are not of `without`: those that are trained
 * on and what they retrieved. mask NULL: of all captions; without RECO_METRICS: all pictures. *found false: captions have too
 * few pictures, or the vote plays no part. */
reco_status reco_learn_metric(const reco_job *job, const reco_mask *mask, size_t without, float *metric,
                              bool *found);

/* ---- mixture.c: the readout ---- */

/* Pictures that were held out, each with the captions it is ranked among, the right one first. */
typedef struct reco_queries {
    size_t n, room, width;  /* width: most candidates */
    size_t *count;          /* [room] candidates of each */
    float *plain, *refined; /* [room][width] cosines */
    size_t voters;          /* neighbours that are listed */
    uint32_t crowd;         /* how many of them vote */
    float *near;            /* [room][voters] cosines of neighbours, or how near they are by the metric */
    bool metric;            /* that */
    float *metrics;         /* [RECO_METRICS][d+1][d], each without a part of the pictures */
    uint32_t *of;           /* [room][voters] the candidate whose caption it is, or RECO_NO_CANDIDATE */
    size_t *valid;          /* [room] how many neighbours count */
    uint32_t *caption;      /* [room] the right one: number among the job's */
    uint32_t *item;         /* [room] the pair */
} reco_queries;

reco_status reco_queries_create(const reco_job *job, reco_queries *q);
void reco_queries_clear(reco_queries *q);
/* Add those that `run` holds out (of many, some), their sides refined by fusion as it is. */
reco_status reco_queries_add(const reco_job *job, const reco_fusion *fusion, size_t run, reco_sides sides,
                             reco_queries *q);

typedef struct reco_readout {
    reco_mixture mixture;
    double clip, cosines, mixed; /* shares of the queries whose right answer comes first */
    double error;                /* standard error of mixed - clip */
} reco_readout;

/* The mixture (mixture.c says how). Where its gain over CLIP is not above its error, or captions occur once and its gain over
 * the refined cosines is not above two errors, the refined cosines alone; CLIP, where no side is refined. */
reco_status reco_choose_mixture(const reco_job *job, const reco_queries *q, reco_sides sides,
                                reco_readout *readout);
/* Standard error of the mean of x - y over the queries [n], by captions: pictures of one caption fare alike. */
reco_status reco_queries_error(const reco_job *job, const reco_queries *q, const float *x, const float *y,
                               double *error);

/* ---- concat.c ---- */

/* The weight of CLIP's cosine against the refined one, in tenths; 1 where its gain over CLIP is not above its error. */
reco_status reco_choose_concat(const reco_job *job, const reco_queries *q, float *weight);

/* ---- choose.c ---- */

/* A smaller gain of score is not worth having. */
#define RECO_LEAST_GAIN 0.004

typedef struct reco_verdict {
    size_t pairs;
    double recall[RECO_CHOICES];   /* at 1, percent */
    double kinds[2][RECO_CHOICES]; /* mean of 1/rank without the caption in memory, and with it */
    double score[RECO_CHOICES];    /* what choices are compared by */
    double gain[RECO_CHOICES], error[RECO_CHOICES]; /* of score against CLIP's, and its standard error */
    reco_sides best;                                /* greatest gain less its error */
    double merit;                                   /* that difference */
    reco_sides sides;                               /* best, or none where its gain is not clear */
} reco_verdict;

/* Is the caption of pair i in the memory, with another picture? */
bool reco_job_has_twin(const reco_job *job, size_t i);

/* Judge the outcomes [nheld] of all runs. */
reco_status reco_choose(const reco_job *job, reco_verdict *verdict, const reco_outcome *outcomes);

/* ---- state.c ---- */

/* All runs take each step together. */
typedef struct reco_state {
    size_t step;   /* the one to do next, from 0 */
    size_t runs;   /* the job's, then one with all pairs where that is the one that stays */
    size_t total;  /* parameters */
    float *vector; /* [runs][total]; borrowed from the fusion of a layer that keeps its best */
    float *m, *v;  /* [runs][total] moments */
    float *best;   /* [total] the parameters of the best checkpoint */
    double best_merit;
    size_t best_step;
    size_t checkpoints;     /* of a run */
    reco_outcome *outcomes; /* [checkpoints][nheld] */
    float *kept;  /* [checkpoints][runs][total] parameters; NULL for a layer that keeps its best */
    double loss;  /* of the last run's last step */
    char key[33]; /* hash of options and inputs */
} reco_state;

reco_status reco_state_create(reco_state *s, const reco_job *job, reco_fusion *fusion, size_t checkpoints);
void reco_state_clear(reco_state *s);
reco_status reco_state_save(const reco_state *s, const reco_job *job, const char *path);
/* *found false: no file, or one of another job; s is then as it was. */
reco_status reco_state_load(reco_state *s, const reco_job *job, const char *path, bool *found);

/* ---- gradient.c: a batch's loss, and its gradient by all parameters ---- */

typedef struct reco_gradients {
    reco_fusion *fusion;
    size_t d, k;
    size_t n;             /* tapes */
    reco_tape **tapes;    /* [n] */
    float *y[2], *dy[2];  /* [max][d] by side: refined, and what the loss wants of it */
    reco_ctx *workers[2]; /* of two threads, one for each side; else NULL */
} reco_gradients;

/* What training keeps. */
#define RECO_TAPES_BYTES ((size_t)256 << 20)

/* For batches of at most max. Tapes that do not fit in `bytes` are made again when they are needed, which costs a second forward of
 * theirs and changes no bit. */
reco_status reco_gradients_create(reco_ctx *ctx, reco_gradients *g, reco_fusion *fusion, size_t max,
                                  size_t k, size_t bytes);
void reco_gradients_clear(reco_gradients *g);
/* gradient [total] is overwritten. answers NULL: each text is right for its own picture alone. */
reco_status reco_gradients_take(reco_ctx *ctx, reco_gradients *g, double *loss, float *gradient,
                                const reco_batch *b, const reco_answers *answers);

/* ---- learn.c ---- */

typedef struct reco_learner {
    const reco_job *job;
    reco_fusion *fusion;
    reco_state *state;
    reco_batch batch;
    reco_gradients gradients;
    float *gradient; /* [total] */
    uint32_t *pool;  /* [npool] the pairs trained on in this run */
    size_t npool;
    reco_mask hidden;
} reco_learner;

/* What a step came to: the gradient's norm is that before clipping. */
typedef struct reco_step {
    double loss, lr, norm;
} reco_step;

reco_status reco_learner_create(reco_learner *l, const reco_job *job, reco_fusion *fusion,
                                reco_state *state);
void reco_learner_clear(reco_learner *l);
/* Bytes that a learner works in, about. */
size_t reco_learner_bytes(const reco_job *job);
/* Step number state->step of a run; everything random in it follows from these two and the seed. The fusion has the run's
 * parameters then. */
reco_status reco_learner_step(reco_learner *l, size_t run, reco_step *taken);

/* ---- crew.c: all runs take each step together, as many at a time as there are threads ---- */

typedef struct reco_worker {
    reco_ctx *ctx;       /* its own, or NULL: there is one worker, with the job's */
    reco_fusion *fusion; /* likewise */
    reco_job job;        /* by that context; a copy that owns nothing */
    reco_learner learner;
    reco_status status;
} reco_worker;

typedef struct reco_crew {
    const reco_job *job;
    reco_state *state;
    reco_worker *workers; /* [n] */
    size_t n;
    reco_step *taken;  /* [runs] */
    reco_outcome *out; /* [nheld] while runs are measured; NULL while they take steps */
} reco_crew;

/* fusion: of one worker; what parameters it has in between means nothing, unless the state's are its. */
reco_status reco_crew_create(reco_crew *crew, const reco_job *job, reco_fusion *fusion, reco_state *state);
void reco_crew_clear(reco_crew *crew);
/* The state's next step, of all runs. */
reco_status reco_crew_step(reco_crew *crew);
/* Measure all runs that hold a fold out. */
reco_status reco_crew_measure(reco_crew *crew, reco_outcome *out);
/* A relational layer is used, and judged, with a part of the gate that it has learned. */
void reco_train_temper(const reco_job *job, reco_fusion *fusion);

/* ---- scale.c ---- */

/* exp(logit_scale) at which CLIP's own loss on the pairs is least: where training starts when the encoder's is not
 * known. Too high a scale leaves next to no gradient, too low a one pulls everything together. */
reco_status reco_train_fit_scale(const reco_job *job, float *scale);

/* ---- provenance.c ---- */

/* All options, no defaults left. */
json_t *reco_train_options(const reco_job *job);
/* A hash of the pairs. */
reco_status reco_job_data(const reco_job *job, char hex[33]);
/* A hash of all that a training depends on. */
reco_status reco_job_key(const reco_job *job, char hex[33]);
/* Tell a fusion layer how it was trained. */
reco_status reco_train_describe(const reco_job *job, reco_fusion *fusion, const reco_verdict *v,
                                size_t steps);

/* ---- log.c ---- */

typedef struct reco_train_log reco_train_log;
/* *out NULL: none is wanted, and the functions below do nothing. resumed: the run goes on at `at`, and what it had written up to
 * there stays. */
reco_status reco_train_log_open(reco_train_log **out, const reco_job *job, const reco_state *at,
                                bool resumed);
void reco_train_log_close(reco_train_log *log);
/* Of the state's step; outcomes [nheld]. */
reco_status reco_train_log_step(reco_train_log *log, const reco_state *s, size_t run,
                                const reco_step *taken);
reco_status reco_train_log_validation(reco_train_log *log, const reco_state *s, size_t run,
                                      const reco_outcome *outcomes);
reco_status reco_train_log_end(reco_train_log *log, const reco_verdict *v, size_t best_step,
                               reco_sides sides, const reco_mixture *m);

/* ---- session.c: one layer, trained, judged, and given its readout ---- */

typedef struct reco_session {
    reco_job *job;
    char *state_path; /* owned, as log_path: NULL where the log is the job's own */
    char *log_path;
    bool keep_state; /* it stays when all is done: the session may be asked for again */
    /* what learning finds */
    reco_fusion *fusion;
    reco_layer layer;
    size_t steps, best_step, pairs;
    uint32_t *held;         /* [pairs] that it was judged on */
    reco_outcome *outcomes; /* [pairs] */
    reco_verdict verdict;
    reco_sides sides; /* the verdict's, unless others are asked for */
    double loss, seconds;
    bool resumed;
    /* what finishing finds */
    reco_readout readout;
    float concat; /* weight of CLIP where cosines are mixed */
    /* while it lasts */
    reco_state state;
    reco_crew crew;
    reco_train_log *log;
    double saved_at;
} reco_session;

/* Train the job's layer, and judge it. Then, while the job is still for that layer, choose its readout and describe it. */
reco_status reco_session_learn(reco_session *s);
reco_status reco_session_finish(reco_session *s);
/* Let go what only learning and finishing need. */
void reco_session_rest(reco_session *s);
void reco_session_clear(reco_session *s);

/* ---- compare.c ---- */

/* Train each layer in turn, and keep the one that the others are not clearly better than, finished. asked: the options. */
reco_status reco_train_compare(reco_job *job, const reco_train_opts *asked, const char *path,
                               reco_session *best, reco_train_result *result);
/* Remove what comparing leaves beside path. */
void reco_train_compared(reco_ctx *ctx, const char *path);

/* ---- grid.c ---- */

/* Set beta and gain of a layer without training to the best of a small grid; outcomes [nheld] and verdict of the result. */
reco_status reco_train_grid(const reco_job *job, reco_fusion **fusion, reco_outcome *outcomes,
                            reco_verdict *verdict);

#endif
