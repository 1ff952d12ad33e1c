/* The page of a study: its plots as SVG, and its table. It stands alone. */
#include "explain.h"
#include "study.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 560, HEIGHT = 300, LEFT = 52, RIGHT = 16, TOP = 16, BOTTOM = 46, MOST_POINTS = 1024 };

/* Lines differ in dash and mark too, since colours alone do not reach everybody. */
static const struct {
    reco_study_metric metric;
    const char *colour, *dash;
} lines[] = {{RECO_STUDY_ALL, "#0b57b0", "none"},
             {RECO_STUDY_OLD, "#a85a00", "7 4"},
             {RECO_STUDY_NEW, "#116329", "2 3"},
             {RECO_STUDY_HARMONIC, "#8a1c6b", "9 3 2 3"}};
enum { LINES = sizeof lines / sizeof *lines };

typedef struct axis {
    double low, high; /* of the data */
    bool log2;
    double from, to; /* pixels */
} axis;

static double at(const axis *a, double v)
{
    double low = a->log2 ? log2(a->low) : a->low, high = a->log2 ? log2(a->high) : a->high;
    if (a->log2) v = log2(v);
    return a->from + (high > low ? (v - low) / (high - low) : 0.5) * (a->to - a->from);
}

static double step_of(double range)
{
    static const double steps[] = {1, 2, 5, 10, 20};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (range / steps[i] <= 6) return steps[i];
    return 20;
}

/* From 0, unless all of it lies in the upper half. */
static void round_axis(axis *y)
{
    if (y->high < 1) y->high = 1;
    if (y->low < y->high / 2) y->low = 0;
    double step = step_of(y->high - y->low);
    y->low = floor(y->low / step) * step;
    y->high = fmax(ceil(y->high / step) * step, y->low + step);
}

static void text_at(FILE *out, double x, double y, const char *anchor, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    page_text(out, text);
    fputs("</text>\n", out);
}

static void mark(FILE *out, int line, double x, double y)
{
    const char *colour = lines[line].colour;
    if (line == 0) fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, y, colour);
    if (line == 1)
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\" fill=\"%s\"/>\n", x - 3.5,
                y - 3.5, colour);
    if (line == 2) fprintf(out, "<path d=\"M%.1f %.1fl4.2 7.4h-8.4z\" fill=\"%s\"/>\n", x, y - 4.6, colour);
    if (line == 3)
        fprintf(out, "<path d=\"M%.1f %.1fl4.4 4.4l-4.4 4.4l-4.4 -4.4z\" fill=\"%s\"/>\n", x, y - 4.4,
                colour);
}

/* One metric over the points of a group: line, marks, and bars of one deviation to either side. */
static void draw_line(FILE *out, int line, const reco_study_row *rows, size_t n, const axis *x,
                      const axis *y)
{
    reco_study_metric m = lines[line].metric;
    fprintf(out,
            "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" points=\"",
            lines[line].colour, lines[line].dash);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s%.1f,%.1f", i ? " " : "", at(x, rows[i].x), at(y, 100 * rows[i].mean[m]));
    fputs("\"/>\n", out);
    for (size_t i = 0; i < n; i++) {
        double px = at(x, rows[i].x), sd = 100 * rows[i].deviation[m], mean = 100 * rows[i].mean[m];
        if (sd > 0)
            fprintf(out, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\"/>\n", px, at(y, mean - sd),
                    at(y, mean + sd), lines[line].colour);
        mark(out, line, px, at(y, mean));
    }
}

static void draw_grid(FILE *out, const char *title, const reco_study_row *rows, size_t n, const axis *x,
                      const axis *y)
{
    char text[32];
    double step = step_of(y->high - y->low);
    for (double v = y->low; v <= y->high + 1e-9; v += step) {
        fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"currentColor\" stroke-opacity=\".15\"/>\n", LEFT,
                at(y, v), WIDTH - RIGHT);
        snprintf(text, sizeof text, "%g", v);
        text_at(out, LEFT - 8, at(y, v) + 4, "end", text);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%g", rows[i].x);
        text_at(out, at(x, rows[i].x), HEIGHT - BOTTOM + 18, "middle", text);
    }
    text_at(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6, "middle", title);
}

static void draw_clip(FILE *out, const reco_study *study, const axis *y)
{
    double v = at(y, 100 * reco_study_get_row(study, 0)->mean[RECO_STUDY_ALL]);
    fprintf(out,
            "<path d=\"M%d %.1fH%d\" stroke=\"currentColor\" stroke-opacity=\".6\" stroke-dasharray=\"1 "
            "3\"/>\n",
            LEFT, v, WIDTH - RIGHT);
    text_at(out, WIDTH - RIGHT, v - 4, "end", "CLIP, all");
}

/* Points in order of their place, since a file may list them in any. */
static size_t points(const reco_study *study, const char *group, reco_study_row *rows)
{
    size_t n = 0, total = reco_study_get_plan(study)->rows;
    for (size_t i = 0; i < total && n < MOST_POINTS; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        if (strcmp(row.group, group) != 0 || isnan(row.x)) continue;
        size_t j = n++;
        for (; j > 0 && rows[j - 1].x > row.x; j--) rows[j] = rows[j - 1];
        rows[j] = row;
    }
    return n;
}

static void draw(FILE *out, const reco_study *study, const char *group, const char *axis_title)
{
    static const char *const classes[] = {"a", "b", "c", "d"};
    reco_study_row rows[MOST_POINTS];
    size_t n = points(study, group, rows);
    if (n < 2) return;
    axis x = {rows[0].x, rows[n - 1].x, strcmp(group, "k") == 0, LEFT + 12, WIDTH - RIGHT - 12};
    const double clip = 100 * reco_study_get_row(study, 0)->mean[RECO_STUDY_ALL];
    axis y = {clip, clip, false, HEIGHT - BOTTOM, TOP};
    for (size_t i = 0; i < n; i++)
        for (int l = 0; l < LINES; l++) {
            double mean = 100 * rows[i].mean[lines[l].metric],
                   sd = 100 * rows[i].deviation[lines[l].metric];
            y.low = fmin(y.low, mean - fmax(sd, 0)); /* of NaN fmin and fmax take the other */
            y.high = fmax(y.high, mean + fmax(sd, 0));
        }
    round_axis(&y);
    fputs("<section class=\"card\"><h3>", out);
    page_text(out, study_group_title(group));
    fprintf(out,
            "</h3>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" style=\"width:100%%;max-width:%dpx;height:auto;"
            "font-size:12px;fill:currentColor\"><title>",
            WIDTH, HEIGHT, WIDTH);
    page_text(out, study_group_title(group));
    fputs("</title>\n", out);
    draw_grid(out, axis_title, rows, n, &x, &y);
    draw_clip(out, study, &y);
    for (int l = 0; l < LINES; l++)
        if (study_shows(study, lines[l].metric)) draw_line(out, l, rows, n, &x, &y);
    fputs("</svg>\n<p class=\"facts\">", out);
    for (int l = 0; l < LINES; l++) {
        if (!study_shows(study, lines[l].metric)) continue;
        fprintf(out,
                "<svg width=\"30\" height=\"12\" aria-hidden=\"true\"><path d=\"M0 6H30\" stroke=\"%s\" "
                "stroke-width=\"2\" stroke-dasharray=\"%s\"/>",
                lines[l].colour, lines[l].dash);
        mark(out, l, 15, 6);
        fprintf(out, "</svg> <span class=\"%s\">%s</span> &nbsp; ", classes[l],
                study_heading(lines[l].metric));
    }
    fputs("</p></section>\n", out);
}

static void cell(FILE *out, double mean, double deviation)
{
    if (isnan(mean))
        fputs("<td class=\"n\">-</td>", out);
    else if (isnan(deviation))
        fprintf(out, "<td class=\"n\">%.1f</td>", 100 * mean);
    else
        fprintf(out, "<td class=\"n\">%.1f <span class=\"soft\">&plusmn; %.1f</span></td>", 100 * mean,
                100 * deviation);
}

static void table(FILE *out, const reco_study *study)
{
    size_t n = reco_study_get_plan(study)->rows, columns = 5;
    const char *group = "";
    fputs("<div style=\"overflow-x:auto\"><table><thead><tr><th>row</th><th "
          "class=\"n\">seeds</th><th>sides</th><th>chosen</th>",
          out);
    for (int m = 0; m < RECO_STUDY_METRICS; m++) {
        if (!study_shows(study, (reco_study_metric)m)) continue;
        fprintf(out, "<th class=\"n\">%s</th>", study_heading((reco_study_metric)m));
        columns++;
    }
    fputs("<th class=\"n\">all against CLIP, 95&nbsp;%</th></tr></thead><tbody>\n", out);
    for (size_t i = 0; i < n; i++) {
        reco_study_row row = *reco_study_get_row(study, i);
        if (strcmp(group, row.group) != 0)
            fprintf(out, "<tr><th colspan=\"%zu\">%s</th></tr>\n", columns, study_group_title(row.group));
        group = row.group;
        fputs("<tr><td>", out);
        page_text(out, row.name);
        fprintf(out, "</td><td class=\"n\">%zu</td><td>%s</td><td>%s</td>", row.seeds, row.sides,
                row.chosen);
        for (int m = 0; m < RECO_STUDY_METRICS; m++)
            if (study_shows(study, (reco_study_metric)m)) cell(out, row.mean[m], row.deviation[m]);
        fprintf(out, "<td class=\"n\">%+.1f <span class=\"soft\">[%+.1f, %+.1f]</span></td></tr>\n",
                100 * row.gain.mean, 100 * row.gain.low, 100 * row.gain.high);
    }
    fputs("</tbody></table></div>\n", out);
}

void study_page(const reco_study *study, const reco_study_result *result, FILE *out)
{
    page_head(out, reco_study_title(study));
    fprintf(out,
            "<p>Top-1 accuracy in percent of %zu picture%s among %zu classes: the mean over seeds &plusmn; "
            "their standard deviation. The last column is "
            "the difference to CLIP over all pictures, with its 95&nbsp;%% interval by a paired "
            "bootstrap. &ldquo;Sides&rdquo; were refined, &ldquo;chosen&rdquo; is what training would have "
            "refined.</p>\n<h2>Plots</h2>\n<div "
            "style=\"display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1rem\">\n",
            result->queries, cli_s(result->queries), result->classes);
    draw(out, study, "k", "neighbours, k");
    draw(out, study, "share", "share of the memory, %");
    draw(out, study, "wrong", "wrong captions in the memory, %");
    draw(out, study, "min_similarity", "least cosine of a neighbour");
    draw(out, study, "depth", "layers of the transformer");
    fputs("</div>\n<h2>Table</h2>\n", out);
    table(out, study);
    fprintf(out, "<footer>reco %s</footer>\n</body></html>\n", reco_version());
}
