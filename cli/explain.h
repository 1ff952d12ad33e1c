/* cli/explain.h: why an answer came out, as JSON, and the page that shows it. */
#ifndef RECO_CLI_EXPLAIN_H
#define RECO_CLI_EXPLAIN_H

#include "zero_shot.h"

/* An explanation is one object:
 *   image (the file as it was given) with path, or text
 *   label, group     of eval: the class it is of; "won", "lost" or "other"
 *   before, after    {"label", "probability"}: CLIP alone, and the answer
 *   experts          [{"name", "weight", "silent", "top": [{"label", "probability", "id", "uri", "path"}]}]; ids where the answers are
 *                    rows of the memory, uri and path where they are pictures
 *   retrieved        [{"by", "compared", "fused", "text", "own", "rows": [{"id", "score", "weight", "vote", "class", "caption", "uri", "path"}]}]: what the
 *                    query ("image" or "text") and the class that was answered ("class") were refined with, by which vectors
 *                    ("image" or "text") of the rows it was compared with and which were fused; own: the weight of the original
 * NULL: out of memory, or the context has the reason. */

/* Picture i of z->found among its classes; path: where it may be read from, or NULL. */
json_t *explain_picture(cli *c, zero_shot *z, size_t i, const char *image, const char *path, size_t top);
/* A picture or a text of embedding x, and what the memory answers: captions to a picture, pictures to a text. */
json_t *explain_question(cli *c, const zero_shot *z, reco_side own, const char *query, const float *x,
                         size_t top);
/* What the page says once: model, memory, layer, mixture. */
json_t *explain_facts(const zero_shot *z);

/* Parts of the above. */
json_t *explain_retrieved(cli *c, const zero_shot *z, const char *by, const char *text,
                          const reco_hits *hits, const float *weights);
/* uri and, where its picture may be read from a file, path. */
void explain_place(cli *c, json_t *object, const reco_pair *pair);
/* The share of the vote of each of the rows, which are the first of the n neighbours that vote. */
void explain_votes(const zero_shot *z, json_t *rows, const float *scores, size_t n);
reco_mixture explain_mixture(const zero_shot *z, int expert); /* expert 0..2 alone; 3: the answer */
extern const char *const explain_experts[4];
json_t *explain_expert(const zero_shot *z, int expert, bool silent, json_t *top);
json_t *explain_result(const char *kind, const char *query, const char *path, json_t *experts,
                       json_t *retrieved);

/* Write {"facts", "scores", "confused", "queries"} as a page, or, where the name ends in .json, as it is. Takes no reference. */
reco_status explain_write(cli *c, const char *path, const char *title, const json_t *page);

/* page.c: HTML. Texts are escaped, and never obeyed. */
void page_text(FILE *out, const char *text);
void page_head(FILE *out, const char *title);
/* A picture as an <img> of at most `edge` pixels, or a box in its place where the file can't be shown. path may be NULL. */
void page_picture(cli *c, FILE *out, const char *path, const char *alt, size_t edge);

#endif
