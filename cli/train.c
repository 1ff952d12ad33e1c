#include "recall.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_MODEL = 0x100,
    KEY_BANK,
    KEY_PAIRS,
    KEY_EMBEDDINGS,
    KEY_OUT,
    KEY_LAYER,
    KEY_BATCH,
    KEY_STEPS,
    KEY_LR,
    KEY_DECAY,
    KEY_DROPOUT,
    KEY_MAX,
    KEY_MIN,
    KEY_NO_SCORES,
    KEY_ROTATE,
    KEY_SEED,
    KEY_REFINE,
    KEY_FRESH,
    KEY_CACHE,
    KEY_HEADS,
    KEY_VALIDATION,
    KEY_ENCODER,
    KEY_SEARCH,
    KEY_FUSE,
    KEY_WARMUP,
    KEY_CLIP,
    KEY_LAYERS,
    KEY_MLP,
    KEY_HIDDEN,
    KEY_SCALE,
    KEY_VAL_PAIRS,
    KEY_VAL_EMBEDDINGS,
    KEY_LOG,
    KEY_NEIGHBOURS,
};

typedef struct args {
    cli *common;
    const char *model, *bank, *pairs, *embeddings, *out, *cache, *encoder, *val_pairs, *val_embeddings;
    reco_train_opts train;
} args;

static reco_layer layer(struct argp_state *state, const char *arg)
{
    static const struct {
        const char *name;
        reco_layer layer;
    } names[] = {{"auto", RECO_LAYER_AUTO},
                 {"relational", RECO_LAYER_RELATIONAL},
                 {"transformer", RECO_LAYER_TRANSFORMER},
                 {"weighted", RECO_LAYER_WEIGHTED},
                 {"mlp", RECO_LAYER_MLP}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(arg, names[i].name) == 0) return names[i].layer;
    argp_error(state, "--layer = %s, want relational, transformer, weighted, mlp or auto", arg);
    return RECO_LAYER_DEFAULT;
}

static reco_modality modality(struct argp_state *state, const char *option, const char *arg)
{
    if (strcmp(arg, "uni") == 0) return RECO_UNI;
    if (strcmp(arg, "cross") == 0) return RECO_CROSS;
    argp_error(state, "%s = %s, want uni or cross", option, arg);
    return RECO_MODALITY_DEFAULT;
}

static void check_train_args(const args *a, struct argp_state *state)
{
    cli_need(state, a->bank, "--bank");
    cli_need(state, a->out, "--out");
    if (a->pairs && a->embeddings) argp_error(state, "want one of --pairs and --embeddings, or none");
    if (a->val_pairs && a->val_embeddings)
        argp_error(state, "want one of --val-pairs and --val-embeddings, or none");
    if (a->pairs || a->val_pairs) cli_need(state, a->model, "--model");
    if (a->encoder && !a->embeddings) argp_error(state, "--encoder needs --embeddings");
}

static error_t parse_train_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    reco_train_opts *t = &a->train;
    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 4; i++) state->child_inputs[i] = a->common;
        break;
    case KEY_MODEL:
        a->model = arg;
        break;
    case KEY_BANK:
        a->bank = arg;
        break;
    case KEY_PAIRS:
        a->pairs = arg;
        break;
    case KEY_EMBEDDINGS:
        a->embeddings = arg;
        break;
    case KEY_ENCODER:
        a->encoder = arg;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_CACHE:
        a->cache = arg;
        break;
    case KEY_LAYER:
        t->layer = layer(state, arg);
        break;
    case KEY_SEARCH:
        t->search = modality(state, "--search", arg);
        break;
    case KEY_FUSE:
        t->fuse = modality(state, "--fuse", arg);
        break;
    case 'k':
        t->k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        break;
    case KEY_BATCH:
        t->batch = cli_size(state, "--batch", arg, 2, 65536);
        break;
    case KEY_STEPS:
        t->steps = cli_size(state, "--steps", arg, 1, 100000000);
        break;
    case KEY_LR:
        t->lr = cli_number(state, "--lr", arg, 1e-9, 10);
        break;
    case KEY_DECAY:
        t->weight_decay = cli_number(state, "--weight-decay", arg, 0, 10);
        break;
    case KEY_DROPOUT:
        t->neighbour_dropout = cli_number(state, "--neighbour-dropout", arg, 0, 1);
        break;
    case KEY_WARMUP:
        t->warmup = cli_number(state, "--warmup", arg, 0, 1);
        break;
    case KEY_CLIP:
        t->clip = cli_number(state, "--clip", arg, 0, 1e9);
        break;
    case KEY_LAYERS:
        t->layers = (int)cli_size(state, "--layers", arg, 1, 64);
        break;
    case KEY_MLP:
        t->mlp = cli_size(state, "--mlp", arg, 1, RECO_FUSION_MAX_MLP);
        break;
    case KEY_HIDDEN:
        t->hidden = cli_size(state, "--hidden", arg, 1, RECO_FUSION_MAX_HIDDEN);
        break;
    case KEY_SCALE:
        t->scale = (float)cli_number(state, "--scale", arg, 0.01, 1e6);
        break;
    case KEY_VAL_PAIRS:
        a->val_pairs = arg;
        break;
    case KEY_VAL_EMBEDDINGS:
        a->val_embeddings = arg;
        break;
    case KEY_NEIGHBOURS:
        t->neighbours = arg;
        break;
    case KEY_LOG:
        t->log = arg;
        break;
    case KEY_MAX:
        t->max_similarity = (float)cli_number(state, "--max-similarity", arg, 0.01, 10);
        break;
    case KEY_MIN:
        t->min_similarity = (float)cli_number(state, "--min-similarity", arg, -1, 1);
        break;
    case KEY_NO_SCORES:
        t->no_scores = 1;
        break;
    case KEY_ROTATE:
        t->rotate = 1;
        break;
    case KEY_SEED:
        t->seed = cli_size(state, "--seed", arg, 0, SIZE_MAX);
        break;
    case KEY_HEADS:
        t->heads = (int)cli_size(state, "--heads", arg, 1, 1024);
        break;
    case KEY_VALIDATION:
        t->validation = cli_number(state, "--validation", arg, RECO_VALIDATION_MIN, RECO_VALIDATION_MAX);
        break;
    case KEY_REFINE:
        t->sides = cli_sides(state, arg);
        break;
    case KEY_FRESH:
        t->fresh = 1;
        break;
    case ARGP_KEY_END:
        check_train_args(a, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option options[] = {
    {"bank", KEY_BANK, "BANK", 0, "The bank", 1},
    {"out", KEY_OUT, "FILE", 0, "The checkpoint to write, such as fusion.safetensors", 1},
    {"model", KEY_MODEL, "DIR", 0, "Model folder (with --pairs; otherwise only checked against the bank)",
     1},
    {"pairs", KEY_PAIRS, "FILE", 0, "Train on these pictures and captions, in a file as for bank build", 1},
    {"embeddings", KEY_EMBEDDINGS, "DIR", 0,
     "Train on these embeddings (img_emb/ and text_emb/, or a bank). Default without --pairs and "
     "--embeddings: the rows of the bank, none of which retrieves itself",
     1},
    {"val-pairs", KEY_VAL_PAIRS, "FILE", 0,
     "Validate on these pairs, read as --pairs and not trained on, instead of held-out captions", 1},
    {"val-embeddings", KEY_VAL_EMBEDDINGS, "DIR", 0, "Validate on these embeddings, read as --embeddings",
     1},
    {"encoder", KEY_ENCODER, "NAME|DIR", 0,
     "The encoder of the embeddings, as a name or a model folder, if no reco.json names it (with "
     "--embeddings)",
     1},
    {"layer", KEY_LAYER, "NAME", 0,
     "relational, transformer, weighted, mlp (no retrieval), or auto: the first three are trained and "
     "compared (default: relational, transformer from 100,000 pairs on)",
     2},
    {"k", 'k', "K", 0, "Number of neighbours (default: 10)", 2},
    {"search", KEY_SEARCH, "uni|cross", 0,
     "Search the vectors of the query's own side (uni) or of the other side (cross) (default: uni)", 2},
    {"fuse", KEY_FUSE, "uni|cross", 0,
     "Fuse the vectors of the query's own side (uni) or of the other side (cross) (default: cross)", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "Sides that the layer refines by default (default: auto, the best in validation)", 2},
    {"max-similarity", KEY_MAX, "S", 0,
     "Treat a neighbour as the pair itself, and drop it, if the cosine of their pictures exceeds S "
     "(default: 0.999)",
     2},
    {"min-similarity", KEY_MIN, "S", 0, "Ignore neighbours with a smaller cosine", 2},
    {"neighbour-dropout", KEY_DROPOUT, "P", 0,
     "Probability of training a pair with fewer neighbours than it has", 2},
    {"batch", KEY_BATCH, "B", 0, "Pairs per step (default: relational 256, transformer 512)", 3},
    {"steps", KEY_STEPS, "N", 0, "Number of steps (default: relational 300)", 3},
    {"lr", KEY_LR, "RATE", 0, "Peak learning rate (default: relational 1e-2, transformer 1e-3)", 3},
    {"weight-decay", KEY_DECAY, "D", 0, "Weight decay of the matrices (default: 0.1)", 3},
    {"warmup", KEY_WARMUP, "F", 0, "Fraction of the steps in which the learning rate rises (default: 0.05)",
     3},
    {"clip", KEY_CLIP, "NORM", 0, "Clip gradients to this norm; 0: don't (default: 1)", 3},
    {"scale", KEY_SCALE, "S", 0,
     "Initial scale of the logits (default: the model's, else the one that fits the pairs best)", 3},
    {"validation", KEY_VALIDATION, "F", 0,
     "Fraction of the captions held out for validation (default: 0.2)", 3},
    {"seed", KEY_SEED, "N", 0, "Seed of the random numbers; the same seed gives the same checkpoint", 3},
    {"heads", KEY_HEADS, "H", 0, "Transformer: number of attention heads (default: 8)", 4},
    {"layers", KEY_LAYERS, "L", 0, "Transformer: number of layers (default: 1)", 4},
    {"mlp", KEY_MLP, "W", 0,
     "Transformer and mlp: width of the hidden layer (default: transformer 4d, mlp 6d + 2)", 4},
    {"hidden", KEY_HIDDEN, "W", 0, "Relational: width of the hidden layers (default: 32)", 4},
    {"no-scores", KEY_NO_SCORES, NULL, 0,
     "Transformer: the paper's layer, which does not see retrieval scores", 4},
    {"rotate", KEY_ROTATE, NULL, 0,
     "Transformer: rotate each batch at random, so that directions cannot be learned", 4},
    {"cache", KEY_CACHE, "DIR", 0,
     "Folder that caches the embeddings of --pairs (default: FILE.pairs); those of --val-pairs go to "
     "DIR.val",
     5},
    {"log", KEY_LOG, "FILE", 0,
     "Write each step and each validation to this file, one JSON object per line", 5},
    {"neighbours", KEY_NEIGHBOURS, "FILE", 0,
     "File that caches what the pairs retrieve; an interrupted search resumes, and the next training run "
     "reuses it",
     5},
    {"fresh", KEY_FRESH, NULL, 0, "Start over, even if an interrupted run could be resumed", 5},
    {0},
};
static const struct argp_child children[] = {{&cli_model_options, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {&cli_table_options, 0, NULL, 0},
                                             {&cli_recall_options, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse_train_option,
    NULL,
    "Train a layer that fuses retrieved embeddings into an embedding. The model stays frozen. An "
    "interrupted run resumes when the command is run again.\v"
    "Example:\n  reco train --bank shop.bank --out fusion.safetensors\n"
    "  reco train --model clip/ --bank shop.bank --pairs train.csv --out fusion.safetensors",
    children,
    NULL,
    NULL};

/* Pairs are embedded into a bank of their own, which resumes when cut off and serves the next training too. */
static reco_status embed_pairs(cli *c, const char *pairs, const reco_model *model, char *cache)
{
    reco_ingest_opts opts = {.embed = {.failure = cli_failure, .user = c}, .table = &c->table};
    reco_stream_result result = {0};
    reco_status status = reco_bank_ingest_pairs(c->ctx, model, pairs, cache, 1, &opts, &result);
    if (status == RECO_OK) cli_skipped(c, result.failures, NULL);
    if (status == RECO_E_EXISTS)
        cli_error("%s: holds the embeddings of other pairs; remove it, or name another folder with --cache",
                  cache);
    return status;
}

/* One set of pairs, of a table or of embeddings, that fits the bank; none where both are NULL. What was embedded of too few is not
 * kept. */
static reco_status load_pair_set(cli *c, const args *a, const reco_model *model, const reco_bank *bank,
                                 const char *pairs, const char *embeddings, reco_pair_set *set)
{
    reco_status status = RECO_OK;
    char *cache = NULL;
    bool made = false;
    if (embeddings) {
        status = reco_check_embeddings(c->ctx, embeddings, a->encoder, bank, NULL);
        if (status == RECO_OK) status = reco_pair_set_load(c->ctx, set, embeddings);
    } else if (pairs) {
        if (asprintf(&cache, "%s%s%s", a->cache ? a->cache : a->out, a->cache ? "" : ".pairs",
                     pairs == a->val_pairs ? ".val" : "") < 0)
            return RECO_E_NOMEM;
        made = access(cache, F_OK) != 0;
        status = embed_pairs(c, pairs, model, cache);
        if (status == RECO_OK) status = reco_pair_set_load(c->ctx, set, cache);
    }
    if (status == RECO_OK && (embeddings || pairs) && set->n < RECO_TRAIN_MIN_PAIRS) {
        if (made) cli_remove_folder(cache);
        cli_error("%s: %zu pair%s, want %d or more", embeddings ? embeddings : pairs, set->n, cli_s(set->n),
                  RECO_TRAIN_MIN_PAIRS);
        status = RECO_E_ARG;
    }
    free(cache);
    if (status == RECO_OK && set->n && set->d != reco_bank_get_info(bank)->d) {
        cli_error("%s: embeddings of width %zu, the bank has vectors of width %zu",
                  embeddings ? embeddings : pairs, set->d, reco_bank_get_info(bank)->d);
        status = RECO_E_MISMATCH;
    }
    return status;
}

/* The layers that were compared; NULL where there was one. */
static json_t *compared(const reco_train_result *r)
{
    json_t *list = r->layers ? json_array() : NULL;
    for (size_t i = 0; i < r->layers; i++) {
        const reco_train_layer *l = &r->compared[i];
        json_t *row =
            json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:f}", "layer", reco_layer_name(l->layer), "refine",
                      cli_sides_name(l->sides), "pairs", (json_int_t)l->pairs, "best_step",
                      (json_int_t)l->best_step, "clip", l->clip, "score", l->score, "seconds", l->seconds);
        if (l->common)
            json_object_update_new(
                row, json_pack("{s:s, s:I, s:f, s:f}", "against", reco_layer_name(l->against), "common",
                               (json_int_t)l->common, "gain", l->gain, "error", l->error));
        json_array_append_new(list, row);
    }
    return list;
}

static void print_compared(const reco_train_result *r)
{
    if (r->layers == 0) return;
    printf("%-12s %-7s %6s %8s %8s %9s  %s\n", "layer", "refined", "pairs", "CLIP", "score", "seconds",
           "against the best before");
    for (size_t i = 0; i < r->layers; i++) {
        const reco_train_layer *l = &r->compared[i];
        printf("%-12s %-7s %6zu %8.4f %8.4f %9.1f", reco_layer_name(l->layer), cli_sides_name(l->sides),
               l->pairs, l->clip, l->score, l->seconds);
        if (l->common)
            printf("  %s: %+.4f, error %.4f, on %zu pair%s", reco_layer_name(l->against), l->gain, l->error,
                   l->common, cli_s(l->common));
        putchar('\n');
    }
}

static void print(const cli *c, const args *a, const reco_train_result *r)
{
    const char *name = reco_layer_name(r->layer);
    if (c->json) {
        json_t *answer = json_pack(
            "{s:I, s:I, s:s, s:o*, s:I, s:I, s:f, s:{s:f, s:f, s:f, s:f}, s:s, s:o, s:o, s:b, s:f, s:o}",
            "pairs", (json_int_t)r->pairs, "validation_pairs", (json_int_t)r->validation_pairs, "layer",
            name, "layers", compared(r), "steps", (json_int_t)r->steps, "best_step",
            (json_int_t)r->best_step, "loss", r->loss, "recall_at_1", "clip", r->clip, "image", r->image,
            "text", r->text, "both", r->both, "refine", cli_sides_name(r->sides), "mixture",
            cli_mixture(&r->mixture), "concat", cli_weight(r->concat), "resumed", r->resumed, "seconds",
            r->seconds, "out", cli_text(a->out));
        cli_tell_search(c, NULL, answer);
        cli_print(answer);
        return;
    }
    print_compared(r);
    printf("%s layer, %zu pair%s (%zu held out), %zu step%s, %.1f s\n", name, r->pairs, cli_s(r->pairs),
           r->validation_pairs, r->steps, cli_s(r->steps), r->seconds);
    printf("recall@1 on %s: CLIP %.1f, image refined %.1f, text refined %.1f, both %.1f\n",
           a->train.judged ? "validation pairs" : "captions held out", r->clip, r->image, r->text, r->both);
    fputs("mixture: ", stdout);
    cli_print_mixture(&r->mixture);
    printf(", at scales %.3g, %.3g, %.3g\n", (double)r->mixture.scale[0], (double)r->mixture.scale[1],
           (double)r->mixture.scale[2]);
    cli_say("refined by default: %s; written to %s", cli_sides_name(r->sides), a->out);
}

/* Does the argument name this option, written out or not? What is no option's name at all has been refused before. */
static bool names(const char *arg, const char *option)
{
    size_t n = strcspn(arg, "=");
    return n > 2 && strncmp(arg, "--", 2) == 0 && n - 2 <= strlen(option) &&
           strncmp(arg + 2, option, n - 2) == 0;
}

/* The command without what says nothing of the checkpoint: where it goes, and how it is made and told of. The same training
 * gives the same checkpoint with any of these. */
static json_t *command_of(int argc, char **argv)
{
    static const char *const with[] = {"out", "threads", "log", "cache", "neighbours"};
    static const char *const without[] = {"json", "quiet", "fresh"};
    json_t *command = json_string("reco train");
    for (int i = 1; command && i < argc; i++) {
        bool skip = false, takes = false;
        for (size_t o = 0; o < sizeof with / sizeof *with; o++) takes |= names(argv[i], with[o]);
        for (size_t o = 0; o < sizeof without / sizeof *without; o++) skip |= names(argv[i], without[o]);
        if (takes && !strchr(argv[i], '=')) i++;
        if (skip || takes) continue;
        json_t *word = cli_bank_text(argv[i]);
        const char *text = word ? json_string_value(word) : NULL;
        bool plain = text && *text && !text[strcspn(text, " \t\n'\"\\$&|;<>()*?`#~")];
        json_t *longer =
            text ? json_sprintf(plain ? "%s %s" : "%s '%s'", json_string_value(command), text) : NULL;
        json_decref(word);
        json_decref(command);
        command = longer;
    }
    return command;
}

static reco_train_pairs pairs_of(const reco_pair_set *set)
{
    return (reco_train_pairs){.n = set->n,
                              .image = set->image,
                              .text = set->text,
                              .captions = set->captions,
                              .pictures = set->pictures};
}

/* Before the work: what is written is none of what is read, nor the same twice. */
static reco_status check_outputs(cli *c, const args *a)
{
    const char *const inputs[] = {a->bank, a->embeddings, a->pairs, a->val_embeddings, a->val_pairs};
    const size_t n = sizeof inputs / sizeof *inputs;
    reco_status status = cli_output(c, a->out, RECO_OUT_FILE, a->model, inputs, n);
    if (status == RECO_OK && a->cache)
        status = cli_output(c, a->cache, RECO_OUT_FOLDER, a->model, inputs, n);
    if (status == RECO_OK && a->train.log)
        status = cli_output(c, a->train.log, RECO_OUT_FILE, a->model, inputs, n);
    if (status == RECO_OK && a->train.neighbours)
        status = cli_output(c, a->train.neighbours, RECO_OUT_FILE, a->model, inputs, n);
    if (status == RECO_OK && a->train.log && strcmp(a->train.log, a->out) == 0) {
        cli_error("%s: --log and --out are the same file", a->out);
        status = RECO_E_ARG;
    }
    return status;
}

int cmd_train(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .train = RECO_TRAIN_OPTS_INIT};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_model *model = NULL;
    reco_bank *bank = NULL;
    reco_pair_set set = {0}, val = {0};
    reco_train_result result = {0};
    json_t *command = command_of(argc, argv);
    a.train.command = command ? json_string_value(command) : NULL;
    reco_status status = check_outputs(&c, &a);
    if (status == RECO_OK && a.model) status = cli_open_model(&c, &model, a.model, RECO_SIDES_BOTH);
    if (status == RECO_OK) status = cli_open_memory(&c, model, &bank, a.bank, NULL, NULL, 0);
    if (status == RECO_OK) status = load_pair_set(&c, &a, model, bank, a.pairs, a.embeddings, &set);
    if (status == RECO_OK) status = load_pair_set(&c, &a, model, bank, a.val_pairs, a.val_embeddings, &val);
    reco_train_pairs pairs = pairs_of(&set), judged = pairs_of(&val);
    if (val.n) a.train.judged = &judged;
    if (status == RECO_OK)
        status = reco_train(c.ctx, bank, set.n ? &pairs : NULL, a.out, &a.train, &result);
    if (status == RECO_OK) print(&c, &a, &result);
    json_decref(command);
    reco_pair_set_free(&val);
    reco_pair_set_free(&set);
    reco_bank_close(bank);
    reco_model_close(model);
    return cli_end(&c, status);
}
