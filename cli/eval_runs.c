#include "eval_runs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const controls[] = {"vote", "mean", "weighted"};

/* What a run needs at a time. */
typedef struct bench {
    cli *c;
    const eval_args *a;
    const eval_question *q;
    reco_bank *bank;
    reco_fusion *fusion;
    reco_memory memory;
    float scale;                          /* CLIP's own */
    float *images, *candidates, *prompts; /* refined: [n][d], [c][d], and room for [m][c][d] */
    reco_votes votes;
    int64_t *ids;
} bench;

static reco_status make_method(const eval_question *q, eval_method *m)
{
    m->figures = calloc(1 + q->ngroups, sizeof *m->figures);
    m->hit[0] = calloc(q->n + 1, sizeof(float));
    m->hit[1] = calloc(q->c + 1, sizeof(float));
    m->right = calloc(q->c + 1, sizeof *m->right);
    return m->figures && m->hit[0] && m->hit[1] && m->right ? RECO_OK : RECO_E_NOMEM;
}

static void free_method(eval_method *m)
{
    free(m->figures), free(m->hit[0]), free(m->hit[1]), free(m->right);
}

/* Of the groups that have any picture. A group that scores nothing makes it nothing. */
static void take_means(const eval_question *q, eval_method *m)
{
    for (int f = 0; f < EVAL_FIGURES; f++) {
        double sum = 0;
        for (size_t g = 0; g < q->ngroups; g++) sum += 1 / m->figures[1 + g][f];
        m->mean[f] = q->ngroups ? (double)q->ngroups / sum : (double)NAN;
    }
}

/* Pictures from..to: by the greatest cosine, or by the mixture. */
static reco_status name_some(const bench *b, const float *images, const float *classes,
                             const reco_mixture *mixture, size_t from, size_t to, int64_t *top,
                             double figures[EVAL_FIGURES])
{
    const eval_question *q = b->q;
    size_t n = to - from, d = q->d, k = b->votes.k;
    reco_readout_rows rows = {q->joint + from * d, q->plain, images + from * d, classes, n, q->c, d};
    reco_votes votes = {b->votes.scores + from * k, b->votes.of + from * k, b->votes.counts + from, k};
    reco_class_scores s, mixed;
    float scale = b->scale;
    reco_mixture alone = {.clip = 0, .refined = 1, .scale = {scale, scale, scale}};
    reco_status status;
    if (mixture)
        status = reco_eval_mixture(b->c->ctx, &s, top, mixture, &rows, k ? &votes : NULL, q->labels + from);
    else
        status = reco_eval_classes(b->c->ctx, &s, top, rows.refined_images, n, classes, q->c, d,
                                   q->labels + from);
    if (status == RECO_OK && !mixture) {
        status = reco_eval_mixture(b->c->ctx, &mixed, NULL, &alone, &rows, NULL, q->labels + from);
        s.calibration = mixed.calibration;
    }
    if (status != RECO_OK) return status;
    figures[0] = s.acc1, figures[1] = s.acc5, figures[2] = s.mean_per_class, figures[3] = s.calibration;
    return RECO_OK;
}

static reco_status name_all(const bench *b, const float *images, const float *classes,
                            const reco_mixture *mixture, eval_method *m)
{
    const eval_question *q = b->q;
    int64_t *top = calloc(5 * q->n + 1, sizeof *top);
    reco_status status = top ? RECO_OK : RECO_E_NOMEM;
    for (size_t g = 0; g < q->ngroups && status == RECO_OK; g++)
        status = name_some(b, images, classes, mixture, q->start[0][g], q->start[0][g + 1], top,
                           m->figures[1 + g]);
    if (status == RECO_OK) status = name_some(b, images, classes, mixture, 0, q->n, top, m->figures[0]);
    for (size_t i = 0; i < q->n && status == RECO_OK; i++) {
        bool right = top[5 * i] == (int64_t)q->labels[i];
        m->hit[0][i] = right;
        m->right[q->labels[i]] += right;
    }
    free(top);
    return status;
}

static double recall(const uint32_t *ranks, size_t from, size_t to, uint32_t depth)
{
    size_t n = 0, found = 0;
    for (size_t i = from; i < to; i++) {
        n += ranks[i] != RECO_NO_RANK;
        found += ranks[i] < depth;
    }
    return n ? (double)found / (double)n : (double)NAN;
}

static reco_status find_all(const bench *b, const float *images, const float *captions,
                            const reco_mixture *mixture, eval_method *m)
{
    static const uint32_t depths[] = RECO_RECALL_DEPTHS;
    const eval_question *q = b->q;
    const size_t many[2] = {q->n, q->c};
    uint32_t *ranks[2] = {calloc(q->n + 1, sizeof(uint32_t)), calloc(q->c + 1, sizeof(uint32_t))};
    reco_retrieval_scores s;
    reco_retrieval_rows rows = {images, captions, q->joint, q->plain, q->of, q->n, q->c, q->d};
    reco_status status = ranks[0] && ranks[1] ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_eval_retrieval(b->c->ctx, &s, ranks, &rows, mixture, b->votes.k ? &b->votes : NULL);
    for (int side = 0; side < 2 && status == RECO_OK; side++) {
        for (size_t i = 0; i < many[side]; i++) m->hit[side][i] = ranks[side][i] == 0;
        for (int f = 0; f < RECO_RECALLS; f++) {
            m->figures[0][3 * side + f] = recall(ranks[side], 0, many[side], depths[f]);
            for (size_t g = 0; g < q->ngroups; g++)
                m->figures[1 + g][3 * side + f] =
                    recall(ranks[side], q->start[side][g], q->start[side][g + 1], depths[f]);
        }
    }
    free(ranks[0]), free(ranks[1]);
    return status;
}

static reco_status judge(const bench *b, const float *images, const float *candidates,
                         const reco_mixture *mixture, eval_method *m)
{
    reco_status status = make_method(b->q, m);
    if (status == RECO_OK)
        status = b->q->retrieval ? find_all(b, images, candidates, mixture, m)
                                 : name_all(b, images, candidates, mixture, m);
    if (status == RECO_OK) take_means(b->q, m);
    return status;
}

static void unit(float *x, size_t n, size_t d)
{
    for (size_t j = 0; j < n; j++) {
        double norm = 0;
        float *row = x + j * d;
        for (size_t i = 0; i < d; i++) norm += (double)row[i] * (double)row[i];
        for (size_t i = 0; i < d && norm > 0; i++) row[i] = (float)((double)row[i] / sqrt(norm));
    }
}

void eval_average(const eval_question *q, const float *prompts, float *out)
{
    memset(out, 0, q->c * q->d * sizeof *out);
    for (size_t i = 0; i < q->m * q->c * q->d; i++) out[i % (q->c * q->d)] += prompts[i];
    unit(out, q->c, q->d);
}

void eval_join(float *x, const float *y, size_t n, size_t d)
{
    if (!y) return;
    for (size_t i = 0; i < n * d; i++) x[i] += y[i];
    unit(x, n, d);
}

/* Neighbours of the pictures that have a say, and whose captions they are. */
static reco_status hear(bench *b)
{
    const eval_question *q = b->q;
    reco_settings s;
    reco_memory_settle(&b->memory, RECO_IMAGE, RECO_TEXT, &s);
    size_t k = s.voters, n = q->n;
    if (k == 0) return RECO_OK;
    float *scores = calloc(n * k + 1, sizeof *scores);
    uint32_t *of = calloc(n * k + 1, sizeof *of);
    size_t *counts = calloc(n + 1, sizeof *counts);
    b->ids = calloc(n * k + 1, sizeof *b->ids);
    b->votes = (reco_votes){scores, of, counts, k};
    if (!scores || !of || !counts || !b->ids) return RECO_E_NOMEM;
    reco_status status =
        reco_refine(b->c->ctx, &b->memory, &(reco_question){.side = RECO_IMAGE, .x = q->images, .n = n},
                    &(reco_refined){.reach = k, .hits = {b->ids, scores, counts}});
    if (status != RECO_OK) return status;
    reco_candidates candidates = {(const char *const *)q->names, q->prompts, q->c, q->m, q->d};
    return reco_candidate_votes(b->c->ctx, b->bank, &candidates, b->ids, n * k, of);
}

static void hush(bench *b)
{
    free((void *)b->votes.scores), free((void *)b->votes.of), free((void *)b->votes.counts), free(b->ids);
    b->votes = (reco_votes){0};
    b->ids = NULL;
}

/* Rows of one side, refined where that side is. */
static reco_status refine_rows(bench *b, reco_side side, const float *x, size_t n, float *out)
{
    return reco_refine(b->c->ctx, &b->memory, &(reco_question){.side = side, .x = x, .n = n},
                       &(reco_refined){.rows = out});
}

/* What is added to rows of the other side, likewise. */
static reco_status join(bench *b, reco_side side, const float *x, size_t n, float *to)
{
    if (!x) return RECO_OK;
    float *rows = calloc(n * b->q->d + 1, sizeof *rows);
    reco_status status = rows ? refine_rows(b, side, x, n, rows) : RECO_E_NOMEM;
    if (status == RECO_OK) eval_join(to, rows, n, b->q->d);
    free(rows);
    return status;
}

static reco_status refine(bench *b)
{
    const eval_question *q = b->q;
    float *prompts = q->m > 1 ? b->prompts : b->candidates;
    reco_status status = refine_rows(b, RECO_IMAGE, q->images, q->n, b->images);
    if (status == RECO_OK) status = refine_rows(b, RECO_TEXT, q->prompts, q->m * q->c, prompts);
    if (status == RECO_OK && q->m > 1) eval_average(q, prompts, b->candidates);
    if (status == RECO_OK) status = join(b, RECO_TEXT, q->asked, q->n, b->images);
    if (status == RECO_OK) status = join(b, RECO_IMAGE, q->shown, q->c, b->candidates);
    return status;
}

static reco_status open_run(bench *b, const reco_model *model, eval_run *run)
{
    const eval_args *a = b->a;
    cli *c = b->c;
    reco_status status = cli_open_memory(c, model, &b->bank, run->bank, &b->fusion, run->fusion, run->k);
    if (status != RECO_OK) return status;
    if (reco_bank_get_info(b->bank).d != b->q->d) {
        cli_error("%s: embeddings of %zu, the bank holds vectors of %zu",
                  a->embeddings ? a->embeddings : run->bank, b->q->d, reco_bank_get_info(b->bank).d);
        return RECO_E_MISMATCH;
    }
    cli_readout off = {.how = "off"}, readout = run->control ? off : a->z.readout;
    reco_settings settings;
    b->memory = (reco_memory)RECO_MEMORY_INIT;
    b->memory.bank = b->bank;
    b->memory.fusion = b->fusion;
    b->memory.k = run->k;
    b->memory.sides = a->z.memory.sides;
    cli_set_mixture(&readout, &b->memory, b->scale);
    reco_memory_settle(&b->memory, RECO_IMAGE, RECO_TEXT, &settings);
    run->layer = reco_fusion_get_config(b->fusion).layer;
    run->own = b->memory.sides == RECO_SIDES_DEFAULT;
    run->sides = settings.sides;
    run->k = settings.k;
    run->mixture = settings.mixture;
    b->memory.mixture = &run->mixture;
    return RECO_OK;
}

static reco_status compare(bench *b, const eval_runs *r, eval_run *run)
{
    const eval_question *q = b->q;
    const size_t many[2] = {q->n, q->c};
    reco_status status = RECO_OK;
    for (int side = 0; side < (q->retrieval ? 2 : 1) && status == RECO_OK; side++)
        status = reco_eval_interval(b->c->ctx, &run->off[side], run->reco.hit[side], r->clip.hit[side],
                                    many[side], 0);
    return status;
}

static reco_status ask(bench *b, const reco_model *model, eval_runs *r, eval_run *run)
{
    reco_bank_filter *filter = NULL;
    reco_status status = open_run(b, model, run);
    if (status == RECO_OK && b->a->z.where)
        status = reco_bank_filter_where(b->c->ctx, &filter, b->bank, b->a->z.where);
    b->memory.filter = filter;
    if (status == RECO_OK) status = refine(b);
    if (status == RECO_OK) status = judge(b, b->images, b->candidates, NULL, &run->cosines);
    if (status == RECO_OK) status = hear(b);
    if (status == RECO_OK)
        status = judge(b, b->images, b->candidates, run->mixture.scale[0] > 0 ? &run->mixture : NULL,
                       &run->reco);
    if (status == RECO_OK) status = compare(b, r, run);
    hush(b);
    reco_bank_filter_free(filter);
    reco_fusion_free(b->fusion);
    reco_bank_close(b->bank);
    b->bank = NULL;
    b->fusion = NULL;
    return status;
}

static reco_status list_runs(const eval_args *a, eval_runs *r)
{
    const zero_shot *z = &a->z;
    size_t nk = z->nks ? z->nks : 1, ncontrols = a->controls ? 3 : 0, nfusions = z->nfusions + ncontrols;
    if (!(r->runs = calloc(z->nbanks * nfusions * nk, sizeof *r->runs))) return RECO_E_NOMEM;
    for (size_t b = 0; b < z->nbanks; b++)
        for (size_t f = 0; f < nfusions; f++)
            for (size_t k = 0; k < nk; k++) {
                bool control = f >= z->nfusions;
                r->runs[r->n++] = (eval_run){.bank = z->banks[b],
                                             .fusion = control ? controls[f - z->nfusions] : z->fusions[f],
                                             .k = z->nks ? z->ks[k] : 0,
                                             .control = control};
            }
    return RECO_OK;
}

static reco_status check_templates(cli *c, const zero_shot *z)
{
    char **lines = NULL;
    size_t n = 0;
    reco_status status = RECO_OK;
    if (z->template_file) status = reco_read_lines(c->ctx, z->template_file, &lines, &n);
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (!strstr(lines[i], "{}") && !strstr(lines[i], "{c}")) {
            cli_error("%s: template \"%s\" has no {} for the class name", z->template_file, lines[i]);
            status = RECO_E_ARG;
        }
    reco_lines_free(lines, n);
    return status;
}

reco_status eval_runs_check(cli *c, const eval_args *a)
{
    const zero_shot *z = &a->z;
    const char *const read[] = {a->embeddings, a->class_embeddings};
    reco_status status = RECO_OK;
    for (size_t i = 0; i < z->nbanks * z->nfusions && status == RECO_OK; i++) {
        reco_bank *bank = NULL;
        reco_fusion *fusion = NULL;
        status = cli_open_memory(c, NULL, &bank, z->banks[i / z->nfusions], &fusion,
                                 z->fusions[i % z->nfusions], 0);
        for (int e = 0; e < 2 && status == RECO_OK; e++)
            if (read[e] && !(e == 0 && a->dataset))
                status = reco_check_embeddings(c->ctx, read[e], a->encoder, bank, fusion);
        reco_fusion_free(fusion);
        reco_bank_close(bank);
    }
    if (status == RECO_OK) status = check_templates(c, z);
    if (status != RECO_OK || !a->results) return status;
    char *path;
    const char *const inputs[] = {a->embeddings, a->class_embeddings, z->class_file, z->images, a->labels};
    if (asprintf(&path, "%sclip.json", a->results) < 0) return RECO_E_NOMEM;
    status = cli_output(c, path, RECO_OUT_FILE, z->model_dir, inputs, sizeof inputs / sizeof *inputs);
    free(path);
    return status;
}

/* Where the embeddings do not say it, the memory may. */
static reco_status find_scale(bench *b)
{
    reco_bank *bank = NULL;
    if (b->scale > 0) return RECO_OK;
    reco_status status = reco_bank_open(b->c->ctx, &bank, b->a->z.banks[0]);
    if (status == RECO_OK) b->scale = reco_bank_get_info(bank).logit_scale;
    if (!(b->scale > 0)) b->scale = CLI_CLIP_SCALE;
    reco_bank_close(bank);
    return status;
}

reco_status eval_runs_ask(cli *c, const eval_args *a, const eval_question *q, const reco_model *model,
                          eval_runs *r)
{
    bench b = {.c = c, .a = a, .q = q, .scale = q->scale};
    b.images = calloc(q->n * q->d + 1, sizeof(float));
    b.candidates = calloc(q->c * q->d + 1, sizeof(float));
    b.prompts = q->m > 1 ? calloc(q->m * q->c * q->d + 1, sizeof(float)) : NULL;
    reco_status status =
        b.images && b.candidates && (b.prompts || q->m < 2) ? list_runs(a, r) : RECO_E_NOMEM;
    if (status == RECO_OK) status = find_scale(&b);
    if (status == RECO_OK) status = judge(&b, q->joint, q->plain, NULL, &r->clip);
    for (size_t i = 0; i < r->n && status == RECO_OK; i++) status = ask(&b, model, r, &r->runs[i]);
    free(b.images), free(b.candidates), free(b.prompts);
    return status;
}

void eval_runs_free(eval_runs *r)
{
    free_method(&r->clip);
    for (size_t i = 0; i < r->n; i++) {
        free_method(&r->runs[i].cosines);
        free_method(&r->runs[i].reco);
    }
    free(r->runs);
}
