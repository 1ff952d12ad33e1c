/* Who may ask: tokens of a file, one a line, "NAME TOKEN" or the token alone. */
#include "internal.h"

#include <stdlib.h>

enum { MOST = 1024, LINE = 4096, SHORTEST = 16 };

static void free_tokens(serve_token *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(tokens[i].name);
        free(tokens[i].token);
    }
    free(tokens);
}

reco_status serve_read_tokens(serve *s, reco_ctx *ctx, char *error)
{
    char **lines = NULL;
    size_t n = 0, made = 0;
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
    for (size_t i = 0; i < n && status == RECO_OK; i++, made++) {
        char *blank = strpbrk(lines[i], " \t"), *token = blank ? blank + strspn(blank, " \t") : lines[i];
        size_t length = strlen(token);
        if (length < SHORTEST || strpbrk(token, " \t") || length > LINE) {
            snprintf(error, SERVE_ERROR_BYTES,
                     "%s: token %zu has %zu characters, want %d or more without blanks", path, i + 1,
                     length, SHORTEST);
            status = RECO_E_FORMAT;
            break;
        }
        tokens[i].token = strdup(token);
        if (asprintf(&tokens[i].name, "%.*s", blank ? (int)(blank - lines[i]) : 5,
                     blank ? lines[i] : "token") < 0)
            tokens[i].name = NULL;
        if (!tokens[i].name || !tokens[i].token) status = RECO_E_NOMEM;
    }
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

/* Takes as long wherever they begin to differ. */
static bool equal(const char *a, const char *given)
{
    size_t n = strlen(a), m = strlen(given);
    unsigned char differ = n != m;
    for (size_t i = 0; i < m; i++) differ |= (unsigned char)(a[n ? i % n : 0] ^ given[i]);
    return differ == 0;
}

bool serve_who(serve *s, const char *token, char name[SERVE_NAME_BYTES])
{
    bool known = false;
    *name = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->ntokens && token; i++) {
        if (!equal(s->tokens[i].token, token)) continue;
        known = true;
        snprintf(name, SERVE_NAME_BYTES, "%s", s->tokens[i].name);
    }
    known |= s->ntokens == 0;
    pthread_mutex_unlock(&s->lock);
    return known;
}
