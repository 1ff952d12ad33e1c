/* What eval found of several methods: a table, JSON, and CLIP_benchmark's files. */
#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const class_keys[EVAL_FIGURES] = {"acc1", "acc5", "mean_per_class", "calibration_error"};
static const char *const class_heads[EVAL_FIGURES] = {"acc@1", "acc@5", "per class", "calibration"};
static const char *const pair_keys[EVAL_FIGURES] = {"image_to_text_recall@1",  "image_to_text_recall@5",
                                                    "image_to_text_recall@10", "text_to_image_recall@1",
                                                    "text_to_image_recall@5",  "text_to_image_recall@10"};
static const char *const pair_heads[EVAL_FIGURES] = {"i2t@1", "i2t@5", "i2t@10",
                                                     "t2i@1", "t2i@5", "t2i@10"};

static int figures(const eval_question *q) { return q->retrieval ? 6 : 4; }
/* Of one run over classes the table is short, and JSON has the calibration apart. */
static bool is_single_run(const eval_args *a, const eval_runs *r)
{
    return r->n == 1 && !a->retrieval && !a->embeddings && !a->groups && !a->per_class && !a->results;
}
static const char *const *keys(const eval_question *q) { return q->retrieval ? pair_keys : class_keys; }

/* ---- JSON ---- */

static json_t *real_or_null(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *figures_json(const eval_question *q, const double *values, int n)
{
    json_t *object = json_object();
    for (int f = 0; f < n; f++) json_object_set_new(object, keys(q)[f], real_or_null(values[f]));
    return object;
}

static json_t *method_json(const eval_question *q, const eval_method *m)
{
    json_t *object = figures_json(q, m->figures[0], figures(q));
    if (!q->ngroups) return object;
    json_t *groups = json_object();
    for (size_t g = 0; g < q->ngroups; g++) {
        json_t *group = figures_json(q, m->figures[1 + g], figures(q));
        json_object_set_new(group, "images", json_integer((json_int_t)q->group_n[g]));
        json_object_set_new(groups, q->groups[g], group);
    }
    json_object_set_new(object, "groups", groups);
    json_object_set_new(object, "harmonic_mean", figures_json(q, m->mean, figures(q)));
    return object;
}

static json_t *interval_json(const reco_interval *i)
{
    return json_pack("{s:o, s:o, s:o}", "mean", real_or_null(i->mean), "low", real_or_null(i->low), "high",
                     real_or_null(i->high));
}

static json_t *off_json(const eval_question *q, const eval_run *r)
{
    json_t *off = json_object();
    for (int side = 0; side < (q->retrieval ? 2 : 1); side++)
        json_object_set_new(off, keys(q)[3 * side], interval_json(&r->off[side]));
    return off;
}

static json_t *run_json(const eval_question *q, const eval_run *r)
{
    return json_pack("{s:o, s:o, s:I, s:b, s:s, s:s, s:o, s:o, s:o, s:o}", "bank", cli_bank_text(r->bank),
                     "fusion", cli_text(r->fusion), "k", (json_int_t)r->k, "control", r->control, "layer",
                     reco_layer_name(r->layer), "refined", cli_sides_name(r->sides), "mixture",
                     cli_mixture(&r->mixture), "cosines", method_json(q, &r->cosines), "reco",
                     method_json(q, &r->reco), "difference", off_json(q, r));
}

/* n [classes] pictures of each class, and how many a method names right. */
static uint32_t *count_right(const eval_args *a, const eval_question *q, const eval_method *m)
{
    uint32_t *n = calloc(a->z.among.n + 1, sizeof *n);
    for (size_t i = 0; n && i < q->n; i++) n[q->labels[i]] += !m || m->hit[0][i] > 0;
    return n;
}

static json_t *per_class(const eval_args *a, const eval_question *q, const eval_runs *r)
{
    json_t *list = json_array();
    uint32_t *n = count_right(a, q, NULL), *clip = count_right(a, q, &r->clip);
    for (size_t j = 0; n && clip && j < a->z.among.n; j++)
        json_array_append_new(
            list, json_pack("{s:o, s:I, s:o, s:[]}", "class", cli_text(zero_shot_name(&a->z, j)), "images",
                            (json_int_t)n[j], "clip", real_or_null((double)clip[j] / n[j]), "runs"));
    for (size_t i = 0; n && clip && i < r->n; i++) {
        uint32_t *right = count_right(a, q, &r->runs[i].reco);
        for (size_t j = 0; right && j < a->z.among.n; j++)
            json_array_append_new(json_object_get(json_array_get(list, j), "runs"),
                                  real_or_null((double)right[j] / n[j]));
        free(right);
    }
    free(n), free(clip);
    return list;
}

/* Names of classes without a picture. */
static json_t *empty_classes(const eval_args *a, const eval_question *q)
{
    json_t *list = json_array();
    uint32_t *n = count_right(a, q, NULL);
    for (size_t j = 0; n && j < a->z.among.n; j++)
        if (!n[j]) json_array_append_new(list, cli_text(zero_shot_name(&a->z, j)));
    free(n);
    return list;
}

/* What classification has besides. */
static void add_classes(json_t *all, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    const eval_run *first = &r->runs[0];
    json_object_set_new(all, "labels", json_string(q->how));
    json_object_set_new(all, "classes_merged", json_integer((json_int_t)reco_class_list_merged(a->z.list)));
    json_object_set_new(all, "classes_without_pictures", empty_classes(a, q));
    json_object_set_new(all, "calibration_error",
                        json_pack("{s:o, s:o, s:o}", "clip", real_or_null(r->clip.figures[0][3]), "reco",
                                  real_or_null(first->reco.figures[0][3]), "cosines",
                                  real_or_null(first->cosines.figures[0][3])));
    if (a->per_class) json_object_set_new(all, "per_class", per_class(a, q, r));
    if (!is_single_run(a, r)) return;
    json_object_set_new(all, "clip", figures_json(q, r->clip.figures[0], 3));
    json_object_set_new(all, "reco", figures_json(q, first->reco.figures[0], 3));
    json_object_set_new(all, "cosines", figures_json(q, first->cosines.figures[0], 3));
}

static size_t failures(const eval_args *a, const eval_question *q)
{
    return q->total - (q->retrieval ? a->z.among.n : q->n);
}

static void print_json(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    json_t *runs = json_array();
    for (size_t i = 0; i < r->n; i++) json_array_append_new(runs, run_json(q, &r->runs[i]));
    const eval_run *first = &r->runs[0];
    json_t *all =
        json_pack("{s:s, s:I, s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:O}", "task",
                  q->retrieval ? "retrieval" : "classification", "images", (json_int_t)q->n,
                  q->retrieval ? "captions" : "classes", (json_int_t)a->z.among.n, "clip",
                  method_json(q, &r->clip), "refined", cli_sides_name(first->sides), "mixture",
                  cli_mixture(&first->mixture), "cosines", method_json(q, &first->cosines), "reco",
                  method_json(q, &first->reco), "difference", off_json(q, first), "runs", runs, "truncated",
                  (json_int_t)c->truncated, "failures", (json_int_t)failures(a, q), "failed", c->failed);
    if (all && !q->retrieval) add_classes(all, a, q, r);
    cli_tell_search(c, NULL, all);
    cli_print(all);
}

/* ---- text ---- */

/* A table of methods; names are as wide as theirs may be. */
typedef struct table {
    const eval_args *a;
    const eval_question *q;
    int width;
} table;

static void print_figures(const table *t, const char *name, const double *values)
{
    printf("%-*.*s", t->width, t->width, name);
    for (int f = 0; f < figures(t->q); f++)
        if (isfinite(values[f]))
            printf(" %10.2f%%", 100 * values[f]);
        else
            printf(" %11s", "-");
}

static void print_off(const reco_interval *i)
{
    printf("  %+.2f (%+.2f to %+.2f)", 100 * i->mean, 100 * i->low, 100 * i->high);
}

static void print_method(const table *t, const char *name, const eval_method *m, const eval_run *run)
{
    const eval_question *q = t->q;
    print_figures(t, name, m->figures[0]);
    for (int side = 0; run && side < (q->retrieval ? 2 : 1); side++) print_off(&run->off[side]);
    putchar('\n');
    for (size_t g = 0; g < q->ngroups; g++) {
        char line[64];
        snprintf(line, sizeof line, "  %.40s (%zu)", q->groups[g], q->group_n[g]);
        reco_text_clean(line);
        print_figures(t, line, m->figures[1 + g]);
        putchar('\n');
    }
    if (q->ngroups) {
        print_figures(t, "  harmonic mean", m->mean);
        putchar('\n');
    }
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* What was asked; of one run how, too. */
static void print_head(const eval_args *a, const eval_question *q, const eval_runs *r)
{
    const size_t n = a->z.among.n;
    if (q->retrieval) printf("%zu picture%s, %zu caption%s", q->n, cli_s(q->n), n, cli_s(n));
    if (!q->retrieval) {
        json_t *empty = empty_classes(a, q);
        size_t none = json_array_size(empty), merged = reco_class_list_merged(a->z.list);
        printf("%zu picture%s, %zu class%s", q->n, cli_s(q->n), n, n == 1 ? "" : "es");
        if (merged) printf(" (%zu name%s merged)", merged, cli_s(merged));
        if (none) printf(" (%zu without a picture)", none);
        json_decref(empty);
    }
    if (r->n == 1) {
        printf(", refined: %s", r->refined);
        if (r->runs[0].mixture.scale[0] > 0) {
            fputs(", mixture: ", stdout);
            cli_print_mixture(&r->runs[0].mixture);
        }
    }
    putchar('\n');
}

/* A run among others has a name. */
static void print_run(const table *t, const eval_run *run)
{
    char name[256], where[64] = "";
    bool mixes = run->mixture.scale[0] > 0;
    if (t->a->z.nbanks > 1) {
        char *bank = strdup(run->bank); /* a URL, maybe, with a password */
        if (bank && reco_bank_is_server(bank)) reco_text_clean(bank);
        if (bank) snprintf(where, sizeof where, " %.40s", last_part(bank));
        free(bank);
    }
    snprintf(name, sizeof name, "%.80s%s k=%zu %s", last_part(run->fusion), where, run->k,
             cli_sides_name(run->sides));
    reco_text_clean(name);
    if (mixes) {
        print_method(t, name, &run->cosines, NULL);
        fputs("+ mixture: ", stdout);
        cli_print_mixture(&run->mixture);
        putchar('\n');
    }
    print_method(t, mixes ? "RECO" : name, &run->reco, run);
}

static void print_classes(const eval_args *a, const eval_question *q, const eval_runs *r)
{
    json_t *list = per_class(a, q, r), *one;
    size_t i;
    puts("\n  pictures     CLIP     RECO  class");
    json_array_foreach(list, i, one)
    {
        json_int_t n = json_integer_value(json_object_get(one, "images"));
        if (n == 0) continue;
        printf("  %8lld %7.2f%% %7.2f%%  ", (long long)n,
               100 * json_real_value(json_object_get(one, "clip")),
               100 * json_real_value(json_array_get(json_object_get(one, "runs"), 0)));
        cli_put(json_string_value(json_object_get(one, "class")));
        putchar('\n');
    }
    json_decref(list);
}

static void print_eval_table(const eval_args *a, const eval_question *q, const eval_runs *r)
{
    const table t = {a, q, r->n == 1 && !q->ngroups ? 8 : 36};
    print_head(a, q, r);
    if (q->n == 0) {
        puts("no pictures: there is no accuracy");
        return;
    }
    printf("\n%-*s", t.width, "");
    for (int f = 0; f < figures(q); f++) printf(" %11s", (q->retrieval ? pair_heads : class_heads)[f]);
    puts(q->retrieval ? "  i2t@1 and t2i@1 minus CLIP's, with 95 % intervals"
                      : "  acc@1 minus CLIP's, with its 95 % interval");
    print_method(&t, "CLIP", &r->clip, NULL);
    if (r->n == 1) {
        if (r->runs[0].mixture.scale[0] > 0) print_method(&t, "cosines", &r->runs[0].cosines, NULL);
        print_method(&t, "RECO", &r->runs[0].reco, &r->runs[0]);
    }
    for (size_t i = 0; r->n > 1 && i < r->n; i++) print_run(&t, &r->runs[i]);
    if (a->per_class && !q->retrieval) print_classes(a, q, r);
}

void eval_print(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    cli_clear_bar(c);
    if (c->json)
        print_json(c, a, q, r);
    else
        print_eval_table(a, q, r);
}

/* ---- CLIP_benchmark ---- */

static json_t *benchmark(const eval_args *a, const eval_question *q, const char *model,
                         const eval_method *m)
{
    const double *v = m->figures[0];
    json_t *metrics =
        q->retrieval ? json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "image_retrieval_recall@1",
                                 real_or_null(v[3]), "image_retrieval_recall@5", real_or_null(v[4]),
                                 "image_retrieval_recall@10", real_or_null(v[5]), "text_retrieval_recall@1",
                                 real_or_null(v[0]), "text_retrieval_recall@5", real_or_null(v[1]),
                                 "text_retrieval_recall@10", real_or_null(v[2]))
                     : json_pack("{s:o, s:o, s:o}", "acc1", real_or_null(v[0]), "acc5", real_or_null(v[1]),
                                 "mean_per_class_recall", real_or_null(v[2]));
    return json_pack("{s:o, s:o, s:s, s:s, s:o, s:s}", "dataset",
                     cli_text(a->embeddings ? a->embeddings
                              : a->labels   ? a->labels
                                            : a->z.images),
                     "model", cli_text(model), "pretrained", "reco", "task",
                     q->retrieval ? "zeroshot_retrieval" : "zeroshot_classification", "metrics", metrics,
                     "language", "en");
}

static reco_status write_one(const eval_args *a, const eval_question *q, const char *name,
                             const char *model, const eval_method *m)
{
    char *path;
    cli_file file;
    json_t *json = benchmark(a, q, model, m);
    if (!json || asprintf(&path, "%s%s.json", a->results, name) < 0) {
        json_decref(json);
        return RECO_E_NOMEM;
    }
    reco_status status = cli_file_begin(&file, path);
    if (status == RECO_OK) json_dumpf(json, file.out, JSON_REAL_PRECISION(15));
    status = cli_file_end(&file, status);
    json_decref(json);
    free(path);
    return status;
}

reco_status eval_write_results(const eval_args *a, const eval_question *q, const eval_runs *r)
{
    reco_status status = write_one(a, q, "clip", "CLIP", &r->clip);
    for (size_t i = 0; i < r->n && status == RECO_OK; i++) {
        const eval_run *run = &r->runs[i];
        char name[32], *model;
        snprintf(name, sizeof name, "reco-%zu", i);
        if (asprintf(&model, "RECO %s %s k=%zu", run->bank, run->fusion, run->k) < 0) return RECO_E_NOMEM;
        reco_text_clean(model);
        status = write_one(a, q, name, model, &run->reco);
        free(model);
    }
    return status;
}
