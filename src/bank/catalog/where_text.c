#include "bank/catalog/where_text.h"

#include <ctype.h>
#include <stdio.h>

#define MAX_TEXT ((size_t)512 << 10)
#define MAX_CALLS 1000      /* between two looks at the clock, in the worst case */
#define ROOM_OF_TABLE 16    /* values that the parsed JSON of json_each may be as large as */
#define MARK "\xef\xbb\xbf" /* a byte order mark is a blank where a token could begin */

static const char *skip_blanks(const char *c)
{
    for (;; c += 3) {
        c += strspn(c, " \t\n\v\f\r");
        if (strncmp(c, MARK, 3) != 0) return c;
    }
}

/* Behind the quoted text that begins at c; NULL when it has no end. */
static const char *skip_quoted(const char *c)
{
    char quote = *c == '[' ? ']' : *c;
    for (c++; *c; c++) {
        if (*c != quote) continue;
        if (quote == ']' || c[1] != quote) return c + 1;
        c++; /* doubled: stands for one */
    }
    return NULL;
}

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80; }

static const char *skip_number(const char *c)
{
    if (c[0] == '0' && (c[1] == 'x' || c[1] == 'X')) {
        for (c += 2; isxdigit((unsigned char)*c);) c++;
        return c;
    }
    while (isdigit((unsigned char)*c)) c++;
    if (*c == '.')
        for (c++; isdigit((unsigned char)*c);) c++;
    const char *exponent = c + 1 + (*c && (c[1] == '+' || c[1] == '-'));
    if ((*c == 'e' || *c == 'E') && isdigit((unsigned char)*exponent))
        for (c = exponent; isdigit((unsigned char)*c);) c++;
    return c;
}

/* Behind the token at c, as SQLite cuts it; NULL when a quote has no end. */
static const char *skip_token(const char *c, uint8_t *kind)
{
    static const char *const marks[] = {"->>", "->", "||", "<=", "<>", "<<", ">=", ">>", "==", "!="};
    *kind = *c == '\'' ? RECO_TOKEN_STRING : RECO_TOKEN_WORD;
    if (strchr("'\"`[", *c)) return skip_quoted(c);
    if ((*c == 'x' || *c == 'X') && c[1] == '\'') {
        *kind = RECO_TOKEN_STRING;
        return skip_quoted(c + 1);
    }
    *kind = RECO_TOKEN_NUMBER;
    if (isdigit((unsigned char)*c) || (*c == '.' && isdigit((unsigned char)c[1]))) return skip_number(c);
    *kind = RECO_TOKEN_WORD;
    const char *end = c;
    while (is_word(*end)) end++;
    if (end > c) return end;
    *kind = RECO_TOKEN_MARK;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strncmp(c, marks[i], strlen(marks[i])) == 0) return c + strlen(marks[i]);
    return c + 1;
}

bool reco_token_is(const reco_token *t, const char *word)
{
    size_t bytes = strlen(word), quoted = t->kind == RECO_TOKEN_WORD && strchr("\"`[", *t->at);
    if (t->kind == RECO_TOKEN_STRING)
        quoted = *t->at == '\''; /* SQLite takes it for a name where one is wanted */
    return t->bytes == bytes + 2 * quoted && sqlite3_strnicmp(t->at + quoted, word, (int)bytes) == 0;
}

static reco_status refuse(reco_ctx *ctx, const char *reason)
{
    return reco_fail(ctx, RECO_E_ARG, "where: %s", reason);
}

/* What one token alone forbids. */
static const char *forbidden(const reco_token *t, const char *next)
{
    char c = *t->at;
    if (reco_token_is(t, "main") && *next == '.') return "\"main.\" is not allowed, want pair alone";
    if (t->kind != RECO_TOKEN_MARK) return NULL;
    if ((c == '-' && t->at[1] == '-') || (c == '/' && t->at[1] == '*')) return "comments are not allowed";
    if (c == ';') return "\";\" is not allowed: want one condition, no statements";
    return strchr("?$:@#", c) ? "parameters (? $ : @ #) are not allowed outside of quotes" : NULL;
}

/* Parentheses match, so that nothing in the condition closes the one around it. */
static reco_status match(reco_ctx *ctx, reco_where_text *w)
{
    uint32_t open =
        UINT32_MAX; /* the innermost; each holds the number of the one around it until it is closed */
    size_t calls = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        reco_token *t = &w->tokens[i];
        bool mark = t->kind == RECO_TOKEN_MARK;
        t->match = i;
        calls += mark && (*t->at == '(' || (t->bytes > 1 && t->at[0] == '-'));
        w->values += t->kind == RECO_TOKEN_WORD || (mark && strchr("(|-", *t->at));
        if (reco_token_is(t, "json_each") || reco_token_is(t, "json_tree")) w->values += ROOM_OF_TABLE;
        if (mark && *t->at == '(') {
            t->match = open;
            open = i;
        } else if (mark && *t->at == ')') {
            if (open == UINT32_MAX) return refuse(ctx, "\")\" without \"(\"");
            t->match = open;
            open = w->tokens[open].match;
            w->tokens[t->match].match = i;
        }
    }
    if (open != UINT32_MAX) return refuse(ctx, "\"(\" without \")\"");
    if (calls <= MAX_CALLS) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "where: %zu of \"(\" and \"->\", want at most %d", calls, MAX_CALLS);
}

reco_status reco_where_cut(reco_ctx *ctx, reco_where_text *w, const char *where)
{
    *w = (reco_where_text){.text = where};
    size_t bytes = strnlen(where, MAX_TEXT + 1), room = 0;
    if (bytes > MAX_TEXT) return reco_fail(ctx, RECO_E_ARG, "where: more than %zu bytes", MAX_TEXT);
    for (const char *c = skip_blanks(where), *end; *c; c = skip_blanks(end)) {
        reco_token t = {.at = c};
        if (!(end = skip_token(c, &t.kind))) return refuse(ctx, "a quote is never closed");
        t.bytes = (uint32_t)(end - c);
        const char *reason = forbidden(&t, skip_blanks(end));
        if (reason) return refuse(ctx, reason);
        reco_token *tokens = reco_grow(ctx, w->tokens, w->n, &room, 64, sizeof *tokens, "condition");
        if (!tokens) return RECO_E_NOMEM;
        w->tokens = tokens;
        w->tokens[w->n++] = t;
    }
    return w->n ? match(ctx, w) : refuse(ctx, "empty, want an SQL condition");
}

void reco_where_free(reco_where_text *w)
{
    reco_free(w->tokens);
    reco_free(w->comparisons);
    *w = (reco_where_text){0};
}
