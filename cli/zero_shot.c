#include "zero_shot.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_MODEL = 0x2000,
    KEY_BANK,
    KEY_FUSION,
    KEY_CLASSES,
    KEY_TEMPLATES,
    KEY_REFINE,
    KEY_WHERE,
    KEY_IMAGES,
    KEY_MERGE,
    KEY_MIXTURE
};

static void add_to_list(struct argp_state *state, const char **list, size_t *n, const char *arg)
{
    if (*n == ZERO_SHOT_MOST) argp_error(state, "want at most %d banks and layers", ZERO_SHOT_MOST);
    list[(*n)++] = arg;
}

static error_t parse_zero_shot_option(int key, char *arg, struct argp_state *state)
{
    zero_shot *z = state->input;
    switch (key) {
    case KEY_MODEL:
        z->model_dir = arg;
        return 0;
    case KEY_BANK:
        add_to_list(state, z->banks, &z->nbanks, z->bank_dir = arg);
        return 0;
    case KEY_FUSION:
        add_to_list(state, z->fusions, &z->nfusions, z->fusion_name = arg);
        return 0;
    case KEY_CLASSES:
        z->class_file = arg;
        return 0;
    case KEY_TEMPLATES:
        z->template_file = arg;
        return 0;
    case KEY_REFINE:
        z->memory.sides = cli_sides(state, arg);
        return 0;
    case KEY_IMAGES:
        z->images = arg;
        return 0;
    case KEY_MERGE:
        z->merge = true;
        return 0;
    case KEY_MIXTURE:
        cli_parse_readout(state, &z->readout, arg);
        return 0;
    case KEY_WHERE:
        z->where = arg;
        return 0;
    case 'k':
        z->memory.k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        if (z->nks == ZERO_SHOT_MOST) argp_error(state, "want at most %d values of -k", ZERO_SHOT_MOST);
        z->ks[z->nks++] = z->memory.k;
        return 0;
    case ARGP_KEY_INIT:
        z->memory = (reco_memory)RECO_MEMORY_INIT;
        return 0;
    case ARGP_KEY_END:
        if (!z->embedded) cli_need(state, z->model_dir, "--model");
        cli_need(state, z->bank_dir, "--bank");
        cli_need(state, z->fusion_name, "--fusion");
        if (!z->images && !z->open && !z->embedded) cli_need(state, z->class_file, "--classes");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0, "Model folder", 1},
    {"bank", KEY_BANK, "BANK", 0, "The bank", 1},
    {"fusion", KEY_FUSION, "FILE|NAME", 0,
     "A trained layer, or none, vote, mean or weighted; mean:uni-uni sets the sides to search and to fuse",
     1},
    {"classes", KEY_CLASSES, "FILE", 0,
     "Class names, one per line, or a table with a name column (default: the folders of --images)", 1},
    {"images", KEY_IMAGES, "DIR", 0, "A folder of pictures, with one subfolder per class", 1},
    {"merge-classes", KEY_MERGE, NULL, 0, "Merge classes of the same name (default: they are an error)", 2},
    {"templates", KEY_TEMPLATES, "FILE", 0,
     "Prompt templates, one per line, with {} for the class name (default: the name alone)", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "Sides to refine: image, text, both, none or auto (default: auto, as training chose)", 2},
    {"mixture", KEY_MIXTURE, "HOW", 0, CLI_MIXTURE_HELP, 2},
    {"k", 'k', "K", 0, "Number of neighbours (default: the layer's own)", 2},
    {"where", KEY_WHERE, "SQL", 0,
     "Retrieve only rows that satisfy this condition on id, caption, uri and meta", 2},
    {0},
};
const struct argp zero_shot_options = {options, parse_zero_shot_option, NULL, NULL, NULL, NULL, NULL};

const reco_mixture zero_shot_clip = {.clip = 1}, zero_shot_cosines = {.refined = 1};

reco_status zero_shot_settle(cli *c, zero_shot *z, bool merge)
{
    reco_status status = reco_class_list_settle(c->ctx, z->list, z->model, merge);
    if (status == RECO_E_EXISTS) cli_error("%s; --merge-classes makes them one", reco_ctx_error(c->ctx));
    if (status != RECO_OK) return status;
    z->among.list = z->list;
    z->among.n = reco_class_list_count(z->list);
    return RECO_OK;
}

reco_status zero_shot_templates(cli *c, zero_shot *z)
{
    if (!z->template_file) return RECO_OK;
    reco_status status = reco_read_lines(c->ctx, z->template_file, &z->templates, &z->ntemplates);
    z->among.templates = (const char *const *)z->templates;
    z->among.m = z->ntemplates;
    return status;
}

reco_status zero_shot_open(cli *c, zero_shot *z)
{
    reco_status status = cli_open_model(c, &z->model, z->model_dir, RECO_SIDES_BOTH);
    if (status == RECO_OK && z->class_file)
        status = reco_class_list_read(c->ctx, &z->list, z->class_file);
    else if (status == RECO_OK && z->images)
        status = reco_class_list_folders(c->ctx, &z->list, z->images);
    if (status == RECO_OK && z->list) status = zero_shot_settle(c, z, z->merge);
    if (status == RECO_OK) status = zero_shot_templates(c, z);
    if (status != RECO_OK) return status;
    uint64_t repaired = 0;
    for (size_t i = 0; i < z->among.n; i++) repaired += cli_not_utf8(zero_shot_name(z, i));
    for (size_t i = 0; i < z->ntemplates; i++) repaired += cli_not_utf8(z->templates[i]);
    cli_repaired(c, repaired);
    z->among.model = z->model;
    z->among.d = reco_model_get_info(z->model)->d;
    return RECO_OK;
}

const char *zero_shot_name(const zero_shot *z, size_t class)
{
    if (z->list) return reco_class_list_names(z->list)[class];
    return z->among.names ? z->among.names[class] : "";
}

const char *zero_shot_refined(const zero_shot *z) { return cli_refined(z->fusion, z->s.sides, z->own); }

reco_status zero_shot_remember(cli *c, zero_shot *z, const char *bank, const char *fusion, size_t k,
                               cli_readout *readout)
{
    reco_status status = cli_open_memory(c, z->model, &z->bank, bank, &z->fusion, fusion, k);
    if (status == RECO_OK && z->where)
        status = reco_bank_filter_where(c->ctx, &z->filter, z->bank, z->where);
    if (status != RECO_OK) return status;
    z->memory.bank = z->bank;
    z->memory.fusion = z->fusion;
    z->memory.filter = z->filter;
    z->memory.k = k;
    z->own = z->memory.sides == RECO_SIDES_DEFAULT;
    float scale = z->among.scale;
    if (!(scale > 0) && z->model) scale = reco_model_get_info(z->model)->logit_scale;
    if (!(scale > 0)) scale = reco_bank_get_info(z->bank)->logit_scale;
    cli_set_mixture(readout, &z->memory, scale);
    reco_memory_settle(&z->memory, RECO_IMAGE, RECO_TEXT, &z->s);
    z->took = reco_fusion_get_config(z->fusion)->layer == RECO_LAYER_NONE ? RECO_SIDES_NONE : z->s.sides;
    if (z->among.n == 0) return RECO_OK;
    uint64_t truncated = 0;
    if (!(z->of_class = calloc(z->among.n, sizeof *z->of_class))) return RECO_E_NOMEM;
    status = reco_classifier_create(c->ctx, &z->classifier, &z->memory, &z->among, &truncated);
    c->truncated += truncated;
    return status;
}

void zero_shot_forget(zero_shot *z)
{
    for (size_t i = 0; z->of_class && i < z->among.n; i++) json_decref(z->of_class[i]);
    free(z->of_class);
    z->of_class = NULL;
    reco_findings_free(&z->found);
    reco_classifier_free(z->classifier);
    z->classifier = NULL;
    reco_fusion_free(z->fusion);
    z->fusion = NULL;
    reco_bank_filter_free(z->filter);
    z->filter = NULL;
    reco_bank_close(z->bank);
    z->bank = NULL;
}

reco_status zero_shot_ask(cli *c, zero_shot *z, const float *rows, const float *texts, size_t n)
{
    z->asked = rows;
    return reco_classifier_ask(c->ctx, z->classifier,
                               &(reco_question){.side = RECO_IMAGE, .x = rows, .n = n}, texts, &z->found);
}

void zero_shot_close(zero_shot *z)
{
    zero_shot_forget(z);
    reco_class_list_free(z->list);
    reco_lines_free(z->templates, z->ntemplates);
    reco_model_close(z->model);
}

static json_t *rows(cli *c, const zero_shot *z, const int64_t *ids, const float *scores, size_t n)
{
    reco_pair pairs[RECO_BANK_MAX_K];
    if (reco_bank_get_many(c->ctx, z->bank, ids, n, pairs) != RECO_OK) return NULL;
    json_t *list = json_array();
    for (size_t j = 0; j < n; j++) {
        const reco_pair *pair = &pairs[j];
        json_array_append_new(list, json_pack("{s:I, s:o, s:s, s:s?}", "id", (json_int_t)pair->id, "score",
                                              answer_score(scores[j]), "caption", pair->caption, "uri",
                                              pair->uri));
        reco_pair_free(&pairs[j]);
    }
    return list;
}

static json_t *rows_of_class(cli *c, zero_shot *z, size_t class)
{
    if (z->of_class[class]) return json_incref(z->of_class[class]);
    int64_t ids[RECO_BANK_MAX_K];
    float scores[RECO_BANK_MAX_K];
    size_t n;
    if (reco_classifier_neighbours(c->ctx, z->classifier, class,
                                   &(reco_refined){.hits = {.ids = ids, .scores = scores, .counts = &n}}) !=
        RECO_OK)
        return NULL;
    z->of_class[class] = rows(c, z, ids, scores, n);
    return json_incref(z->of_class[class]);
}

json_t *zero_shot_neighbours(cli *c, zero_shot *z, size_t picture, size_t class)
{
    const reco_findings *f = &z->found;
    const size_t at = picture * f->reach, n = f->counts[picture] < z->s.k ? f->counts[picture] : z->s.k;
    json_t *image = rows(c, z, f->ids + at, f->scores + at, n);
    json_t *text = z->took & RECO_SIDES_TEXT ? rows_of_class(c, z, class) : json_array();
    if (image && text) return json_pack("{s:o, s:o}", "image", image, "text", text);
    json_decref(image);
    json_decref(text);
    return NULL;
}

char *zero_shot_folder(const char *root, const char *path)
{
    size_t n = strlen(root);
    if (strncmp(path, root, n) != 0) return NULL;
    path += n;
    path += strspn(path, "/");
    const char *slash = strchr(path, '/');
    return slash ? strndup(path, (size_t)(slash - path)) : NULL;
}
