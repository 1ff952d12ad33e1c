/* What eval found of several methods: a table, JSON, and CLIP_benchmark's files. */
#include "eval_runs.h"

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
static const char *const *keys(const eval_question *q) { return q->retrieval ? pair_keys : class_keys; }

/* ---- JSON ---- */

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *figures_json(const eval_question *q, const double *values)
{
    json_t *object = json_object();
    for (int f = 0; f < figures(q); f++) json_object_set_new(object, keys(q)[f], number(values[f]));
    return object;
}

static json_t *method_json(const eval_question *q, const eval_method *m)
{
    json_t *object = figures_json(q, m->figures[0]);
    if (!q->ngroups) return object;
    json_t *groups = json_object();
    for (size_t g = 0; g < q->ngroups; g++) {
        json_t *group = figures_json(q, m->figures[1 + g]);
        json_object_set_new(group, "images",
                            json_integer((json_int_t)(q->start[0][g + 1] - q->start[0][g])));
        json_object_set_new(groups, q->groups[g], group);
    }
    json_object_set_new(object, "groups", groups);
    json_object_set_new(object, "harmonic_mean", figures_json(q, m->mean));
    return object;
}

static json_t *interval_json(const reco_interval *i)
{
    return json_pack("{s:o, s:o, s:o}", "mean", number(i->mean), "low", number(i->low), "high",
                     number(i->high));
}

static json_t *run_json(const eval_question *q, const eval_run *r)
{
    json_t *off = json_object();
    for (int side = 0; side < (q->retrieval ? 2 : 1); side++)
        json_object_set_new(off, keys(q)[3 * side], interval_json(&r->off[side]));
    return json_pack("{s:o, s:o, s:I, s:b, s:s, s:s, s:o, s:o, s:o, s:o}", "bank", cli_text(r->bank),
                     "fusion", cli_text(r->fusion), "k", (json_int_t)r->k, "control", r->control, "layer",
                     reco_layer_name(r->layer), "refined", cli_sides_name(r->sides), "mixture",
                     cli_mixture(&r->mixture), "cosines", method_json(q, &r->cosines), "reco",
                     method_json(q, &r->reco), "difference", off);
}

static json_t *per_class(const eval_question *q, const eval_runs *r)
{
    json_t *list = json_array();
    uint32_t *n = calloc(q->c + 1, sizeof *n);
    for (size_t i = 0; n && i < q->n; i++) n[q->labels[i]]++;
    for (size_t j = 0; n && j < q->c; j++) {
        json_t *right = json_array();
        for (size_t i = 0; i < r->n; i++)
            json_array_append_new(right, number((double)r->runs[i].reco.right[j] / n[j]));
        json_array_append_new(list, json_pack("{s:o, s:I, s:o, s:o}", "class", cli_text(q->names[j]),
                                              "images", (json_int_t)n[j], "clip",
                                              number((double)r->clip.right[j] / n[j]), "runs", right));
    }
    free(n);
    return list;
}

static void print_json(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    json_t *runs = json_array();
    for (size_t i = 0; i < r->n; i++) json_array_append_new(runs, run_json(q, &r->runs[i]));
    const eval_run *first = &r->runs[0];
    json_t *all =
        json_pack("{s:s, s:I, s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:O}", "task",
                  q->retrieval ? "retrieval" : "classification", "images", (json_int_t)q->n,
                  q->retrieval ? "captions" : "classes", (json_int_t)q->c, "clip", method_json(q, &r->clip),
                  "refined", cli_sides_name(first->sides), "mixture", cli_mixture(&first->mixture),
                  "cosines", method_json(q, &first->cosines), "reco", method_json(q, &first->reco), "runs",
                  runs, "truncated", (json_int_t)c->truncated, "failures",
                  (json_int_t)(q->total - (q->retrieval ? q->c : q->n)), "failed", c->failed);
    if (all && !q->retrieval) json_object_set_new(all, "labels", json_string(q->how));
    if (all && a->per_class && !q->retrieval) json_object_set_new(all, "per_class", per_class(q, r));
    cli_print(all);
}

/* ---- text ---- */

static void print_figures(const char *name, const eval_question *q, const double *values)
{
    printf("  %-34.34s", name);
    for (int f = 0; f < figures(q); f++)
        if (isfinite(values[f]))
            printf(" %10.2f%%", 100 * values[f]);
        else
            printf(" %11s", "-");
}

static void print_off(const reco_interval *i)
{
    printf("  %+.2f (%+.2f to %+.2f)", 100 * i->mean, 100 * i->low, 100 * i->high);
}

static void print_method(const char *name, const eval_question *q, const eval_method *m,
                         const eval_run *run)
{
    print_figures(name, q, m->figures[0]);
    for (int side = 0; run && side < (q->retrieval ? 2 : 1); side++) print_off(&run->off[side]);
    putchar('\n');
    for (size_t g = 0; g < q->ngroups; g++) {
        char line[64];
        snprintf(line, sizeof line, "  %.40s (%zu)", q->groups[g], q->start[0][g + 1] - q->start[0][g]);
        reco_text_clean(line);
        print_figures(line, q, m->figures[1 + g]);
        putchar('\n');
    }
    if (q->ngroups) {
        print_figures("  harmonic mean", q, m->mean);
        putchar('\n');
    }
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void print_text(const cli *c, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    (void)c;
    if (q->retrieval)
        printf("%zu picture%s, %zu caption%s\n\n", q->n, cli_s(q->n), q->c, cli_s(q->c));
    else
        printf("%zu picture%s, %zu class%s\n\n", q->n, cli_s(q->n), q->c, q->c == 1 ? "" : "es");
    if (q->n == 0) {
        puts("no pictures: there is no accuracy");
        return;
    }
    printf("  %-34s", "");
    for (int f = 0; f < figures(q); f++) printf(" %11s", (q->retrieval ? pair_heads : class_heads)[f]);
    puts(q->retrieval ? "  to CLIP, i2t@1 and t2i@1, with 95 % intervals"
                      : "  to CLIP, acc@1, with its 95 % interval");
    print_method("CLIP", q, &r->clip, NULL);
    for (size_t i = 0; i < r->n; i++) {
        const eval_run *run = &r->runs[i];
        char name[256], where[64] = "";
        if (a->z.nbanks > 1) snprintf(where, sizeof where, " %.40s", last_part(run->bank));
        snprintf(name, sizeof name, "%.80s%s k=%zu %s", last_part(run->fusion), where, run->k,
                 cli_sides_name(run->sides));
        reco_text_clean(name);
        bool mixes = run->mixture.scale[0] > 0;
        if (mixes) {
            print_method(name, q, &run->cosines, NULL);
            fputs("  + mixture: ", stdout);
            cli_print_mixture(&run->mixture);
            putchar('\n');
        }
        print_method(mixes ? "RECO" : name, q, &run->reco, run);
    }
    if (!a->per_class || q->retrieval) return;
    json_t *list = per_class(q, r), *one;
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

void eval_runs_print(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    cli_clear_bar(c);
    if (c->json)
        print_json(c, a, q, r);
    else
        print_text(c, a, q, r);
}

/* ---- CLIP_benchmark ---- */

static json_t *benchmark(const eval_args *a, const eval_question *q, const char *model,
                         const eval_method *m)
{
    const double *v = m->figures[0];
    json_t *metrics =
        q->retrieval
            ? json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "image_retrieval_recall@1", number(v[3]),
                        "image_retrieval_recall@5", number(v[4]), "image_retrieval_recall@10", number(v[5]),
                        "text_retrieval_recall@1", number(v[0]), "text_retrieval_recall@5", number(v[1]),
                        "text_retrieval_recall@10", number(v[2]))
            : json_pack("{s:o, s:o, s:o}", "acc1", number(v[0]), "acc5", number(v[1]),
                        "mean_per_class_recall", number(v[2]));
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

reco_status eval_runs_write(cli *c, const eval_args *a, const eval_question *q, const eval_runs *r)
{
    (void)c;
    reco_status status = write_one(a, q, "clip", "CLIP", &r->clip);
    for (size_t i = 0; i < r->n && status == RECO_OK; i++) {
        const eval_run *run = &r->runs[i];
        char name[32], *model;
        snprintf(name, sizeof name, "reco-%zu", i);
        if (asprintf(&model, "RECO %s %s k=%zu", run->bank, run->fusion, run->k) < 0) return RECO_E_NOMEM;
        status = write_one(a, q, name, model, &run->reco);
        free(model);
    }
    return status;
}
