#include "recall.h"

enum {
    KEY_BANK = 0x100,
    KEY_FUSION,
    KEY_EMBEDDINGS,
    KEY_OUT,
    KEY_REFINE,
    KEY_DTYPE,
    KEY_MIN,
    KEY_WHERE,
    KEY_ENCODER,
    KEY_CONCAT
};

typedef struct args {
    cli *common;
    const char *bank, *fusion, *embeddings, *out, *where;
    reco_memory memory;
    reco_refine_opts how;
    bool concat;  /* the original beside the refined */
    float weight; /* of the original; below 0: what training chose */
} args;

static error_t parse_refine_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 4; i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_BANK:
        a->bank = arg;
        return 0;
    case KEY_FUSION:
        a->fusion = arg;
        return 0;
    case KEY_EMBEDDINGS:
        a->embeddings = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_REFINE:
        a->memory.sides = cli_sides(state, arg);
        return 0;
    case KEY_DTYPE:
        a->how.dtype = cli_dtype(state, arg);
        return 0;
    case KEY_MIN:
        a->memory.min_similarity = (float)cli_number(state, "--min-similarity", arg, -1, 1);
        return 0;
    case KEY_ENCODER:
        a->how.encoder = arg;
        return 0;
    case KEY_CONCAT:
        a->concat = true;
        if (arg) a->weight = (float)cli_number(state, "--concat", arg, 0, 1);
        return 0;
    case ARGP_KEY_ARG: /* the weight of --concat may follow it as a word of its own */
        if (!a->concat || a->weight >= 0) argp_error(state, "unexpected argument \"%s\"", arg);
        a->weight = (float)cli_number(state, "--concat", arg, 0, 1);
        return 0;
    case KEY_WHERE:
        a->where = arg;
        return 0;
    case 'k':
        a->memory.k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->bank, "--bank");
        cli_need(state, a->fusion, "--fusion");
        cli_need(state, a->embeddings, "--embeddings");
        cli_need(state, a->out, "--out");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"bank", KEY_BANK, "BANK", 0, "The bank", 1},
    {"fusion", KEY_FUSION, "FILE|NAME", 0,
     "A trained layer, or none, vote, mean or weighted; mean:uni-uni sets the sides to search and to fuse",
     1},
    {"embeddings", KEY_EMBEDDINGS, "DIR", 0, "Folder with img_emb/, text_emb/ or both, to refine", 1},
    {"out", KEY_OUT, "DIR", 0, "Folder for the refined embeddings, in the same layout", 1},
    {"refine", KEY_REFINE, "SIDES", 0,
     "Sides to refine: image, text, both, none or auto (default: auto, as training chose)", 2},
    {"concat", KEY_CONCAT, "A", OPTION_ARG_OPTIONAL,
     "Write [sqrt(A) v ; sqrt(1-A) v'], which joins the original and the refined embedding in one vector "
     "of twice the width; inner products are A v.t + (1-A) v'.t' (default: the A that training chose)",
     2},
    {"k", 'k', "K", 0, "Number of neighbours (default: the layer's own)", 2},
    {"min-similarity", KEY_MIN, "S", 0, "Ignore neighbours with a smaller cosine", 2},
    {"encoder", KEY_ENCODER, "NAME|DIR", 0,
     "The encoder of the embeddings, as a name or a model folder, if no reco.json names it", 2},
    {"where", KEY_WHERE, "SQL", 0,
     "Fuse only rows that satisfy this condition on id, caption, uri and meta", 2},
    {"dtype", KEY_DTYPE, "TYPE", 0, "float16 or float32 (default: as read)", 2},
    {0},
};
static const struct argp_child children[] = {{&cli_strict_option, 0, NULL, 0},
                                             {&cli_server_options, 0, NULL, 0},
                                             {&cli_recall_options, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse_refine_option,
    NULL,
    "Refine embeddings that you store yourself. No model is needed.\v"
    "Example:\n  reco refine --bank shop.bank --fusion fusion.safetensors --embeddings emb/ --out refined/",
    children,
    NULL,
    NULL};

int cmd_refine(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c,
              .memory = RECO_MEMORY_INIT,
              .weight = -1,
              .how = {.dtype = RECO_DTYPE_KEEP, .concat = NAN, .failure = cli_failure, .user = &c}};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_bank *bank = NULL;
    reco_fusion *fusion = NULL;
    reco_bank_filter *filter = NULL;
    reco_stream_result result = {0};
    const char *refined = "";
    int strict = 0;
    reco_status status = cli_output(&c, a.out, RECO_OUT_FOLDER, NULL,
                                    (const char *const[]){a.embeddings, a.bank, a.fusion}, 3);
    if (status == RECO_OK) status = cli_open_memory(&c, NULL, &bank, a.bank, &fusion, a.fusion, a.memory.k);
    if (status == RECO_OK && a.where) status = reco_bank_filter_where(c.ctx, &filter, bank, a.where);
    if (status == RECO_OK) {
        a.memory.bank = bank;
        a.memory.fusion = fusion;
        a.memory.filter = filter;
        bool own = a.memory.sides == RECO_SIDES_DEFAULT;
        if (own) a.memory.sides = reco_fusion_get_config(fusion)->sides;
        if (a.concat && a.weight < 0) status = reco_fusion_get_concat(c.ctx, fusion, &a.weight);
        if (status == RECO_E_ARG)
            cli_error("%s: training set no weight for concatenation; give one with --concat=A", a.fusion);
        if (a.concat) a.how.concat = a.weight;
        refined = cli_refined(fusion, a.memory.sides, own);
        if (status == RECO_OK)
            status = reco_refine_folder(c.ctx, &a.memory, a.embeddings, a.out, &a.how, &result);
    }
    if (status == RECO_OK) {
        strict = cli_skipped(&c, result.failures, "failures.jsonl");
        if (c.json) {
            json_t *answer = json_pack("{s:I, s:s, s:o, s:I, s:f}", "rows", (json_int_t)result.rows,
                                       "refined", cli_sides_name(a.memory.sides), "concat",
                                       a.concat ? cli_weight(a.weight) : json_null(), "failures",
                                       (json_int_t)result.failures, "seconds", result.seconds);
            cli_tell_search(&c, bank, answer);
            cli_print(answer);
        } else {
            char how[64] = "";
            if (a.concat) snprintf(how, sizeof how, ", concatenated (A = %.4g)", (double)a.weight);
            cli_say("%llu row%s, refined: %s%s, in %s", (unsigned long long)result.rows, cli_s(result.rows),
                    refined, how, a.out);
        }
    }
    reco_fusion_free(fusion);
    reco_bank_filter_free(filter);
    reco_bank_close(bank);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
