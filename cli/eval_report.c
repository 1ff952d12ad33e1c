#include "eval.h"

#include <math.h>
#include <stdlib.h>

static json_t *top_json(const eval_work *w, const int64_t *top)
{
    json_t *list = json_array();
    for (int j = 0; j < 5 && top[j] >= 0; j++) json_array_append_new(list, cli_text(w->z->classes[top[j]]));
    return list;
}

static reco_status write_rows(cli *c, const eval_work *w, FILE *file)
{
    for (size_t i = 0; i < w->n; i++) {
        const int64_t *answer = w->top[eval_answer(w)] + i * 5;
        json_t *found = zero_shot_neighbours(c, w->z, i, (size_t)answer[0]);
        if (!found) return RECO_E_FORMAT; /* the context has the reason */
        json_t *row =
            json_pack("{s:o, s:o, s:o, s:o, s:o}", "image", cli_text(w->images[i]), "label",
                      cli_text(w->z->classes[w->labels[i]]), "clip", top_json(w, w->top[0] + i * 5), "reco",
                      top_json(w, answer), "neighbours", found);
        if (!row) return RECO_E_NOMEM;
        json_dumpf(row, file, JSON_COMPACT | JSON_REAL_PRECISION(6));
        fputc('\n', file);
        json_decref(row);
    }
    return RECO_OK;
}

reco_status eval_write_details(cli *c, const eval_args *a, const eval_work *w)
{
    cli_file file;
    reco_status status = cli_file_begin(&file, a->details);
    if (status == RECO_OK) status = write_rows(c, w, file.out);
    return cli_file_end(&file, status);
}

/* null where nothing was counted: no accuracy is 0 then */
static json_t *share(double value) { return isnan(value) ? json_null() : json_real(value); }

static json_t *scores_json(const reco_class_scores *s)
{
    return json_pack("{s:o, s:o, s:o}", "acc1", share(s->acc1), "acc5", share(s->acc5), "mean_per_class",
                     share(s->mean_per_class));
}

/* Names of classes without a picture. */
static json_t *empty_classes(const eval_work *w)
{
    json_t *list = json_array();
    unsigned char *seen = calloc(w->z->nclasses, 1);
    for (size_t i = 0; seen && i < w->n; i++) seen[w->labels[i]] = 1;
    for (size_t i = 0; seen && i < w->z->nclasses; i++)
        if (!seen[i]) json_array_append_new(list, cli_text(w->z->classes[i]));
    free(seen);
    return list;
}

void eval_print(cli *c, const eval_args *a, const eval_work *w, const reco_class_scores s[3])
{
    json_t *empty = empty_classes(w);
    size_t none = json_array_size(empty), merged = reco_class_list_merged(w->z->list);
    if (c->json) {
        cli_print(json_pack(
            "{s:I, s:I, s:I, s:O, s:s, s:I, s:I, s:O, s:s, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}}",
            "images", (json_int_t)w->n, "classes", (json_int_t)w->z->nclasses, "classes_merged",
            (json_int_t)merged, "classes_without_pictures", empty, "labels", a->how, "truncated",
            (json_int_t)c->truncated, "failures", (json_int_t)(w->total - w->n), "failed", c->failed,
            "refined", cli_sides_name(w->z->s.sides), "clip", scores_json(&s[0]), "reco",
            scores_json(&s[eval_answer(w)]), "cosines", scores_json(&s[1]), "mixture",
            cli_mixture(&w->z->s.mixture), "calibration_error", "clip", share(s[0].calibration), "reco",
            share(s[eval_answer(w)].calibration), "cosines", share(s[1].calibration)));
        json_decref(empty);
        return;
    }
    json_decref(empty);
    printf("%zu picture%s, %zu class%s", w->n, cli_s(w->n), w->z->nclasses,
           w->z->nclasses == 1 ? "" : "es");
    if (merged) printf(" (%zu name%s merged)", merged, cli_s(merged));
    if (none) printf(" (%zu without a picture)", none);
    printf(", refined: %s", zero_shot_refined(w->z));
    if (zero_shot_mixes(w->z)) {
        fputs(", mixture: ", stdout);
        cli_print_mixture(&w->z->s.mixture);
    }
    putchar('\n');
    if (w->n == 0) {
        puts("no pictures: there is no accuracy");
        return;
    }
    static const char *const rows[] = {"CLIP", "cosines", "RECO"};
    printf("\n              acc@1   acc@5   per class   calibration error\n");
    for (int r = 0; r <= eval_answer(w); r++)
        printf("%-10s %7.2f%% %7.2f%% %9.2f%% %18.2f%%\n", r == eval_answer(w) ? "RECO" : rows[r],
               100 * s[r].acc1, 100 * s[r].acc5, 100 * s[r].mean_per_class, 100 * s[r].calibration);
}
