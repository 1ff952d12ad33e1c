#include "study/study_internal.h"

#include <math.h>
#include <stdio.h>

const char *const study_groups[] = {
    "controls", "modality", "sides",  "layers",         "depth",   "k", "share",
    "wrong",    "without",  "memory", "min_similarity", "mixture", NULL};

bool study_is_random(const study_spec *spec)
{
    return (spec->kind == STUDY_LAYER && !spec->control) || (spec->share > 0 && spec->share < 100) ||
           spec->wrong > 0;
}

/* The row that the others are changes of: the layer of [train], both sides refined, so that each shows its layer or memory and
 * not what training chose of it. With `mixture` all are asked as training chose, which is what the mixture belongs to. */
static study_spec base(const reco_study *s, const char *group)
{
    return (study_spec){.group = group,
                        .x = NAN,
                        .kind = STUDY_LAYER,
                        .train = s->train,
                        .sides = s->mixture ? RECO_SIDES_DEFAULT : RECO_SIDES_BOTH,
                        .mixture = s->mixture,
                        .min_similarity = -1,
                        .share = 100};
}

static reco_status add_study_row(const study_reader *r, study_spec spec, const char *name)
{
    reco_study *s = r->study;
    if (s->nrows == STUDY_MOST_ROWS)
        return reco_fail(r->ctx, RECO_E_ARG, "%s: more than %d rows", r->path, STUDY_MOST_ROWS);
    spec.name = reco_strdup(r->ctx, name);
    if (!spec.name) return RECO_E_NOMEM;
    s->specs[s->nrows++] = spec;
    return RECO_OK;
}

/* ---- groups ---- */

static reco_status control(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "controls");
    spec.mixture = 0;
    spec.sides = RECO_SIDES_BOTH;
    if (strcmp(name, "clip") == 0) return RECO_OK; /* always there */
    if (strcmp(name, "vote") == 0) {
        spec.control = "vote";
        spec.sides = RECO_SIDES_IMAGE;
        return add_study_row(r, spec, "vote");
    }
    if (strcmp(name, "mean") == 0) {
        spec.control = "mean";
        return add_study_row(r, spec, "mean fusion");
    }
    if (strcmp(name, "knn") == 0) {
        spec.kind = STUDY_KNN;
        return add_study_row(r, spec, "kNN label vote");
    }
    if (strcmp(name, "tip") == 0) {
        spec.kind = STUDY_TIP;
        return add_study_row(r, spec, "Tip-Adapter cache");
    }
    spec.train.layer = RECO_LAYER_MLP;
    return add_study_row(r, spec, "MLP, no retrieval");
}

static reco_status modality(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "modality");
    char shown[64];
    bool cross_search = strncmp(name, "cross-", 6) == 0;
    bool cross_fuse = strcmp(strchr(name, '-') + 1, "cross") == 0;
    spec.train.search = cross_search ? RECO_CROSS : RECO_UNI;
    spec.train.fuse = cross_fuse ? RECO_CROSS : RECO_UNI;
    snprintf(shown, sizeof shown, "%s search, %s fusion", cross_search ? "cross-modal" : "uni-modal",
             cross_fuse ? "cross-modal" : "uni-modal");
    return add_study_row(r, spec, shown);
}

static reco_status sides(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "sides");
    char shown[64];
    spec.sides = strcmp(name, "image") == 0  ? RECO_SIDES_IMAGE
                 : strcmp(name, "text") == 0 ? RECO_SIDES_TEXT
                 : strcmp(name, "both") == 0 ? RECO_SIDES_BOTH
                                             : RECO_SIDES_DEFAULT;
    snprintf(shown, sizeof shown, "%s",
             strcmp(name, "both") == 0          ? "both sides"
             : spec.sides == RECO_SIDES_DEFAULT ? "what training chose"
                                                : name);
    if (spec.sides <= RECO_SIDES_TEXT) snprintf(shown, sizeof shown, "%s side", name);
    return add_study_row(r, spec, shown);
}

static reco_status layer(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "layers");
    spec.train.no_scores = strcmp(name, "no-scores") == 0;
    spec.train.layer = strcmp(name, "relational") == 0 ? RECO_LAYER_RELATIONAL
                       : strcmp(name, "weighted") == 0 ? RECO_LAYER_WEIGHTED
                       : strcmp(name, "auto") == 0     ? RECO_LAYER_AUTO
                                                       : RECO_LAYER_TRANSFORMER;
    return add_study_row(r, spec,
                         spec.train.no_scores                  ? "transformer, no scores"
                         : spec.train.layer == RECO_LAYER_AUTO ? "auto, by held-out captions"
                                                               : name);
}

static reco_status without(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "without");
    spec.without = strcmp(name, "new") == 0 ? STUDY_WITHOUT_NEW : STUDY_WITHOUT_EVALUATED;
    return add_study_row(r, spec,
                         spec.without == STUDY_WITHOUT_NEW ? "without the new concepts"
                                                           : "without the evaluated concepts");
}

static reco_status mixture(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "mixture");
    spec.sides = RECO_SIDES_DEFAULT;
    spec.mixture = strcmp(name, "on") == 0;
    return add_study_row(r, spec, spec.mixture ? "mixture" : "cosines alone");
}

static reco_status memory(const study_reader *r, const char *name)
{
    study_spec spec = base(r->study, "memory");
    while (strcmp(r->study->memories[spec.memory].name, name) != 0) spec.memory++;
    return add_study_row(r, spec,
                         spec.memory == 0   ? "the memory, as above"
                         : spec.memory == 1 ? "the memory of training"
                                            : name);
}

static reco_status numbered(const study_reader *r, const char *group, double v)
{
    study_spec spec = base(r->study, group);
    char shown[64];
    spec.x = v;
    if (strcmp(group, "k") == 0) {
        spec.k = (size_t)v;
        snprintf(shown, sizeof shown, "k = %g", v);
    } else if (strcmp(group, "share") == 0) {
        spec.share = v;
        snprintf(shown, sizeof shown, "%g %% of the memory", v);
    } else if (strcmp(group, "wrong") == 0) {
        spec.wrong = v;
        snprintf(shown, sizeof shown, "%g %% wrong captions", v);
    } else if (strcmp(group, "depth") == 0) {
        spec.train.layer = RECO_LAYER_TRANSFORMER;
        spec.train.layers = (int)v;
        snprintf(shown, sizeof shown, "transformer, %g layer%s", v, reco_s((uint64_t)v));
    } else {
        spec.min_similarity = (float)v;
        snprintf(shown, sizeof shown, "least cosine %g", v);
    }
    return add_study_row(r, spec, shown);
}

/* What each group takes, and takes when it is `true`. */
static const struct group {
    const char *name, *want;
    const char *values[8]; /* of names; of memories there are none */
    reco_status (*one)(const study_reader *, const char *);
    double low, high;
    bool whole;
    double numbers[10]; /* ended by NaN */
} groups[] = {
    {"controls",
     "\"clip\", \"vote\", \"knn\", \"tip\", \"mean\" or \"mlp\"",
     {"clip", "vote", "knn", "tip", "mean", "mlp"},
     control,
     0,
     0,
     false,
     {NAN}},
    {"modality",
     "\"uni-uni\", \"uni-cross\", \"cross-uni\" or \"cross-cross\" (search, then fusion)",
     {"uni-uni", "uni-cross", "cross-uni", "cross-cross"},
     modality,
     0,
     0,
     false,
     {NAN}},
    {"sides",
     "\"image\", \"text\", \"both\" or \"auto\"",
     {"image", "text", "both", "auto"},
     sides,
     0,
     0,
     false,
     {NAN}},
    {"layers",
     "\"relational\", \"transformer\", \"no-scores\", \"weighted\" or \"auto\"",
     {"relational", "transformer", "no-scores", "weighted", "auto"},
     layer,
     0,
     0,
     false,
     {NAN}},
    {"depth", "whole numbers 1..64", {NULL}, NULL, 1, 64, true, {1, 2, NAN}},
    {"k", "whole numbers 1..1024", {NULL}, NULL, 1, RECO_BANK_MAX_K, true, {1, 2, 4, 8, 16, 32, 64, NAN}},
    {"share", "percent 0..100", {NULL}, NULL, 0, 100, false, {0, 10, 25, 50, 75, 100, NAN}},
    {"wrong", "percent 0..100", {NULL}, NULL, 0, 100, false, {0, 10, 25, 50, NAN}},
    {"without",
     "\"evaluated\", or \"new\" where there are new queries",
     {"evaluated", "new"},
     without,
     0,
     0,
     false,
     {NAN}},
    {"memory", "names of [memories], \"memory\" or \"bank\"", {NULL}, memory, 0, 0, false, {NAN}},
    {"min_similarity", "numbers -1..1", {NULL}, NULL, -1, 1, false, {0.5, 0.6, 0.7, 0.8, 0.9, NAN}},
    {"mixture", "\"off\" or \"on\"", {"off", "on"}, mixture, 0, 0, false, {NAN}},
};

static reco_status defaults(study_reader *r, const struct group *g)
{
    reco_study *s = r->study;
    for (size_t i = 0; !g->one && !isnan(g->numbers[i]); i++) RECO_TRY(numbered(r, g->name, g->numbers[i]));
    for (size_t i = 0; g->one && i < 8 && g->values[i]; i++)
        if (s->queries[1] || strcmp(g->values[i], "new") != 0) RECO_TRY(g->one(r, g->values[i]));
    if (g->one == memory)
        for (size_t i = 0; i < s->nmemories; i++) RECO_TRY(memory(r, s->memories[i].name));
    return RECO_OK;
}

static reco_status one_name(study_reader *r, const struct group *g, const reco_toml_entry *e,
                            const char *name)
{
    reco_study *s = r->study;
    bool good = false;
    for (size_t i = 0; name && i < 8 && g->values[i]; i++)
        good |= strcmp(name, g->values[i]) == 0 &&
                (s->queries[1] || g->one != without || strcmp(name, "new") != 0);
    for (size_t i = 0; name && g->one == memory && i < s->nmemories; i++)
        good |= strcmp(name, s->memories[i].name) == 0;
    return good ? g->one(r, name) : study_bad(r, e, g->want);
}

static reco_status given(study_reader *r, const struct group *g, const reco_toml_entry *e)
{
    if (json_is_true(e->value)) return defaults(r, g);
    if (json_is_false(e->value)) return RECO_OK;
    if (!json_is_array(e->value) || json_array_size(e->value) > STUDY_MOST_VALUES)
        return study_bad(r, e, "true, or an array of at most 64 values");
    for (size_t i = 0; i < json_array_size(e->value); i++) {
        const json_t *v = json_array_get(e->value, i);
        double number;
        for (size_t j = 0; j < i; j++)
            if (json_equal(v, json_array_get(e->value, j))) return study_bad(r, e, "each value once");
        if (g->one) {
            RECO_TRY(one_name(r, g, e, json_string_value(v)));
            continue;
        }
        number = json_number_value(v);
        if (!json_is_number(v) || number < g->low || number > g->high ||
            (g->whole && number != floor(number)))
            return study_bad(r, e, g->want);
        RECO_TRY(numbered(r, g->name, number));
    }
    return RECO_OK;
}

reco_status study_plan(study_reader *r)
{
    reco_study *s = r->study;
    const reco_toml_entry *all = study_find(r, "", "rows"), *table = NULL;
    for (size_t i = 0; i < r->toml.n; i++)
        if (strcmp(r->toml.entries[i].table, "rows") == 0) table = &r->toml.entries[i];
    const char *how = all ? json_string_value(all->value) : NULL;
    if (all && (!how || strcmp(how, "all") != 0 || table))
        return study_bad(r, all, "\"all\", or a table [rows]");
    s->specs = reco_alloc(r->ctx, STUDY_MOST_ROWS, sizeof *s->specs, "study");
    s->rows = reco_alloc(r->ctx, STUDY_MOST_ROWS, sizeof *s->rows, "study");
    if (!s->specs || !s->rows) return RECO_E_NOMEM;
    study_spec clip = base(s, "controls");
    clip.kind = STUDY_CLIP;
    clip.mixture = 0;
    RECO_TRY(add_study_row(r, clip, "CLIP"));
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        const reco_toml_entry *e = study_find(r, "rows", groups[g].name);
        if (all) RECO_TRY(defaults(r, &groups[g]));
        if (e) RECO_TRY(given(r, &groups[g], e));
    }
    for (size_t i = 0; i < s->nrows; i++) {
        const study_spec *spec = &s->specs[i];
        s->rows[i] = (reco_study_row){.group = spec->group,
                                      .name = spec->name,
                                      .x = spec->x,
                                      .seeds = study_is_random(spec) ? s->nseeds : 1};
    }
    return RECO_OK;
}

/* ---- what it will cost ---- */

static bool same_training(const reco_train_opts *a, const reco_train_opts *b)
{
    return a->layer == b->layer && a->search == b->search && a->fuse == b->fuse &&
           a->no_scores == b->no_scores && a->layers == b->layers && a->k == b->k;
}

/* Seconds that two cores with AVX2 took for the demo's 880 pairs, and for one evaluation. */
static double seconds_of(const study_spec *spec)
{
    switch (spec->train.layer) {
    case RECO_LAYER_RELATIONAL:
        return 10;
    case RECO_LAYER_AUTO:
        return 45;
    case RECO_LAYER_MLP:
    case RECO_LAYER_TRANSFORMER:
        return 30.0 * (spec->train.layers > 1 ? spec->train.layers * 4 : 1);
    default:
        return 5;
    }
}

static bool is_trained(const study_spec *spec) { return spec->kind == STUDY_LAYER && !spec->control; }

/* Is it the first row of its training? */
static bool trains(const reco_study *s, size_t row)
{
    bool first = is_trained(&s->specs[row]);
    for (size_t j = 0; j < row && first; j++)
        first = !is_trained(&s->specs[j]) || !same_training(&s->specs[row].train, &s->specs[j].train);
    return first;
}

double study_seconds(const reco_study *s, size_t row)
{
    return 0.5 + (trains(s, row) ? seconds_of(&s->specs[row]) * s->pairs_known / 880 : 0);
}

void study_cost(reco_study *s)
{
    reco_study_plan p = {.rows = s->nrows};
    for (size_t i = 0; i < s->nrows; i++) {
        p.cells += s->rows[i].seeds;
        p.minutes += (double)s->rows[i].seeds * study_seconds(s, i) / 60;
        if (trains(s, i)) p.trainings += s->nseeds;
    }
    s->plan = p;
}

const reco_study_plan *reco_study_get_plan(const reco_study *s) { return &s->plan; }
