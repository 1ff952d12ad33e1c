#include "eval.h"

#include <sys/stat.h>

enum { KEY_LABELS = 1, KEY_DETAILS, KEY_EXPLAIN, KEY_PAGE };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    eval_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->z;
        state->child_inputs[1] = state->child_inputs[2] = state->child_inputs[3] = a->common;
        state->child_inputs[4] = a->common;
        return 0;
    case KEY_LABELS:
        a->labels = arg;
        return 0;
    case KEY_DETAILS:
        a->details = arg;
        return 0;
    case KEY_EXPLAIN:
        a->explain = cli_size(state, "--explain", arg, 1, 10000);
        return 0;
    case KEY_PAGE:
        a->page = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->explain != !a->page) argp_error(state, "--explain and --page go together");
        if (!a->labels == !a->z.images) argp_error(state, "want one of --labels and --images");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"labels", KEY_LABELS, "FILE", 0, "A table of images and labels: names of classes, or their numbers",
     1},
    {"details", KEY_DETAILS, "FILE", 0, "Write each picture's predictions and neighbours here, as JSONL",
     2},
    {"explain", KEY_EXPLAIN, "N", 0, "Explain N of the pictures, and the classes confused most, on a page",
     2},
    {"page", KEY_PAGE, "PAGE", 0, "Where --explain goes: PAGE.html, or PAGE.json for the same as data", 2},
    {0},
};
static const struct argp_child children[] = {
    {&zero_shot_options, 0, NULL, 0}, {&cli_model_options, 0, NULL, 0},  {&cli_strict_option, 0, NULL, 0},
    {&cli_common, 0, NULL, 0},        {&cli_labels_options, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    NULL,
    "Zero-shot accuracy of CLIP alone and with the memory, side by side.\v"
    "Example:\n  reco eval --model clip/ --bank birds.bank --fusion fusion.safetensors "
    "--classes birds.txt --labels test.csv --json",
    children,
    NULL,
    NULL};

/* Can it be written, and is it none of the inputs? /dev/stdout and the like are taken as they are. */
static reco_status check_output(cli *c, const eval_args *a, const char *out)
{
    struct stat info;
    const zero_shot *z = &a->z;
    const char *const inputs[] = {z->bank_dir, z->fusion_name,   z->class_file,
                                  z->images,   z->template_file, a->labels};
    bool device = stat(out, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
    return cli_output(c, out, device ? RECO_OUT_FILE | RECO_OUT_NO_PROBE : RECO_OUT_FILE, z->model_dir,
                      inputs, sizeof inputs / sizeof *inputs);
}

/* CLIP, the refined cosines, or the mixture. Cosines decide by themselves; their probabilities are at the model's own scale. */
static reco_status judge(cli *c, eval_work *w, int which, reco_class_scores *scores)
{
    const zero_shot *z = w->z;
    float scale = reco_model_get_info(z->model).logit_scale;
    reco_mixture mixture = {which == 0, which == 1, {scale, scale, scale}, 0};
    reco_readout_rows rows = {w->rows, z->plain, w->improved, z->refined, w->n, z->nclasses, z->d};
    reco_votes votes = {z->scores, z->of, z->heard, z->reach};
    reco_class_scores mixed;
    if (which == 2)
        return reco_eval_mixture(c->ctx, scores, w->top[2], &z->mixture, &rows,
                                 zero_shot_votes(z) ? &votes : NULL, w->labels);
    reco_status status =
        reco_eval_classes(c->ctx, scores, w->top[which], which ? w->improved : w->rows, w->n,
                          which ? z->refined : z->plain, z->nclasses, z->d, w->labels);
    if (status == RECO_OK)
        status = reco_eval_mixture(c->ctx, &mixed, NULL, &mixture, &rows, NULL, w->labels);
    if (status == RECO_OK) scores->calibration = mixed.calibration;
    return status;
}

static reco_status run(cli *c, eval_args *a, eval_work *w)
{
    zero_shot *z = w->z;
    reco_class_scores scores[3];
    const char *const outputs[] = {a->details, a->page};
    reco_status status = RECO_OK;
    for (int o = 0; o < 2 && status == RECO_OK; o++)
        if (outputs[o]) status = check_output(c, a, outputs[o]);
    if (status == RECO_OK) status = eval_load(c, a, w);
    for (int o = 0; o < 2 && status == RECO_OK; o++)
        if (outputs[o]) /* the pictures are inputs, too */
            status = reco_check_output(c->ctx, outputs[o], RECO_OUT_FILE | RECO_OUT_NO_PROBE,
                                       (const char *const *)w->paths, w->n);
    if (status == RECO_OK) status = zero_shot_embed(c, z, w->n);
    if (status == RECO_OK) status = eval_embed(c, w);
    if (status == RECO_OK) status = zero_shot_refine(c, z, w->rows, 0, w->n, w->improved);
    if (status == RECO_OK) status = zero_shot_vote(c, z, w->n);
    if (status != RECO_OK) return status;
    for (int r = 0; r <= eval_answer(w) && status == RECO_OK; r++) status = judge(c, w, r, &scores[r]);
    if (status == RECO_OK && a->details && w->n) status = eval_write_details(c, a, w);
    if (status == RECO_OK && a->page && w->n) status = eval_explain(c, a, w, scores);
    if (status != RECO_OK) return status;
    cli_clear_bar(c);
    eval_print(c, a, w, scores);
    return RECO_OK;
}

int cmd_eval(int argc, char **argv)
{
    cli c = {0};
    eval_args a = {.common = &c, .how = "names"};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    eval_work w = {.z = &a.z};
    reco_status status = run(&c, &a, &w);
    int strict = status == RECO_OK ? cli_skipped(&c, w.total - w.n, NULL) : 0;
    if (status == RECO_OK) strict |= cli_truncated(&c, a.z.model, c.truncated, "prompt");
    if (status == RECO_OK && w.n == 0) strict = 1;
    eval_free(&w);
    zero_shot_close(&a.z);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
