/* The table of a study as text, JSON, CSV and LaTeX. Figures are percent. */
#include "study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool study_shows(const reco_study *study, reco_study_metric metric)
{
    return !isnan(reco_study_get_row(study, 0)->mean[metric]);
}

const char *study_heading(reco_study_metric metric)
{
    static const char *const names[] = {"all", "old", "new", "harmonic mean", "top 5", "per class"};
    return (unsigned)metric < RECO_STUDY_METRICS ? names[metric] : "?";
}

const char *study_group_title(const char *group)
{
    static const char *const titles[][2] = {{"controls", "Controls"},
                                            {"modality", "Search and fusion"},
                                            {"sides", "Sides refined"},
                                            {"layers", "Layers"},
                                            {"depth", "Depth"},
                                            {"k", "Neighbours"},
                                            {"share", "Share of the memory"},
                                            {"wrong", "Wrong captions in the memory"},
                                            {"without", "Memory without concepts"},
                                            {"memory", "Another memory after training"},
                                            {"min_similarity", "Threshold"},
                                            {"mixture", "Mixture"}};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (strcmp(titles[i][0], group) == 0) return titles[i][1];
    return group;
}

/* Four digits after the point are more than any figure is worth, and the same on every machine. */
static json_t *percent(double share)
{
    char text[32];
    if (isnan(share)) return json_null();
    snprintf(text, sizeof text, "%.4f", 100 * share);
    return json_real(strtod(text, NULL));
}

static json_t *row_json(const reco_study *study, const reco_study_row *row)
{
    json_t *values = json_object();
    for (int m = 0; m < RECO_STUDY_METRICS; m++)
        if (study_shows(study, (reco_study_metric)m))
            json_object_set_new(values, reco_study_metric_name((reco_study_metric)m),
                                json_pack("{s:o, s:o}", "mean", percent(row->mean[m]), "deviation",
                                          percent(row->deviation[m])));
    return json_pack("{s:s, s:o, s:o, s:I, s:s, s:o, s:o, s:{s:o, s:o, s:o}}", "group", row->group, "name",
                     cli_text(row->name), "x", isnan(row->x) ? json_null() : json_real(row->x), "seeds",
                     (json_int_t)row->seeds, "refined", row->sides, "chosen",
                     *row->chosen ? json_string(row->chosen) : json_null(), "scores", values, "gain",
                     "mean", percent(row->gain.mean), "low", percent(row->gain.low), "high",
                     percent(row->gain.high));
}

json_t *study_json(const reco_study *study, const reco_study_result *result)
{
    json_t *rows = json_array();
    size_t n = reco_study_get_plan(study)->rows;
    for (size_t i = 0; i < n; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        json_array_append_new(rows, row_json(study, &row));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "title", cli_text(reco_study_title(study)),
                     "queries", (json_int_t)result->queries, "failures", (json_int_t)result->failures,
                     "classes", (json_int_t)result->classes, "cells", (json_int_t)result->cells,
                     "checkpoints", (json_int_t)result->checkpoints, "recall", cli_weight(result->recall),
                     "rows", rows);
}

/* "43.1 +- 0.2", or the mean alone of one seed. */
static void figure(char text[48], double mean, double deviation, const char *between)
{
    if (isnan(mean))
        snprintf(text, 48, "-");
    else if (isnan(deviation))
        snprintf(text, 48, "%.1f", 100 * mean);
    else
        snprintf(text, 48, "%.1f%s%.1f", 100 * mean, between, 100 * deviation);
}

/* Of text on one line of a terminal, in columns. */
static size_t name_text(char name[256], const reco_study_row *row)
{
    int control;
    size_t columns = 0;
    snprintf(name, 256, "%s", row->name);
    reco_text_clean(name);
    for (size_t at = 0, left = strlen(name), m; left; at += m, left -= m, columns++)
        m = reco_text_next(name + at, left, &control);
    return columns;
}

void study_text(const reco_study *study, FILE *out)
{
    size_t n = reco_study_get_plan(study)->rows, width = 15;
    const char *group = "";
    char name[256];
    for (size_t i = 0; i < n; i++) {
        const reco_study_row row = *reco_study_get_row(study, i);
        size_t columns = name_text(name, &row);
        if (columns > width) width = columns;
    }
    fprintf(out, "%-*s %5s %-6s %-6s", (int)width + 2, "top-1 accuracy, %", "seeds", "sides", "chosen");
    for (int m = 0; m < RECO_STUDY_METRICS; m++)
        if (study_shows(study, (reco_study_metric)m))
            fprintf(out, " %13s", study_heading((reco_study_metric)m));
    fprintf(out, "  all against CLIP (95 %%)\n");
    for (size_t i = 0; i < n; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        if (strcmp(group, row.group) != 0) fprintf(out, "\n%s\n", study_group_title(row.group));
        group = row.group;
        int gap = (int)(width - name_text(name, &row));
        fprintf(out, "  %s%*s %5zu %-6s %-6s", name, gap, "", row.seeds, row.sides, row.chosen);
        for (int m = 0; m < RECO_STUDY_METRICS; m++) {
            char text[48];
            figure(text, row.mean[m], row.deviation[m], " +- ");
            if (study_shows(study, (reco_study_metric)m)) fprintf(out, " %13s", text);
        }
        fprintf(out, "  %+.1f [%+.1f, %+.1f]\n", 100 * row.gain.mean, 100 * row.gain.low,
                100 * row.gain.high);
    }
}

/* ---- CSV: RFC 4180, and no cell that a spreadsheet would take for a formula ---- */

static void csv_cell(FILE *out, const char *text)
{
    bool formula = *text && strchr("=+-@\t", *text);
    fputc('"', out);
    if (formula) fputc('\'', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text == '\n' || *text == '\r' ? ' ' : *text, out);
    }
    fputc('"', out);
}

static void csv_number(FILE *out, double share)
{
    fputc(',', out);
    if (!isnan(share)) fprintf(out, "%.4f", 100 * share);
}

void study_csv(const reco_study *study, FILE *out)
{
    size_t n = reco_study_get_plan(study)->rows;
    fputs("group,name,x,seeds,refined,chosen", out);
    for (int m = 0; m < RECO_STUDY_METRICS; m++)
        if (study_shows(study, (reco_study_metric)m))
            fprintf(out, ",%s,%s_deviation", reco_study_metric_name((reco_study_metric)m),
                    reco_study_metric_name((reco_study_metric)m));
    fputs(",gain,gain_low,gain_high\n", out);
    for (size_t i = 0; i < n; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        fprintf(out, "%s,", row.group);
        csv_cell(out, row.name);
        fputc(',', out);
        if (!isnan(row.x)) fprintf(out, "%g", row.x);
        fprintf(out, ",%zu,%s,%s", row.seeds, row.sides, row.chosen);
        for (int m = 0; m < RECO_STUDY_METRICS; m++) {
            if (!study_shows(study, (reco_study_metric)m)) continue;
            csv_number(out, row.mean[m]);
            csv_number(out, row.deviation[m]);
        }
        csv_number(out, row.gain.mean);
        csv_number(out, row.gain.low);
        csv_number(out, row.gain.high);
        fputc('\n', out);
    }
}

/* ---- LaTeX, without packages ---- */

static void latex(FILE *out, const char *text)
{
    int control;
    for (size_t left = strlen(text), n; left; text += n, left -= n) {
        n = reco_text_next(text, left, &control);
        if (control)
            fputc('?', out);
        else if (strchr("&%$#_{}", *text))
            fprintf(out, "\\%c", *text);
        else if (*text == '\\')
            fputs("\\textbackslash{}", out);
        else if (*text == '~')
            fputs("\\textasciitilde{}", out);
        else if (*text == '^')
            fputs("\\textasciicircum{}", out);
        else if (*text == '<' || *text == '>')
            fprintf(out, "$%c$", *text);
        else
            fwrite(text, 1, n, out);
    }
}

void study_latex(const reco_study *study, FILE *out)
{
    size_t n = reco_study_get_plan(study)->rows, columns = 0;
    const char *group = "";
    for (int m = 0; m < RECO_STUDY_METRICS; m++) columns += study_shows(study, (reco_study_metric)m);
    fputs("% ", out);
    latex(out, reco_study_title(study));
    fputs("\n\\begin{tabular}{ll", out);
    for (size_t m = 0; m < columns; m++) fputc('r', out);
    fputs("r}\n\\hline\n", out);
    fputs(" & sides", out);
    for (int m = 0; m < RECO_STUDY_METRICS; m++)
        if (study_shows(study, (reco_study_metric)m))
            fprintf(out, " & %s", study_heading((reco_study_metric)m));
    fputs(" & against CLIP \\\\\n", out);
    for (size_t i = 0; i < n; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        if (strcmp(group, row.group) != 0)
            fprintf(out, "\\hline\n\\multicolumn{%zu}{l}{\\textit{%s}} \\\\\n", columns + 3,
                    study_group_title(row.group));
        group = row.group;
        latex(out, row.name);
        fprintf(out, " & %s", row.sides);
        for (int m = 0; m < RECO_STUDY_METRICS; m++) {
            char text[48];
            figure(text, row.mean[m], row.deviation[m], " \\pm ");
            if (study_shows(study, (reco_study_metric)m)) fprintf(out, " & $%s$", text);
        }
        fprintf(out, " & $%+.1f$ [$%+.1f$, $%+.1f$] \\\\\n", 100 * row.gain.mean, 100 * row.gain.low,
                100 * row.gain.high);
    }
    fputs("\\hline\n\\end{tabular}\n", out);
}
