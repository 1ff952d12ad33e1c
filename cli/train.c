#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_MODEL = 1,
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
};

typedef struct args {
    cli *common;
    const char *model, *bank, *pairs, *embeddings, *out, *cache, *encoder;
    reco_train_opts train;
} args;

static reco_layer layer(struct argp_state *state, const char *arg)
{
    static const struct {
        const char *name;
        reco_layer layer;
    } names[] = {{"auto", RECO_LAYER_NONE},
                 {"relational", RECO_LAYER_RELATIONAL},
                 {"transformer", RECO_LAYER_TRANSFORMER},
                 {"weighted", RECO_LAYER_WEIGHTED},
                 {"mlp", RECO_LAYER_MLP}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(arg, names[i].name) == 0) return names[i].layer;
    argp_error(state, "--layer = %s, want relational, transformer, weighted, mlp or auto", arg);
    return RECO_LAYER_NONE;
}

static reco_modality modality(struct argp_state *state, const char *option, const char *arg)
{
    if (strcmp(arg, "uni") == 0) return RECO_UNI;
    if (strcmp(arg, "cross") == 0) return RECO_CROSS;
    argp_error(state, "%s = %s, want uni or cross", option, arg);
    return RECO_MODALITY_DEFAULT;
}

static void check(const args *a, struct argp_state *state)
{
    cli_need(state, a->bank, "--bank");
    cli_need(state, a->out, "--out");
    if (a->pairs && a->embeddings) argp_error(state, "want one of --pairs and --embeddings, or none");
    if (a->pairs) cli_need(state, a->model, "--model");
    if (a->encoder && !a->embeddings) argp_error(state, "--encoder goes with --embeddings");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    reco_train_opts *t = &a->train;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = state->child_inputs[2] = a->common;
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
        t->lr = cli_number(state, "--lr", arg, 1e-8, 1);
        break;
    case KEY_DECAY:
        t->weight_decay = cli_number(state, "--weight-decay", arg, 0, 1) > 0 ? atof(arg) : -1;
        break;
    case KEY_DROPOUT:
        t->neighbour_dropout = cli_number(state, "--neighbour-dropout", arg, 0, 1) > 0 ? atof(arg) : -1;
        break;
    case KEY_MAX:
        t->max_similarity = (float)cli_number(state, "--max-similarity", arg, 0.01, 2);
        break;
    case KEY_MIN:
        t->min_similarity = (float)cli_number(state, "--min-similarity", arg, -1, 1);
        t->use_min_similarity = 1;
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
        t->force_sides = t->sides != RECO_SIDES_DEFAULT;
        break;
    case KEY_FRESH:
        t->fresh = 1;
        break;
    case ARGP_KEY_END:
        check(a, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option options[] = {
    {"bank", KEY_BANK, "BANK", 0, "The memory", 1},
    {"out", KEY_OUT, "FILE", 0, "The checkpoint to write, fusion.safetensors", 1},
    {"model", KEY_MODEL, "DIR", 0, "Model folder (with --pairs; else only checked against the bank)", 1},
    {"pairs", KEY_PAIRS, "FILE", 0, "Train on these pictures and texts, a CSV or JSONL as for bank build",
     1},
    {"embeddings", KEY_EMBEDDINGS, "DIR", 0,
     "Train on these embeddings (img_emb/ and text_emb/, or a bank). Without either: the bank's own rows, "
     "each barred from "
     "retrieving itself",
     1},
    {"encoder", KEY_ENCODER, "NAME|DIR", 0,
     "Whose the embeddings are, where no reco.json says it: a name or a model folder (with --embeddings)",
     1},
    {"layer", KEY_LAYER, "NAME", 0,
     "relational, transformer, weighted, mlp (no retrieval) or auto (default: relational below 100,000 "
     "pairs)",
     2},
    {"k", 'k', "K", 0, "Neighbours (default 10)", 2},
    {"search", KEY_SEARCH, "uni|cross", 0,
     "Search the memory among vectors of the query's own side, or of the other (default uni)", 2},
    {"fuse", KEY_FUSE, "uni|cross", 0,
     "Fuse vectors of the query's own side, or of the other (default cross)", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "Sides to refine by default (default: auto, what validation finds best)", 2},
    {"max-similarity", KEY_MAX, "S", 0,
     "Neighbours whose picture is nearer than this to the pair's own are taken for the pair itself "
     "(default 0.999)",
     2},
    {"min-similarity", KEY_MIN, "S", 0, "Neighbours of smaller cosine do not count", 2},
    {"neighbour-dropout", KEY_DROPOUT, "P", 0, "Chance that a pair meets fewer neighbours than it has", 2},
    {"batch", KEY_BATCH, "B", 0, "Pairs a step (default: relational 256, transformer 512)", 3},
    {"steps", KEY_STEPS, "N", 0, "Steps (default: relational 300)", 3},
    {"lr", KEY_LR, "RATE", 0, "Peak learning rate (default: relational 1e-2, transformer 1e-3)", 3},
    {"weight-decay", KEY_DECAY, "D", 0, "On matrices (default 0.1)", 3},
    {"validation", KEY_VALIDATION, "F", 0, "Share of captions held out (default 0.2)", 3},
    {"seed", KEY_SEED, "N", 0, "Same seed, same checkpoint", 3},
    {"heads", KEY_HEADS, "H", 0, "Transformer: attention heads (default 8)", 4},
    {"no-scores", KEY_NO_SCORES, NULL, 0, "Transformer: the paper's layer, blind to retrieval scores", 4},
    {"rotate", KEY_ROTATE, NULL, 0,
     "Transformer: turn each batch by a random rotation, so that directions cannot be learned", 4},
    {"cache", KEY_CACHE, "DIR", 0, "Where embedded --pairs are kept for the next run (default: FILE.pairs)",
     5},
    {"fresh", KEY_FRESH, NULL, 0, "Start anew, even where an interrupted run could go on", 5},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {&cli_table_options, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    NULL,
    "Learn how to fuse what is retrieved into an embedding. The model stays frozen. An interrupted run "
    "goes on when it is "
    "run again.\v"
    "Example:\n  reco train --bank shop.bank --out fusion.safetensors\n"
    "  reco train --model clip/ --bank shop.bank --pairs train.csv --out fusion.safetensors",
    children,
    NULL,
    NULL};

/* --pairs are embedded into a bank of their own, which resumes when cut off and serves the next training too. */
static reco_status embed_pairs(cli *c, const args *a, const reco_model *model, char *cache)
{
    reco_stream_opts stream = {.failure = cli_failure, .user = c, .table = &c->table};
    reco_stream_result result = {0};
    reco_status status = reco_bank_ingest_pairs(c->ctx, model, a->pairs, cache, 1, &stream, &result);
    if (status == RECO_OK) cli_skipped(c, result.failures, NULL);
    if (status == RECO_E_EXISTS)
        cli_error("%s: holds the embeddings of other pairs; remove it, or name another folder with --cache",
                  cache);
    return status;
}

static reco_status load_pairs(cli *c, const args *a, const reco_model *model, reco_pair_set *set)
{
    if (a->embeddings) return reco_pair_set_load(c->ctx, set, a->embeddings);
    if (!a->pairs) return RECO_OK;
    size_t room = strlen(a->cache ? a->cache : a->out) + 8;
    char *cache = malloc(room);
    if (!cache) return RECO_E_NOMEM;
    snprintf(cache, room, "%s%s", a->cache ? a->cache : a->out, a->cache ? "" : ".pairs");
    reco_status status = embed_pairs(c, a, model, cache);
    if (status == RECO_OK) status = reco_pair_set_load(c->ctx, set, cache);
    free(cache);
    return status;
}

static void print(const cli *c, const args *a, const reco_train_result *r)
{
    const char *name = reco_layer_name(r->layer);
    if (c->json) {
        cli_print(json_pack(
            "{s:I, s:I, s:s, s:I, s:I, s:f, s:{s:f, s:f, s:f, s:f}, s:s, s:o, s:o, s:b, s:f, s:o}", "pairs",
            (json_int_t)r->pairs, "validation_pairs", (json_int_t)r->validation_pairs, "layer", name,
            "steps", (json_int_t)r->steps, "best_step", (json_int_t)r->best_step, "loss", r->loss,
            "recall_at_1", "clip", r->clip, "image", r->image, "text", r->text, "both", r->both, "refine",
            cli_sides_name(r->sides), "mixture", cli_mixture(&r->mixture), "concat", cli_weight(r->concat),
            "resumed", r->resumed, "seconds", r->seconds, "out", cli_text(a->out)));
        return;
    }
    printf("%s layer, %zu pair%s (%zu held out), %zu step%s, %.1f s\n", name, r->pairs, cli_s(r->pairs),
           r->validation_pairs, r->steps, cli_s(r->steps), r->seconds);
    printf("recall@1 on captions held out: CLIP %.1f, image refined %.1f, text refined %.1f, both %.1f\n",
           r->clip, r->image, r->text, r->both);
    fputs("mixture: ", stdout);
    cli_print_mixture(&r->mixture);
    printf(", at scales %.3g, %.3g, %.3g\n", (double)r->mixture.scale[0], (double)r->mixture.scale[1],
           (double)r->mixture.scale[2]);
    cli_say("refined by default: %s; written to %s", cli_sides_name(r->sides), a->out);
}

int cmd_train(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_model *model = NULL;
    reco_bank *bank = NULL;
    reco_pair_set set = {0};
    reco_train_result result = {0};
    const char *const inputs[] = {a.bank, a.embeddings, a.pairs};
    reco_status status = cli_output(&c, a.out, RECO_OUT_FILE, a.model, inputs, 3);
    if (status == RECO_OK && a.cache) status = cli_output(&c, a.cache, RECO_OUT_FOLDER, a.model, inputs, 3);
    if (status == RECO_OK && a.model) status = cli_open_model(&c, &model, a.model, RECO_SIDES_BOTH);
    if (status == RECO_OK) status = cli_open_memory(&c, model, &bank, a.bank, NULL, NULL, 0);
    if (status == RECO_OK && a.embeddings)
        status = reco_check_embeddings(c.ctx, a.embeddings, a.encoder, bank, NULL);
    if (status == RECO_OK) status = load_pairs(&c, &a, model, &set);
    if (status == RECO_OK && set.n && set.d != reco_bank_get_info(bank).d) {
        cli_error("%s: embeddings of %zu, the bank holds %zu", a.embeddings ? a.embeddings : a.pairs, set.d,
                  reco_bank_get_info(bank).d);
        status = RECO_E_MISMATCH;
    }
    reco_train_pairs pairs = {set.n, set.image, set.text, set.captions, set.pictures};
    if (status == RECO_OK)
        status = reco_train(c.ctx, bank, set.n ? &pairs : NULL, a.out, &a.train, &result);
    if (status == RECO_OK) print(&c, &a, &result);
    reco_pair_set_free(&set);
    reco_bank_close(bank);
    reco_model_close(model);
    return cli_end(&c, status);
}
