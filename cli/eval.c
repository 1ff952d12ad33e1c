#include "recall.h"
#include "eval.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    KEY_LABELS = 0x100,
    KEY_DETAILS,
    KEY_EXPLAIN,
    KEY_PAGE,
    KEY_EMBEDDINGS,
    KEY_CLASS_EMBEDDINGS,
    KEY_ENCODER,
    KEY_RETRIEVAL,
    KEY_GROUPS,
    KEY_PER_CLASS,
    KEY_CONTROLS,
    KEY_RESULTS,
    KEY_DATASET,
    KEY_JOINT,
    KEY_CACHE,
    KEY_NO_CACHE,
    KEY_CLASSIFIER,
};

static bool several(const eval_args *a)
{
    const zero_shot *z = &a->z;
    return z->nbanks > 1 || z->nfusions > 1 || z->nks > 1;
}

static void check_eval_args(eval_args *a, struct argp_state *state)
{
    if (!a->explain != !a->page) argp_error(state, "--explain and --page must be used together");
    if (a->embeddings && a->z.images) argp_error(state, "want one of --embeddings and --images");
    if (!a->embeddings && !a->labels == !a->z.images)
        argp_error(state, "want one of --labels and --images, or --embeddings");
    if (a->retrieval && !a->embeddings) argp_error(state, "--retrieval needs --embeddings");
    if (a->class_embeddings && !a->embeddings) argp_error(state, "--class-embeddings needs --embeddings");
    if (a->joint && (!a->embeddings || a->dataset || a->retrieval))
        argp_error(state, "--joint needs --embeddings and classes");
    if (a->dataset) cli_need(state, a->z.model_dir, "--model");
    if (a->dataset && (a->labels || a->class_embeddings || a->groups))
        argp_error(state, "--dataset has its own labels and classes, and no groups");
    if (a->cache && a->no_cache) argp_error(state, "want one of --cache and --no-cache");
    if (a->encoder && !a->embeddings) argp_error(state, "--encoder needs --embeddings");
    if (a->retrieval && (a->labels || a->z.class_file || a->class_embeddings))
        argp_error(state, "--retrieval ranks captions, and takes no classes or labels");
    if (a->groups && a->z.images) argp_error(state, "--groups needs --embeddings or --labels");
    if (several(a)) a->controls = true;
    if ((a->details || a->page || a->classifier) && (a->controls || a->retrieval))
        argp_error(state, "--details, --explain and --save-classifier need a single run among classes");
}

static error_t parse_eval_option(int key, char *arg, struct argp_state *state)
{
    eval_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->z;
        state->child_inputs[1] = state->child_inputs[2] = state->child_inputs[3] = a->common;
        state->child_inputs[4] = state->child_inputs[5] = a->common;
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
    case KEY_EMBEDDINGS:
        a->embeddings = arg;
        a->z.embedded = true;
        return 0;
    case KEY_CLASS_EMBEDDINGS:
        a->class_embeddings = arg;
        return 0;
    case KEY_ENCODER:
        a->encoder = arg;
        return 0;
    case KEY_RETRIEVAL:
        a->retrieval = true;
        return 0;
    case KEY_GROUPS:
        a->groups = arg;
        return 0;
    case KEY_PER_CLASS:
        a->per_class = true;
        return 0;
    case KEY_CONTROLS:
        a->controls = true;
        return 0;
    case KEY_DATASET:
        a->embeddings = arg;
        a->dataset = a->z.embedded = true;
        return 0;
    case KEY_CACHE:
        if (!(a->cache = strdup(arg))) argp_error(state, "out of memory");
        return 0;
    case KEY_CLASSIFIER:
        a->classifier = arg;
        return 0;
    case KEY_NO_CACHE:
        a->no_cache = true;
        return 0;
    case KEY_JOINT:
        a->joint = true;
        return 0;
    case KEY_RESULTS:
        a->results = arg;
        return 0;
    case ARGP_KEY_END:
        check_eval_args(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"labels", KEY_LABELS, "FILE", 0,
     "A table of pictures and labels, which are class names or class numbers", 1},
    {"embeddings", KEY_EMBEDDINGS, "PATH", 0,
     "Pictures that are already embedded: a folder with img_emb/ (and text_emb/, metadata/), or a .npy "
     "file",
     1},
    {"dataset", KEY_DATASET, "DIR", 0,
     "A data set in tars in CLIP_benchmark's layout, with classnames.txt, templates and dataset_type.txt",
     1},
    {"class-embeddings", KEY_CLASS_EMBEDDINGS, "PATH", 0,
     "Embeddings of the classes for --embeddings: a folder with text_emb/, or a .npy file (default: the "
     "captions in its own text_emb/)",
     1},
    {"retrieval", KEY_RETRIEVAL, NULL, 0,
     "Measure image-text retrieval (recall) among the pairs of --embeddings", 1},
    {"joint", KEY_JOINT, NULL, 0,
     "The OVEN task: add text_emb/ beside the pictures (the questions) to the pictures, and img_emb/ "
     "beside the classes (pictures of them) to the classes",
     1},
    {"encoder", KEY_ENCODER, "NAME|DIR", 0,
     "The encoder of the embeddings, as a name or a model folder, if no reco.json names it", 1},
    {"groups", KEY_GROUPS, "COLUMN", 0,
     "Report every figure for each value of this column too, and the harmonic mean over the values", 2},
    {"per-class", KEY_PER_CLASS, NULL, 0, "Report the accuracy of each class", 2},
    {"controls", KEY_CONTROLS, NULL, 0,
     "Compare with untrained fusion: vote, mean, weighted (default if several of --bank, --fusion or -k "
     "are given)",
     2},
    {"results", KEY_RESULTS, "PREFIX", 0,
     "Write PREFIXclip.json, PREFIXreco-0.json, ... in CLIP_benchmark's format", 2},
    {"cache", KEY_CACHE, "DIR", 0,
     "Folder that caches embeddings, so that inputs are embedded only once (default: .reco-cache beside "
     "the output of --details, --results or --page)",
     2},
    {"no-cache", KEY_NO_CACHE, NULL, 0, "Cache no embeddings", 2},
    {"save-classifier", KEY_CLASSIFIER, "NPY", 0,
     "Write the refined embeddings of the classes to this file, [classes][d]; without a mixture, the class "
     "with the greatest cosine to the refined picture is the answer",
     2},
    {"details", KEY_DETAILS, "FILE", 0,
     "Write the predictions and neighbours of each picture to this file, as JSONL", 2},
    {"explain", KEY_EXPLAIN, "N", 0,
     "Write a page that explains N of the pictures and the most confused classes", 2},
    {"page", KEY_PAGE, "PAGE", 0, "Output of --explain: PAGE.html, or PAGE.json for the same as data", 2},
    {0},
};
static const struct argp_child children[] = {{&zero_shot_options, 0, NULL, 0},
                                             {&cli_model_options, 0, NULL, 0},
                                             {&cli_strict_option, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {&cli_recall_options, 0, NULL, 0},
                                             {&cli_labels_options, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse_eval_option,
    NULL,
    "Measure the zero-shot accuracy of CLIP alone and with the memory, side by side.\v"
    "Example:\n  reco eval --model clip/ --bank birds.bank --fusion fusion.safetensors --classes birds.txt "
    "--labels test.csv --json",
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

/* Where nobody says it: beside the first output that is a file. */
static reco_status choose_cache(eval_args *a)
{
    const char *const outputs[] = {a->details, a->results, a->page, a->classifier};
    struct stat info;
    if (a->no_cache || a->cache) return RECO_OK;
    for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++) {
        if (!outputs[o] || (stat(outputs[o], &info) == 0 && !S_ISREG(info.st_mode))) continue;
        const char *slash = strrchr(outputs[o], '/');
        int n = slash ? (int)(slash - outputs[o]) + 1 : 0;
        if (asprintf(&a->cache, "%.*s.reco-cache", n, outputs[o]) >= 0) return RECO_OK;
        a->cache = NULL;
        return RECO_E_NOMEM;
    }
    return RECO_OK;
}

static reco_status run_eval(cli *c, eval_args *a, eval_question *q, eval_runs *r)
{
    const char *const outputs[] = {a->details, a->page, a->classifier};
    reco_status status = RECO_OK;
    for (int o = 0; o < 3 && status == RECO_OK; o++)
        if (outputs[o]) status = check_output(c, a, outputs[o]);
    if (status == RECO_OK) status = choose_cache(a);
    if (status == RECO_OK && a->dataset) status = eval_dataset(a);
    if (status == RECO_OK) status = eval_check(c, a);
    if (status == RECO_OK)
        status = a->embeddings ? eval_load_embeddings(c, a, q) : eval_load_pictures(c, a, q);
    if (status == RECO_OK) status = eval_ask(c, a, q, r);
    if (status == RECO_OK && a->results && q->n) status = eval_write_results(a, q, r);
    if (status == RECO_OK) eval_print(c, a, q, r);
    return status;
}

int cmd_eval(int argc, char **argv)
{
    cli c = {0};
    eval_args a = {.common = &c};
    eval_question q = {0};
    eval_runs r = {0};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_status status = run_eval(&c, &a, &q, &r);
    int strict = status == RECO_OK ? cli_skipped(&c, q.total - (q.retrieval ? a.z.among.n : q.n), NULL) : 0;
    if (status == RECO_OK) strict |= cli_truncated(&c, a.z.model, c.truncated, "prompt");
    if (status == RECO_OK && q.n == 0) strict = 1;
    free(a.own[0]), free(a.own[1]), free(a.cache);
    eval_runs_free(&r);
    eval_question_free(&a, &q);
    zero_shot_close(&a.z);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
