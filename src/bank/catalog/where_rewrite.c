#include "bank/catalog/where_text.h"

#include <stdio.h>
#include <stdlib.h>

#define TOLD 3 /* comparisons that are told of */

/* A side of a comparison, once more, as an argument of reco_note. A guard that begins or ends with it is around it. */
static void write_side(FILE *out, const reco_where_text *w, const uint32_t side[2])
{
    if (side[0] == side[1]) return;
    fputc(',', out);
    for (uint32_t i = side[0]; i < side[1]; i++) {
        const reco_token *t = &w->tokens[i];
        fputc(' ', out);
        for (uint16_t g = 0; g < t->guards && i > side[0]; g++) fputs("reco_guard(", out);
        fwrite(t->at, 1, t->bytes, out);
        for (uint16_t g = 0; g < t->ends && i + 1 < side[1]; g++) fputc(')', out);
    }
}

char *reco_where_rewrite(const reco_where_text *w, bool notes)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    /* Comparisons hold no others, so they come one after the other. */
    size_t next = 0, open = SIZE_MAX;
    const char *at = w->text;
    for (uint32_t i = 0; i < w->n; i++) {
        const reco_token *t = &w->tokens[i];
        fwrite(at, 1, (size_t)(t->at - at), out); /* blanks as they were */
        for (uint16_t g = 0; g < t->guards; g++) fputs("reco_guard(", out);
        if (notes && next < w->ncomparisons && w->comparisons[next].from == i) {
            const reco_comparison *c = &w->comparisons[next];
            fprintf(out, "(reco_note(%zu", next);
            write_side(out, w, c->left);
            write_side(out, w, c->right);
            write_side(out, w, c->upper);
            fputs(") AND (", out);
            open = next++;
        }
        fwrite(t->at, 1, t->bytes, out);
        if (open != SIZE_MAX && w->comparisons[open].to == i + 1) {
            fputs("))", out);
            open = SIZE_MAX;
        }
        for (uint16_t g = 0; g < t->ends; g++) fputc(')', out);
        at = t->at + t->bytes;
    }
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- what is wrong, in words ---- */

typedef struct words {
    char text[100];
} words;

/* The side as it was written, on one line, shortened. */
static words side_of(const reco_where_text *w, const uint32_t side[2])
{
    words out;
    const reco_token *first = &w->tokens[side[0]], *last = &w->tokens[side[1] - 1];
    size_t bytes = (size_t)(last->at + last->bytes - first->at), room = sizeof out.text - 4;
    size_t n = bytes > room ? room : bytes;
    while (n < bytes && n > 0 && ((unsigned char)first->at[n] & 0xc0) == 0x80) n--;
    memcpy(out.text, first->at, n);
    strcpy(out.text + n, n < bytes ? "..." : "");
    for (char *c = out.text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = ' ';
    return out;
}

/* Its outermost operator is ->, which always gives a text. */
static const reco_token *arrow_of(const reco_where_text *w, const uint32_t side[2])
{
    for (uint32_t i = side[1]; i-- > side[0];) {
        const reco_token *t = &w->tokens[i];
        if (t->match < i)
            i = t->match;
        else if (t->kind == RECO_TOKEN_MARK)
            return t->bytes == 2 && memcmp(t->at, "->", 2) == 0 ? t : NULL;
    }
    return NULL;
}

static void tell(reco_ctx *ctx, const reco_where_text *w, const reco_comparison *c)
{
    const uint32_t *text = c->text_left ? c->left : c->right, *number = c->text_left ? c->right : c->left;
    words t = side_of(w, text), n = side_of(w, number);
    bool literal = text[1] - text[0] == 1 && w->tokens[text[0]].kind == RECO_TOKEN_STRING;
    char met[64];
    snprintf(met, sizeof met, "%llu time%s", (unsigned long long)c->met, c->met == 1 ? "" : "s");
    if (c->by_letters)
        reco_log(ctx, RECO_LOG_WARN,
                 "where: %s is text and is compared with a number, %s, character by character (%s); to "
                 "compare numbers, write CAST(%s AS REAL)",
                 t.text, n.text, met, t.text);
    else if (literal)
        reco_log(ctx, RECO_LOG_WARN,
                 "where: %s is a number and is compared with the text %s (%s), which SQLite sorts after "
                 "every number; write the number without quotes, or CAST(%s AS TEXT)",
                 n.text, t.text, met, n.text);
    else if (arrow_of(w, text))
        reco_log(ctx, RECO_LOG_WARN,
                 "where: %s is JSON text and is compared with a number, %s (%s), and SQLite sorts every "
                 "text after every number; write ->> instead of ->",
                 t.text, n.text, met);
    else
        reco_log(
            ctx, RECO_LOG_WARN,
            "where: %s is text and is compared with a number, %s (%s), and SQLite sorts every text after "
            "every number; write CAST(%s AS REAL), or build the bank with numbers (--types NAME=number)",
            t.text, n.text, met, t.text);
}

size_t reco_where_doubts(reco_ctx *ctx, const reco_where_text *w)
{
    size_t doubts = 0;
    for (size_t i = 0; i < w->ncomparisons; i++) {
        if (!w->comparisons[i].met) continue;
        if (ctx && doubts < TOLD) tell(ctx, w, &w->comparisons[i]);
        doubts++;
    }
    return doubts;
}
