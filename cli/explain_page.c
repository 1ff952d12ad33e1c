/* An explanation as a page. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

static const char *text_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static double number_member(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static bool has_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value);
}

static void percent(FILE *out, double share)
{
    if (share > 0 && share < 0.0005)
        fputs("&lt;0.1&nbsp;%", out);
    else
        fprintf(out, share > 0 && share < 0.0995 ? "%.1f&nbsp;%%" : "%.0f&nbsp;%%", 100 * share);
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- once a page ---- */

static void facts(FILE *out, const json_t *f)
{
    const json_t *m = json_object_get(f, "mixture");
    fputs("<p class=\"facts\">Model <b>", out);
    page_text(out, text_member(f, "model"));
    fputs("</b> · memory <b>", out);
    page_text(out, text_member(f, "bank"));
    fprintf(out, "</b>, %lld pairs · layer <b>", (long long)json_integer_value(json_object_get(f, "rows")));
    page_text(out, text_member(f, "layer"));
    fputs("</b>, refined: <b>", out);
    page_text(out, text_member(f, "refined"));
    if (json_is_object(m))
        fprintf(out, "</b> · mixture: CLIP <b>%.2g</b>, refined <b>%.2g</b>, vote <b>%.2g</b></p>\n",
                number_member(m, "clip"), number_member(m, "refined"), number_member(m, "vote"));
    else
        fputs("</b> · no mixture: the refined cosines decide</p>\n", out);
    fputs("<details><summary>How to read this page</summary>"
          "<p><b>CLIP</b> compares the query with each answer as the frozen model embeds them. "
          "<b>Refined</b> does so after the "
          "memory's neighbours were fused into the embeddings. <b>Vote</b> is the share of the query's "
          "neighbours whose caption is the "
          "answer. <b>RECO</b>, the answer, is the mixture of their probabilities at the weights above.</p>"
          "<p>Below stand the rows of the memory that were retrieved. Their blue bar is the weight with "
          "which a row took part in "
          "refining: the rest, up to 100&nbsp;%, is the query or the class itself (its own share). The "
          "orange bar is its share of the vote. The number "
          "is the cosine that it was retrieved with.</p></details>\n",
          out);
}

static void score_rows(FILE *out, const json_t *scores)
{
    const json_t *row;
    size_t i, n = json_array_size(scores);
    if (n == 0) return;
    fputs("<section><h2>Accuracy</h2>\n<table><tr><th></th><th class=\"n\">top 1</th>"
          "<th class=\"n\">top 5</th><th class=\"n\">mean per class</th></tr>\n",
          out);
    json_array_foreach(scores, i, row)
    {
        fprintf(out, "<tr%s><td>", i + 1 == n ? " class=\"answer\"" : "");
        page_text(out, text_member(row, "name"));
        static const char *const keys[] = {"acc1", "acc5", "mean_per_class"};
        for (int k = 0; k < 3; k++)
            fprintf(out, "</td><td class=\"n\">%.1f&nbsp;%%", 100 * number_member(row, keys[k]));
        fputs("</td></tr>\n", out);
    }
    fputs("</table></section>\n", out);
}

static void confusions(FILE *out, const json_t *list)
{
    const json_t *row;
    size_t i;
    if (json_array_size(list) == 0) return;
    fputs("<section><h2>The classes confused most</h2>\n<table><tr><th>it is</th><th>it was "
          "taken for</th>"
          "<th class=\"n\">by CLIP</th><th class=\"n\">by RECO</th></tr>\n",
          out);
    json_array_foreach(list, i, row)
    {
        fputs("<tr><td><bdi>", out);
        page_text(out, text_member(row, "label"));
        fputs("</bdi></td><td><bdi>", out);
        page_text(out, text_member(row, "answer"));
        fprintf(out, "</bdi></td><td class=\"n\">%lld</td><td class=\"n\">%lld</td></tr>\n",
                (long long)json_integer_value(json_object_get(row, "clip")),
                (long long)json_integer_value(json_object_get(row, "reco")));
    }
    fputs("</table></section>\n", out);
}

/* ---- a query ---- */

/* right and wrong only where it is known what is right. */
static void verdict(FILE *out, const char *who, const json_t *answer, const char *label)
{
    const char *said = text_member(answer, "label");
    fprintf(out, "%s: ", who);
    if (!*said) {
        fputs("<span class=\"soft\">nothing</span>", out);
        return;
    }
    bool right = label && strcmp(label, said) == 0;
    fprintf(out, "<span class=\"%s\">", !label ? "name" : right ? "right" : "wrong");
    if (label) fputs(right ? "✓ " : "✗ ", out);
    fputs("<bdi>", out);
    page_text(out, said);
    fputs("</bdi></span> <span class=\"soft\">", out);
    percent(out, number_member(answer, "probability"));
    fputs("</span>", out);
}

static void query(cli *c, FILE *out, const json_t *q)
{
    const char *label = has_member(q, "label") ? text_member(q, "label") : NULL;
    fputs("<div class=\"query\">", out);
    if (has_member(q, "image"))
        page_picture(c, out, text_member(q, "path"), label ? label : text_member(q, "image"), 232);
    fputs("<div><div class=\"name\"><bdi>", out);
    if (has_member(q, "image"))
        page_text(out, file_name(text_member(q, "image")));
    else {
        fputs("“", out);
        page_text(out, text_member(q, "text"));
        fputs("”", out);
    }
    fputs("</bdi></div>", out);
    if (label) {
        fputs("<div>label: <b><bdi>", out);
        page_text(out, label);
        fputs("</bdi></b></div>", out);
    }
    fputs("<p class=\"verdict\">", out);
    verdict(out, "CLIP alone", json_object_get(q, "before"), label);
    fputs("<span class=\"arrow\">→</span>", out);
    verdict(out, "RECO", json_object_get(q, "after"), label);
    fputs("</p></div></div>\n", out);
}

static void pictures(cli *c, FILE *out, const json_t *top)
{
    const json_t *row;
    size_t i;
    fputs("<div class=\"strip\">", out);
    json_array_foreach(top, i, row)
    {
        fputs("<figure>", out);
        page_picture(c, out, has_member(row, "path") ? text_member(row, "path") : NULL,
                     text_member(row, "label"), 152);
        fprintf(out, "<div class=\"meter\"><i style=\"--p:%.1f%%\"></i><span>",
                100 * number_member(row, "probability"));
        percent(out, number_member(row, "probability"));
        fputs("</span></div><figcaption><bdi>", out);
        page_text(out, text_member(row, "label"));
        fputs("</bdi></figcaption></figure>", out);
    }
    fputs("</div>", out);
}

static void bars(FILE *out, const json_t *top, const char *label)
{
    const json_t *row;
    size_t i;
    fputs("<ol>", out);
    json_array_foreach(top, i, row)
    {
        bool right = label && strcmp(label, text_member(row, "label")) == 0;
        fprintf(out, "<li><i style=\"--p:%.1f%%\"></i><span%s>", 100 * number_member(row, "probability"),
                right ? " class=\"right\"" : "");
        if (right) fputs("✓ ", out);
        fputs("<bdi>", out);
        page_text(out, text_member(row, "label"));
        fputs("</bdi></span><b>", out);
        percent(out, number_member(row, "probability"));
        fputs("</b></li>", out);
    }
    fputs("</ol>", out);
}

static void experts(cli *c, FILE *out, const json_t *q)
{
    const json_t *list = json_object_get(q, "experts"), *e;
    const char *label = has_member(q, "label") ? text_member(q, "label") : NULL;
    size_t i;
    bool shown = has_member(q, "text"); /* the answers are pictures */
    if (!shown) fputs("<div class=\"experts\">", out);
    json_array_foreach(list, i, e)
    {
        const json_t *top = json_object_get(e, "top");
        fprintf(out, "<section class=\"%s\"><h3>",
                !has_member(e, "weight")                      ? "found answer"
                : strcmp(text_member(e, "name"), "vote") == 0 ? "found vote"
                                                              : "found");
        page_text(out, text_member(e, "name"));
        if (has_member(e, "weight"))
            fprintf(out, " <span class=\"soft\">weight %.2g</span></h3>", number_member(e, "weight"));
        else
            fputs(", the answer</h3>", out);
        if (json_is_true(json_object_get(e, "silent")))
            fputs("<p class=\"soft\">no neighbour’s caption is a class: its weight goes to the others</p>",
                  out);
        else if (shown)
            pictures(c, out, top);
        else
            bars(out, top, label);
        fputs("</section>\n", out);
    }
    if (!shown) fputs("</div>\n", out);
}

static void meter(FILE *out, const char *kind, const char *what, double share)
{
    fprintf(out, "<div class=\"meter%s\" title=\"%s\"><i style=\"--p:%.1f%%\"></i><span>", kind, what,
            100 * share);
    percent(out, share);
    fputs("</span></div>", out);
}

static void neighbour(cli *c, FILE *out, const json_t *row, const char *label)
{
    const char *caption = text_member(row, "caption");
    bool right = label && (strcmp(label, caption) == 0 ||
                           (has_member(row, "class") && strcmp(label, text_member(row, "class")) == 0));
    fputs("<figure>", out);
    page_picture(c, out, has_member(row, "path") ? text_member(row, "path") : NULL, caption, 152);
    meter(out, "", "weight in refining", number_member(row, "weight"));
    if (has_member(row, "vote")) meter(out, " vote", "share of the vote", number_member(row, "vote"));
    fprintf(out, "<figcaption%s>%s<bdi>", right ? " class=\"right\"" : "", right ? "✓ " : "");
    page_text(out, caption);
    fprintf(out, "</bdi></figcaption><div class=\"soft\">%.3f</div></figure>\n",
            number_member(row, "score"));
}

/* "Pictures like this one, whose captions refined it or voted" */
static void heading(FILE *out, const json_t *r)
{
    const char *by = text_member(r, "by"), *compared = text_member(r, "compared"),
               *fused = text_member(r, "fused");
    bool same = strcmp(compared, fused) == 0, votes = false;
    const json_t *first = json_array_get(json_object_get(r, "rows"), 0);
    if (first) votes = has_member(first, "vote");
    fputs(strcmp(compared, "image") == 0 ? "Pictures" : "Captions", out);
    if (strcmp(by, "class") == 0) {
        fputs(" like the answer “<bdi>", out);
        page_text(out, text_member(r, "text"));
        fputs("</bdi>”", out);
    } else
        fputs(strcmp(by, "image") == 0 ? " like this picture" : " like this text", out);
    if (number_member(r, "own") < 1)
        fprintf(out, ", %s refined it%s",
                same            ? "which"
                : *fused == 'i' ? "whose pictures"
                                : "whose captions",
                votes ? " or voted" : "");
    else if (votes)
        fputs(", whose captions voted", out);
}

static void retrieved(cli *c, FILE *out, const json_t *q)
{
    const json_t *list = json_object_get(q, "retrieved"), *r, *row;
    const char *label = has_member(q, "label") ? text_member(q, "label") : NULL;
    size_t i, j;
    json_array_foreach(list, i, r)
    {
        fputs("<section class=\"found\"><h3>", out);
        heading(out, r);
        fputs(" <span class=\"soft\">own share ", out);
        percent(out, number_member(r, "own"));
        fputs("</span></h3>", out);
        if (json_array_size(json_object_get(r, "rows")) == 0)
            fputs("<p class=\"soft\">nothing was near enough</p>", out);
        fputs("<div class=\"strip\">\n", out);
        json_array_foreach(json_object_get(r, "rows"), j, row) neighbour(c, out, row, label);
        fputs("</div></section>\n", out);
    }
}

static void cards(cli *c, FILE *out, const json_t *queries, const char *group, const char *title)
{
    const json_t *q;
    size_t i;
    bool any = false;
    json_array_foreach(queries, i, q)
    {
        if (strcmp(text_member(q, "group"), group) != 0) continue;
        if (!any && *title) fprintf(out, "<h2>%s</h2>\n", title);
        any = true;
        fputs("<article class=\"card\">", out);
        query(c, out, q);
        experts(c, out, q);
        retrieved(c, out, q);
        fputs("</article>\n", out);
    }
}

static void render(cli *c, FILE *out, const char *title, const json_t *page)
{
    const json_t *queries = json_object_get(page, "queries"), *f = json_object_get(page, "facts");
    page_head(out, title);
    facts(out, f);
    fputs("<div class=\"tables\">", out);
    score_rows(out, json_object_get(page, "scores"));
    confusions(out, json_object_get(page, "confused"));
    fputs("</div>\n", out);
    cards(c, out, queries, "", "");
    cards(c, out, queries, "won", "Won: CLIP is wrong, RECO is right");
    cards(c, out, queries, "lost", "Lost: CLIP is right, RECO is wrong");
    cards(c, out, queries, "other", "Others, spread evenly over the pictures");
    fputs("<footer>Written by reco ", out);
    page_text(out, text_member(f, "reco"));
    fputs("</footer>\n</body></html>\n", out);
}

reco_status explain_write(cli *c, const char *path, const char *title, const json_t *page)
{
    cli_file file;
    size_t n = strlen(path);
    reco_status status = cli_file_begin(&file, path);
    if (status == RECO_OK && n > 5 && strcmp(path + n - 5, ".json") == 0) {
        if (json_dumpf(page, file.out, JSON_REAL_PRECISION(9)) != 0) status = RECO_E_IO;
        putc('\n', file.out);
    } else if (status == RECO_OK)
        render(c, file.out, title, page);
    return cli_file_end(&file, status);
}
