/* The evaluation with every combination of bank, layer and number of neighbours. */
#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const controls[] = {"vote", "mean", "weighted"};

static reco_status make_method(const eval_args *a, const eval_question *q, eval_method *m)
{
    m->figures = calloc(1 + q->ngroups, sizeof *m->figures);
    m->hit[0] = calloc(q->n + 1, sizeof(float));
    m->hit[1] = calloc(a->z.among.n + 1, sizeof(float));
    m->top = calloc(EVAL_TOP * q->n + 1, sizeof *m->top);
    return m->figures && m->hit[0] && m->hit[1] && m->top ? RECO_OK : RECO_E_NOMEM;
}

static void free_method(eval_method *m)
{
    free(m->figures), free(m->hit[0]), free(m->hit[1]), free(m->top);
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

/* ---- classes ---- */

/* Judged once; of each group its own pictures are counted. */
static reco_status name_all(cli *c, const eval_args *a, const eval_question *q, const reco_mixture *by,
                            eval_method *m)
{
    float *sure = calloc(EVAL_TOP * q->n + 1, sizeof *sure);
    size_t *which = calloc(q->n + 1, sizeof *which);
    reco_status status = sure && which ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_classifier_rank(c->ctx, a->z.classifier, &a->z.found, by,
                                      &(reco_ranking){.top = EVAL_TOP, .of = m->top, .p = sure});
    for (size_t g = 0; g <= q->ngroups && status == RECO_OK; g++) {
        size_t n = 0;
        reco_class_scores s;
        for (size_t i = 0; i < q->n; i++)
            if (g == 0 || q->group[i] == g - 1) which[n++] = i;
        status = reco_eval_count(c->ctx, &s, m->top, sure, q->labels, which, n, a->z.among.n);
        const double figures[] = {s.acc1, s.acc5, s.mean_per_class, s.calibration};
        memcpy(m->figures[g], figures, sizeof figures);
    }
    for (size_t i = 0; i < q->n; i++) m->hit[0][i] = m->top[EVAL_TOP * i] == (int64_t)q->labels[i];
    free(sure), free(which);
    return status;
}

/* ---- captions ---- */

static const uint32_t depths[] = RECO_RECALL_DEPTHS;

/* Of those of group g (-1: all) that have a right answer, how many find it. */
static double recall(const eval_question *q, const uint32_t *ranks, const uint32_t *of, size_t many,
                     size_t g, uint32_t depth)
{
    size_t n = 0, found = 0;
    for (size_t i = 0; i < many; i++) {
        if (g && q->group[of ? of[i] : i] != g - 1) continue;
        n += ranks[i] != RECO_NO_RANK;
        found += ranks[i] < depth;
    }
    return n ? (double)found / (double)n : (double)NAN;
}

static reco_status find_all(cli *c, const eval_args *a, const eval_question *q, const reco_mixture *by,
                            eval_method *m)
{
    const zero_shot *z = &a->z;
    const reco_findings *f = &z->found;
    const size_t many[2] = {q->n, z->among.n};
    const float *plain = reco_classifier_plain(z->classifier),
                *refined = reco_classifier_refined(z->classifier);
    bool clip = by && by->clip == 1;
    const reco_mixture *mixture = by || !zero_shot_mixes(z) ? NULL : &z->s.mixture;
    reco_votes votes = {.scores = f->scores, .of = f->of, .counts = f->voters, .k = f->reach};
    uint32_t *ranks[2] = {calloc(many[0] + 1, sizeof(uint32_t)), calloc(many[1] + 1, sizeof(uint32_t))};
    reco_retrieval_scores s;
    reco_retrieval_rows rows = {.images = clip ? f->plain : f->refined,
                                .captions = clip ? plain : refined,
                                .plain_images = f->plain,
                                .plain_captions = plain,
                                .of = q->of,
                                .nimages = q->n,
                                .ncaptions = z->among.n,
                                .d = z->among.d};
    reco_status status = ranks[0] && ranks[1] ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_eval_retrieval(c->ctx, &s, ranks, &rows, mixture, z->s.voters ? &votes : NULL);
    for (int side = 0; side < 2 && status == RECO_OK; side++) {
        for (size_t i = 0; i < many[side]; i++) m->hit[side][i] = ranks[side][i] == 0;
        for (int d = 0; d < RECO_RECALLS; d++)
            for (size_t g = 0; g <= q->ngroups; g++)
                m->figures[g][3 * side + d] =
                    recall(q, ranks[side], side ? q->of : NULL, many[side], g, depths[d]);
    }
    free(ranks[0]), free(ranks[1]);
    return status;
}

/* ---- runs ---- */

static reco_status judge_method(cli *c, const eval_args *a, const eval_question *q, const reco_mixture *by,
                                eval_method *m)
{
    reco_status status = make_method(a, q, m);
    if (status == RECO_OK) status = q->retrieval ? find_all(c, a, q, by, m) : name_all(c, a, q, by, m);
    if (status == RECO_OK) take_means(q, m);
    return status;
}

static reco_status compare_with_clip(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r,
                                     eval_run *run)
{
    const size_t many[2] = {q->n, a->z.among.n};
    reco_status status = RECO_OK;
    for (int side = 0; side < (q->retrieval ? 2 : 1) && status == RECO_OK; side++)
        status = reco_eval_interval(c->ctx, &run->off[side], run->reco.hit[side], r->clip.hit[side],
                                    many[side], 0);
    return status;
}

static reco_status open_run_memory(cli *c, eval_args *a, eval_run *run)
{
    zero_shot *z = &a->z;
    cli_readout off = {.how = "off"};
    reco_status status =
        zero_shot_remember(c, z, run->bank, run->fusion, run->k, run->control ? &off : &z->readout);
    if (status != RECO_OK) return status;
    run->layer = reco_fusion_get_config(z->fusion)->layer;
    run->sides = z->s.sides;
    run->k = z->s.k;
    run->mixture = z->s.mixture;
    return RECO_OK;
}

/* Predictions are kept of CLIP and of the run that is told of. */
static void forget_top(eval_method *m)
{
    free(m->top);
    m->top = NULL;
}

static reco_status ask_run(cli *c, eval_args *a, const eval_question *q, eval_runs *r, eval_run *run)
{
    bool first = run == r->runs;
    reco_status status = open_run_memory(c, a, run);
    if (status == RECO_OK) status = zero_shot_ask(c, &a->z, q->images, q->asked, q->n);
    if (status == RECO_OK && first) {
        status = judge_method(c, a, q, &zero_shot_clip, &r->clip);
        if (!(r->refined = strdup(zero_shot_refined(&a->z)))) status = RECO_E_NOMEM;
    }
    if (status == RECO_OK) status = judge_method(c, a, q, &zero_shot_cosines, &run->cosines);
    if (status == RECO_OK) status = judge_method(c, a, q, NULL, &run->reco);
    if (status == RECO_OK) status = compare_with_clip(c, a, q, r, run);
    if (status == RECO_OK && first && a->details && q->n)
        status = eval_write_details(c, a, q, &r->clip, &run->reco);
    if (status == RECO_OK && first && a->classifier && q->n)
        status = reco_classifier_save(c->ctx, a->z.classifier, a->classifier);
    if (status == RECO_OK && first && a->page && q->n) status = eval_explain(c, a, q, &r->clip, run);
    forget_top(&run->cosines);
    forget_top(&run->reco);
    zero_shot_forget(&a->z);
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

reco_status eval_check(cli *c, const eval_args *a)
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

/* All memories are as wide as the question. */
static reco_status check_width(cli *c, const eval_args *a)
{
    for (size_t b = 0; b < a->z.nbanks; b++) {
        reco_bank *bank = NULL;
        reco_status status = reco_bank_open(c->ctx, &bank, a->z.banks[b]);
        if (status != RECO_OK) return status;
        size_t d = reco_bank_get_info(bank)->d;
        reco_bank_close(bank);
        if (d == a->z.among.d) continue;
        cli_error("%s: embeddings of width %zu, the bank has vectors of width %zu",
                  a->embeddings ? a->embeddings : a->z.banks[b], a->z.among.d, d);
        return RECO_E_MISMATCH;
    }
    return RECO_OK;
}

/* Each prompt is embedded once, however many runs there are. */
static reco_status embed_prompts(cli *c, eval_args *a, eval_question *q)
{
    reco_candidates *among = &a->z.among;
    uint64_t truncated = 0;
    if (among->rows) return RECO_OK;
    q->prompts = calloc((among->m ? among->m : 1) * among->n * among->d + 1, sizeof(float));
    reco_status status = q->prompts
                             ? reco_embed_prompts_cached(c->ctx, among, a->cache, q->prompts, &truncated)
                             : RECO_E_NOMEM;
    c->truncated += truncated;
    among->rows = q->prompts;
    return status;
}

reco_status eval_ask(cli *c, eval_args *a, eval_question *q, eval_runs *r)
{
    reco_status status = check_width(c, a);
    if (status == RECO_OK) status = list_runs(a, r);
    if (status == RECO_OK && (r->n > 1 || a->cache)) status = embed_prompts(c, a, q);
    for (size_t i = 0; i < r->n && status == RECO_OK; i++) status = ask_run(c, a, q, r, &r->runs[i]);
    return status;
}

void eval_runs_free(eval_runs *r)
{
    free_method(&r->clip);
    for (size_t i = 0; i < r->n; i++) {
        free_method(&r->runs[i].cosines);
        free_method(&r->runs[i].reco);
    }
    free(r->runs), free(r->refined);
}
