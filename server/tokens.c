/* Who may ask, and how often: tokens of a file, one a line, "NAME TOKEN", "NAME TOKEN RATE" or the token alone. */
#include "internal.h"

#include <stdlib.h>

enum { MOST = 1024, LONGEST = 4096, SHORTEST = 16, MOST_RATE = 1000000 };

static void free_tokens(serve_token *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(tokens[i].name);
        free(tokens[i].token);
    }
    free(tokens);
}

bool serve_read_rate(const char *text, serve_rate *rate)
{
    char *end;
    double each = strtod(text, &end), burst = each < 1 ? 1 : each;
    if (end == text || !(each > 0 && each <= MOST_RATE)) return false;
    if (*end == ':') {
        const char *second = end + 1;
        burst = strtod(second, &end);
        if (end == second) return false;
    }
    if (*end || !(burst >= 1 && burst <= MOST_RATE)) return false;
    *rate = (serve_rate){.each = each, .burst = burst, .level = burst, .at = serve_now()};
    return true;
}

/* A line, of which the parts are parted by blanks; it is cut up. */
static reco_status read_token(const serve *s, serve_token *token, char *line, size_t number, char *error)
{
    char *parts[4] = {NULL}, *rest = NULL;
    size_t n = 0;
    for (char *p = strtok_r(line, " \t", &rest); p && n < 4; p = strtok_r(NULL, " \t", &rest))
        parts[n++] = p;
    const char *path = s->opts->token_file, *secret = parts[n > 1 ? 1 : 0];
    size_t length = n ? strlen(secret) : 0;
    if (length < SHORTEST || length > LONGEST) {
        snprintf(error, SERVE_ERROR_BYTES, "%s: token %zu has %zu characters, want %d or more", path,
                 number, length, SHORTEST);
        return RECO_E_FORMAT;
    }
    if (s->opts->rate) (void)serve_read_rate(s->opts->rate, &token->rate);
    if (n > 3 || (n == 3 && !serve_read_rate(parts[2], &token->rate))) {
        snprintf(error, SERVE_ERROR_BYTES, "%s: line %zu is not NAME TOKEN [RATE[:BURST]]", path, number);
        return RECO_E_FORMAT;
    }
    token->token = strdup(secret);
    token->name = n > 1 ? strdup(parts[0]) : strndup(parts[0], 5);
    return token->name && token->token ? RECO_OK : RECO_E_NOMEM;
}

reco_status serve_read_tokens(serve *s, reco_ctx *ctx, char *error)
{
    char **lines = NULL;
    size_t n = 0;
    const char *path = s->opts->token_file;
    if (!path) return RECO_OK;
    reco_status status = reco_read_lines(ctx, path, &lines, &n);
    if (status != RECO_OK) {
        snprintf(error, SERVE_ERROR_BYTES, "%s", reco_ctx_error(ctx));
        return status;
    }
    serve_token *tokens = calloc(n ? n : 1, sizeof *tokens);
    status = !tokens ? RECO_E_NOMEM : n == 0 || n > MOST ? RECO_E_FORMAT : RECO_OK;
    if (status == RECO_E_FORMAT)
        snprintf(error, SERVE_ERROR_BYTES, "%s has %zu tokens, want 1..%d", path, n, MOST);
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        status = read_token(s, &tokens[i], lines[i], i + 1, error);
    reco_lines_free(lines, n);
    if (status != RECO_OK) {
        free_tokens(tokens, tokens ? n : 0);
        return status;
    }
    pthread_mutex_lock(&s->lock);
    serve_token *old = s->tokens;
    size_t nold = s->ntokens;
    s->tokens = tokens;
    s->ntokens = n;
    pthread_mutex_unlock(&s->lock);
    free_tokens(old, nold);
    return RECO_OK;
}

/* Take one; seconds until there is one, 0: there was. */
static double take_from_rate(serve_rate *rate)
{
    double now = serve_now();
    if (rate->each <= 0) return 0;
    rate->level += rate->each * (now - rate->at);
    rate->at = now;
    if (rate->level > rate->burst) rate->level = rate->burst;
    if (rate->level < 1) return (1 - rate->level) / rate->each;
    rate->level -= 1;
    return 0;
}

/* Takes as long wherever they begin to differ. */
static bool equal(const char *a, const char *given)
{
    size_t n = strlen(a), m = strlen(given);
    unsigned char differ = n != m;
    for (size_t i = 0; i < m; i++) differ |= (unsigned char)(a[n ? i % n : 0] ^ given[i]);
    return differ == 0;
}

bool serve_who(serve *s, const char *token, char name[SERVE_NAME_BYTES], double *wait)
{
    serve_rate *rate = NULL;
    *name = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->ntokens && token; i++) {
        if (!equal(s->tokens[i].token, token)) continue;
        rate = &s->tokens[i].rate;
        snprintf(name, SERVE_NAME_BYTES, "%s", s->tokens[i].name);
    }
    if (s->ntokens == 0) rate = &s->anybody;
    if (wait) *wait = rate ? take_from_rate(rate) : 0;
    pthread_mutex_unlock(&s->lock);
    return rate;
}
