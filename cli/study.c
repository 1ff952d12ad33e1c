#include "recall.h"
#include "study.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct args {
    cli *common;
    const char *config, *out;
    bool dry;
} args;

enum { KEY_OUT = 0x100, KEY_DRY };

static error_t parse_study_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 4; i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_DRY:
        a->dry = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->config) argp_error(state, "unexpected argument \"%s\"", arg);
        a->config = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->config, "CONFIG.toml");
        if (!a->dry) cli_need(state, a->out, "--out");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"out", KEY_OUT, "DIR", 0,
     "Folder for results, checkpoints and tables; an interrupted study resumes there", 1},
    {"dry-run", KEY_DRY, NULL, 0, "Show what would be done and about how long it would take; write nothing",
     1},
    {0},
};
static const struct argp_child children[] = {{&cli_model_options, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {&cli_labels_options, 0, NULL, 0},
                                             {&cli_strict_option, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse_study_option,
    "CONFIG.toml",
    "Train and evaluate a grid of ablations, and print one table.\v"
    "Example:\n  reco study study.toml --out study/\n"
    "Writes table.txt, table.json, table.csv, table.tex and index.html, with plots, to DIR.",
    children,
    NULL,
    NULL};

static void print_plan(const cli *c, const reco_study *study)
{
    reco_study_plan plan = *reco_study_get_plan(study);
    json_t *rows = json_array();
    for (size_t i = 0; i < plan.rows; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        if (c->json)
            json_array_append_new(rows, json_pack("{s:s, s:o, s:I}", "group", row.group, "name",
                                                  cli_text(row.name), "seeds", (json_int_t)row.seeds));
        else
            cli_say("%-34s %-34s %2zu seed%s", study_group_title(row.group), row.name, row.seeds,
                    cli_s(row.seeds));
    }
    if (c->json) {
        cli_print(json_pack("{s:I, s:I, s:f, s:o}", "cells", (json_int_t)plan.cells, "trainings",
                            (json_int_t)plan.trainings, "minutes", plan.minutes, "rows", rows));
        return;
    }
    json_decref(rows);
    printf("%zu row%s, %zu cell%s, %zu layer%s to train, about %.0f minutes on two cores with AVX2\n",
           plan.rows, cli_s(plan.rows), plan.cells, cli_s(plan.cells), plan.trainings,
           cli_s(plan.trainings), plan.minutes);
}

typedef struct report {
    const reco_study *study;
    const reco_study_result *result;
} report;

static void put_text(const report *r, FILE *out) { study_text(r->study, out); }
static void put_csv(const report *r, FILE *out) { study_csv(r->study, out); }
static void put_latex(const report *r, FILE *out) { study_latex(r->study, out); }
static void put_page(const report *r, FILE *out) { study_page(r->study, r->result, out); }
static void put_json(const report *r, FILE *out)
{
    json_t *all = study_json(r->study, r->result);
    json_dumpf(all, out, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    fputc('\n', out);
    json_decref(all);
}

static reco_status write_reports(const args *a, const report *r)
{
    static const struct {
        const char *name;
        void (*put)(const report *, FILE *);
    } files[] = {{"table.txt", put_text},
                 {"table.json", put_json},
                 {"table.csv", put_csv},
                 {"table.tex", put_latex},
                 {"index.html", put_page}};
    reco_status status = RECO_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && status == RECO_OK; i++) {
        cli_file file = {0};
        char *path;
        if (asprintf(&path, "%s/%s", a->out, files[i].name) < 0) return RECO_E_NOMEM;
        status = cli_file_begin(&file, path);
        if (status == RECO_OK) files[i].put(r, file.out);
        status = cli_file_end(&file, status);
        free(path);
    }
    return status;
}

/* A line for each cell that was not there. */
static int print_study_step(void *user, const reco_study_step *s)
{
    cli *c = user;
    char left[32], name[128];
    snprintf(name, sizeof name, "%s%s%s", study_group_title(s->row->group), ": ", s->row->name);
    reco_text_clean(name);
    if (!s->done) {
        snprintf(c->within, sizeof c->within, "%zu/%zu, %.60s", s->at, s->cells, name);
        c->whole = (double)(s->at - 1) / (double)s->cells;
        return cli_stopped();
    }
    if (c->quiet || s->reused) return cli_stopped();
    cli_clear_bar(c);
    cli_clock(left, s->left);
    fprintf(stderr, "reco: %zu/%zu, %s, seed %llu: %.1f %%, %.1f s, about %s left\n", s->at, s->cells, name,
            (unsigned long long)s->seed, 100 * s->top1, s->seconds, left);
    return cli_stopped();
}

static reco_status run_study(cli *c, const args *a, reco_study *study, reco_study_result *result)
{
    size_t n;
    const char *const *inputs = reco_study_inputs(study, &n);
    reco_study_opts opts = {.model = {.precision = c->precision, .exif = c->exif},
                            .table = &c->table,
                            .failure = cli_failure,
                            .step = print_study_step,
                            .user = c};
    reco_status status = cli_output(c, a->out, RECO_OUT_FOLDER, NULL, inputs, n);
    if (status == RECO_OK) status = reco_study_run(c->ctx, study, a->out, &opts, result);
    *c->within = 0;
    report r = {study, result};
    if (status == RECO_OK) cli_say_recall(c, NULL, (double)result->recall);
    if (status == RECO_OK) status = write_reports(a, &r);
    if (status != RECO_OK) return status;
    cli_clear_bar(c);
    if (c->json)
        cli_print(study_json(study, result));
    else {
        study_text(study, stdout);
        putchar('\n');
        cli_say("%zu cells, %zu of them from earlier runs; %zu layers trained; %.0f s; %s/index.html",
                result->cells, result->reused, result->trained, result->seconds, a->out);
    }
    return RECO_OK;
}

int cmd_study(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_study *study = NULL;
    reco_study_result result = {0};
    int strict = 0;
    c.said = json_object();
    reco_status status = reco_study_open(c.ctx, &study, a.config);
    if (status == RECO_OK && a.dry)
        print_plan(&c, study);
    else if (status == RECO_OK)
        status = run_study(&c, &a, study, &result);
    if (status == RECO_OK && !a.dry) strict = cli_skipped(&c, result.failures, NULL);
    reco_study_close(study);
    json_decref(c.said);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
