#include "bank/catalog/where_text.h"

#include <stdio.h>

/* SQLite orders every text behind every number, so that a comparison of '7.5' with 50 says nothing of 7.5 and 50. Which types meet
 * is known row by row alone, so every comparison whose sides could differ is rewritten to tell of it. Left out are those with a
 * subquery or another comparison in a side, names that are no column of pair or of json_each, CASE X WHEN, row values and
 * IN (SELECT ...): there no warning is given. */

/* How tightly an operator binds, as in SQLite's grammar; 0: none, or the end of an expression. */
enum { ENDS = 1, LOGIC = 2, EQUAL = 4, ORDER = 5, OTHER = 6 };

typedef enum affinity { NONE, NUMERIC, TEXT, UNKNOWN } affinity;

static bool is_any(const reco_token *t, const char *const words[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (reco_token_is(t, words[i])) return true;
    return false;
}
#define IS_ANY(t, words) is_any(t, words, sizeof(words) / sizeof *(words))

/* A keyword can't be quoted. */
static bool is_keyword(const reco_token *t, const char *word)
{
    return t->kind == RECO_TOKEN_WORD && !strchr("\"`[", *t->at) && reco_token_is(t, word);
}

static bool is_mark(const reco_token *t, const char *mark)
{
    return t->kind == RECO_TOKEN_MARK && t->bytes == strlen(mark) && memcmp(t->at, mark, t->bytes) == 0;
}

static uint8_t level_of(const reco_token *t)
{
    static const char *const equal[] = {"IS",    "IN",     "LIKE",   "GLOB",    "BETWEEN",
                                        "MATCH", "REGEXP", "ISNULL", "NOTNULL", "ESCAPE"};
    static const char *const logic[] = {"OR", "AND", "NOT"};
    static const char *const ends[] = {
        "WHEN",   "THEN",  "ELSE",   "SELECT",    "FROM", "WHERE",  "GROUP", "ORDER",    "BY",
        "LIMIT",  "UNION", "HAVING", "ON",        "AS",   "ASC",    "DESC",  "DISTINCT", "VALUES",
        "OFFSET", "JOIN",  "EXCEPT", "INTERSECT", "ALL",  "FILTER", "OVER"};
    if (t->kind == RECO_TOKEN_WORD && !strchr("\"`[", *t->at)) {
        if (IS_ANY(t, equal)) return EQUAL;
        if (IS_ANY(t, logic)) return LOGIC;
        return IS_ANY(t, ends) ? ENDS : 0;
    }
    if (t->kind != RECO_TOKEN_MARK) return 0;
    if (*t->at == ',') return ENDS;
    if (is_mark(t, "=") || is_mark(t, "==") || is_mark(t, "<>") || is_mark(t, "!=")) return EQUAL;
    if (strchr("<>", *t->at)) return is_mark(t, "<<") || is_mark(t, ">>") ? OTHER : ORDER;
    return strchr("()", *t->at) ? 0 : OTHER;
}

static bool ends_operand(const reco_token *t)
{
    static const char *const postfix[] = {"ISNULL", "NOTNULL"};
    if (t->kind == RECO_TOKEN_WORD) return IS_ANY(t, postfix) || (t->level == 0 && !is_keyword(t, "CASE"));
    return t->kind != RECO_TOKEN_MARK || *t->at == ')';
}

/* Is the word at i an operator, not the name of a function? */
static bool is_operator(const reco_where_text *w, uint32_t i)
{
    if (i > 0 && is_keyword(&w->tokens[i - 1], "NOT")) i--;
    return i > 0 && ends_operand(&w->tokens[i - 1]);
}

/* The AND of the BETWEEN before `from`; 0: there is none. */
static uint32_t and_of(const reco_where_text *w, uint32_t from)
{
    size_t others = 0;
    for (uint32_t i = from; i<w->n; i = w->tokens[i].match> i ? w->tokens[i].match + 1 : i + 1) {
        const reco_token *t = &w->tokens[i];
        if (is_mark(t, ")") || t->match < i || t->level == ENDS) return 0;
        others += is_keyword(t, "BETWEEN");
        if (is_keyword(t, "AND") && others-- == 0) return i;
    }
    return 0;
}

/* CASE and END, BETWEEN and its AND are matched as parentheses are; an END too many belongs to nothing. */
static void match_cases(reco_where_text *w)
{
    uint32_t open = UINT32_MAX;
    for (uint32_t i = 0; i < w->n; i++) {
        reco_token *t = &w->tokens[i];
        t->level = level_of(t);
        if ((reco_token_is(t, "LIKE") || reco_token_is(t, "GLOB")) && !is_operator(w, i)) t->level = 0;
        /* IS NOT DISTINCT FROM is one operator, and so is NOT IN: what NOT stands between two operands. */
        bool is_not = is_keyword(t, "NOT") && i > 0 && (is_keyword(t - 1, "IS") || ends_operand(t - 1));
        bool distinct = i > 0 && is_keyword(t, "DISTINCT") && t[-1].level == EQUAL;
        bool of_is =
            is_not || distinct ||
            (i > 0 && is_keyword(t, "FROM") && is_keyword(t - 1, "DISTINCT") && t[-1].level == EQUAL);
        if (of_is) t->level = EQUAL;
        if (t->kind != RECO_TOKEN_WORD) continue;
        if (is_keyword(t, "CASE")) {
            t->match = open;
            open = i;
        } else if (is_keyword(t, "END") && open != UINT32_MAX) {
            t->match = open;
            open = w->tokens[open].match;
            w->tokens[t->match].match = i;
        }
    }
    while (open != UINT32_MAX) { /* never closed */
        uint32_t outer = w->tokens[open].match;
        w->tokens[open].match = open;
        open = outer;
    }
    for (uint32_t i = 0, and; i < w->n; i++) {
        if (!is_keyword(&w->tokens[i], "BETWEEN") || (and = and_of(w, i + 1)) == 0) continue;
        w->tokens[i].match = and;
        w->tokens[and].match = i;
        w->tokens[and].level = EQUAL;
    }
}

/* The first token of the operand that ends before `end`, the operator being of this level. */
static uint32_t operand_before(const reco_where_text *w, uint32_t end, uint8_t level)
{
    uint32_t i = end;
    while (i > 0) {
        const reco_token *t = &w->tokens[i - 1];
        if (t->level && t->level <= level) break;
        if (t->match < i - 1)
            i = t->match; /* a closing half: over all that is inside */
        else if (is_mark(t, "(") || t->match > i - 1)
            break;
        else
            i--;
    }
    return i;
}

/* Behind the operand that begins at `from`. */
static uint32_t operand_behind(const reco_where_text *w, uint32_t from, uint8_t level)
{
    uint32_t i = from;
    while (i < w->n) {
        const reco_token *t = &w->tokens[i];
        bool prefix = is_keyword(t, "NOT") && !(i > from && ends_operand(t - 1));
        if (prefix)
            level = LOGIC; /* it binds loosely */
        else if (t->level && t->level <= level)
            break;
        if (is_mark(t, ")") || t->match < i) break;
        i = t->match > i ? t->match + 1 : i + 1;
    }
    return i;
}

/* ---- what is slow ---- */

static void guard(reco_where_text *w, uint32_t from, uint32_t to)
{
    if (from >= to) return;
    w->tokens[from].guards++;
    w->tokens[to - 1].ends++;
}

/* Argument `which` of the call whose "(" is at `open`; false when there is none. */
static bool argument(const reco_where_text *w, uint32_t open, int which, uint32_t *from, uint32_t *to)
{
    uint32_t close = w->tokens[open].match;
    *from = *to = open + 1;
    for (;; *from = ++*to) {
        while (*to < close && !is_mark(&w->tokens[*to], ","))
            *to = is_mark(&w->tokens[*to], "(") ? w->tokens[*to].match + 1 : *to + 1;
        if (which-- == 0) return *from < *to;
        if (*to == close) return false;
    }
}

/* What these look for may be as long as a text: their time is the product of both lengths. */
static void guard_slow(reco_where_text *w, uint32_t i)
{
    static const char *const second[] = {"instr", "replace", "trim", "ltrim", "rtrim"};
    static const char *const pattern[] = {"like", "glob"};
    const reco_token *t = &w->tokens[i];
    uint32_t from, to;
    if (IS_ANY(t, pattern) && is_operator(w, i))
        guard(w, i + 1, operand_behind(w, i + 1, EQUAL));
    else if (i + 1 < w->n && is_mark(&w->tokens[i + 1], "(") && (IS_ANY(t, second) || IS_ANY(t, pattern)) &&
             argument(w, i + 1, IS_ANY(t, second) ? 1 : 0, &from, &to))
        guard(w, from, to);
}

/* ---- what is compared ---- */

static affinity affinity_of_cast(const reco_where_text *w, uint32_t from, uint32_t to)
{
    bool text = false, blob = false;
    while (from < to && !is_keyword(&w->tokens[from], "AS")) /* the operand may hold another CAST */
        from = w->tokens[from].match > from ? w->tokens[from].match + 1 : from + 1;
    for (; from < to; from++) {
        const reco_token *t = &w->tokens[from];
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)reco_min(t->bytes, 31), t->at);
        if (sqlite3_strlike("%INT%", name, 0) == 0) return NUMERIC;
        text |= sqlite3_strlike("%CHAR%", name, 0) == 0 || sqlite3_strlike("%CLOB%", name, 0) == 0 ||
                sqlite3_strlike("%TEXT%", name, 0) == 0;
        blob |= sqlite3_strlike("%BLOB%", name, 0) == 0;
    }
    return text ? TEXT : blob ? NONE : NUMERIC;
}

static affinity affinity_of_name(const reco_token *t)
{
    static const char *const texts[] = {"caption", "uri", "meta"};
    static const char *const none[] = {"value", "atom", "NULL", "TRUE", "FALSE"};
    if (IS_ANY(t, texts)) return TEXT;
    if (reco_token_is(t, "id")) return NUMERIC;
    bool number =
        *t->at == '"' && strchr("+-.0123456789", t->at[1]); /* a text: no column has such a name */
    return IS_ANY(t, none) || number ? NONE : UNKNOWN;
}

/* Which of two sides is converted before they are compared, by SQLite's rules. */
static affinity affinity_of(const reco_where_text *w, uint32_t from, uint32_t to)
{
    const reco_token *t = w->tokens;
    if (to - from > 2 && is_keyword(&t[to - 2], "COLLATE")) to -= 2;
    while (to - from > 2 && is_mark(&t[from], "(") && t[from].match == to - 1) from++, to--;
    if (to - from == 1 && t[from].kind == RECO_TOKEN_WORD) return affinity_of_name(&t[from]);
    if (to - from == 3 && is_mark(&t[from + 1], ".")) return affinity_of_name(&t[to - 1]);
    if (to - from > 3 && is_keyword(&t[from], "CAST") && t[from + 1].match == to - 1)
        return affinity_of_cast(w, from + 2, to - 1);
    return NONE;
}

/* Can a side be looked at beside the comparison: does it hold nothing that compares or reads by itself? */
static bool is_plain(const reco_where_text *w, const uint32_t side[2])
{
    const reco_token *t = w->tokens;
    if (side[0] >= side[1]) return false;
    for (uint32_t i = side[0]; i < side[1]; i++)
        if (t[i].level == EQUAL || t[i].level == ORDER || is_keyword(&t[i], "SELECT") ||
            is_keyword(&t[i], "VALUES"))
            return false;
    uint32_t from, to;
    bool row = is_mark(&t[side[0]], "(") && t[side[0]].match == side[1] - 1;
    return !(row && argument(w, side[0], 1, &from, &to));
}

static bool is_literal(const reco_where_text *w, const uint32_t side[2], reco_token_kind kind)
{
    return side[1] - side[0] == 1 && w->tokens[side[0]].kind == kind;
}

static bool could_differ(const reco_where_text *w, reco_comparison *c, bool order)
{
    const uint32_t *sides[] = {c->left, c->right, c->upper};
    bool letters = false, text = false;
    for (int i = 0; i < (c->upper[0] < c->upper[1] ? 3 : 2); i++) {
        if (!is_plain(w, sides[i])) return false;
        affinity a = affinity_of(w, sides[i][0], sides[i][1]);
        if (a == NUMERIC || a == UNKNOWN) return false;
        letters |= a == TEXT;
        text |= is_literal(w, sides[i], RECO_TOKEN_STRING);
    }
    c->by_letters = letters;
    return !letters || (order && !text); /* "caption = 5" finds '5' */
}

/* Of IN (...) one element stands for all, if they are of one kind; the first otherwise. */
static bool read_list(const reco_where_text *w, uint32_t open, reco_comparison *c)
{
    bool texts = false, numbers = false;
    for (uint32_t i = open + 1; i < w->tokens[open].match; i++) {
        texts |= w->tokens[i].kind == RECO_TOKEN_STRING;
        numbers |= w->tokens[i].kind == RECO_TOKEN_NUMBER;
    }
    c->to = w->tokens[open].match + 1;
    return !(texts && numbers) && argument(w, open, 0, &c->right[0], &c->right[1]);
}

/* The comparison whose operator is at i. Operators of one level group to the left: of A = B = C the second compares a result. */
static bool read_comparison(const reco_where_text *w, uint32_t i, reco_comparison *c)
{
    const reco_token *t = w->tokens;
    static const char *const others[] = {"LIKE",   "GLOB", "MATCH",    "REGEXP", "ISNULL", "NOTNULL",
                                         "ESCAPE", "NOT",  "DISTINCT", "FROM",   "AND"};
    static const char *const truths[] = {"NULL", "TRUE", "FALSE"};
    if ((t[i].level != EQUAL && t[i].level != ORDER) || IS_ANY(&t[i], others)) return false;
    uint32_t end = i > 0 && is_keyword(&t[i - 1], "NOT") ? i - 1 : i, right = i + 1;
    bool between = is_keyword(&t[i], "BETWEEN"), is = is_keyword(&t[i], "IS");
    *c = (reco_comparison){.left = {operand_before(w, end, t[i].level), end}};
    c->from = c->left[0];
    const reco_token *before = c->from > 0 ? &t[c->from - 1] : NULL;
    bool chained = before && (before->level == t[i].level || is_keyword(before, "IN"));
    while (is && right < w->n && t[right].level == EQUAL) right++; /* NOT DISTINCT FROM */
    if (right == w->n) return false;
    if (is_keyword(&t[i], "IN")) {
        if (!is_mark(&t[right], "(") || !read_list(w, right, c)) return false;
        return !chained && could_differ(w, c, false);
    }
    c->right[0] = right;
    c->right[1] = c->to = operand_behind(w, right, t[i].level);
    if (between) {
        if (t[i].match <= i) return false;
        c->right[1] = t[i].match;
        c->upper[0] = c->right[1] + 1;
        c->upper[1] = c->to = operand_behind(w, c->upper[0], EQUAL);
        if (c->upper[0] == c->upper[1]) return false;
    }
    if (chained || (is && IS_ANY(&t[right], truths))) return false; /* IS TRUE asks, and does not compare */
    return could_differ(w, c, between || t[i].level == ORDER);
}

reco_status reco_where_compare(reco_ctx *ctx, reco_where_text *w)
{
    size_t operators = 0;
    match_cases(w);
    for (uint32_t i = 0; i < w->n; i++)
        operators += w->tokens[i].level == EQUAL || w->tokens[i].level == ORDER;
    w->comparisons = reco_alloc(ctx, operators, sizeof *w->comparisons, "condition");
    if (!w->comparisons) return RECO_E_NOMEM;
    for (uint32_t i = 0; i < w->n; i++) {
        guard_slow(w, i);
        w->ncomparisons += read_comparison(w, i, &w->comparisons[w->ncomparisons]);
    }
    return RECO_OK;
}
