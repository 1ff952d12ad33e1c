/* Conditions name the user's own columns directly: brand = 'Fiat' stands for json_extract(meta, '$."brand"') = 'Fiat'. */
#include "bank/catalog/where_text.h"

#include <stdio.h>
#include <stdlib.h>

void reco_where_missing(reco_where_guard *g, const char *message)
{
    static const char begin[] = "no such column: ";
    g->missing[0] = 0;
    if (strncmp(message, begin, sizeof begin - 1) != 0) return;
    const char *name = message + sizeof begin - 1;
    size_t bytes = strlen(name);
    /* TABLE.COLUMN is no column of the user's, nor is a name that would end the path that is made of it. */
    if (bytes > 0 && bytes < sizeof g->missing && !strpbrk(name, "\"'.\\"))
        memcpy(g->missing, name, bytes + 1);
}

reco_status reco_where_is_column(reco_ctx *ctx, reco_catalog *c, const char *name, bool *is)
{
    sqlite3_stmt *s = NULL;
    reco_status status;
    char *path = reco_format(ctx, "$.\"%s\"", name);
    *is = false;
    if (!path) return RECO_E_NOMEM;
    int rc = sqlite3_prepare_v2(
        c->db, "SELECT 1 FROM main.pair WHERE json_type(meta, ?1) IS NOT NULL LIMIT 1", -1, &s, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(s, 1, path, -1, SQLITE_STATIC);
        rc = sqlite3_step(s);
    }
    *is = rc == SQLITE_ROW;
    status = rc == SQLITE_ROW || rc == SQLITE_DONE ? RECO_OK : reco_catalog_fail(ctx, c);
    sqlite3_finalize(s);
    reco_free(path);
    return status;
}

static bool is_mark(const reco_where_text *w, size_t i, char mark)
{
    return i < w->n && w->tokens[i].kind == RECO_TOKEN_MARK && *w->tokens[i].at == mark;
}

char *reco_where_extract(reco_ctx *ctx, const reco_where_text *w, const char *name)
{
    char *text = NULL, *copy = NULL;
    size_t bytes, found = 0, length = strlen(name);
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    const char *at = w->text;
    for (size_t i = 0; i < w->n; i++) {
        const reco_token *t = &w->tokens[i];
        bool quoted = *t->at == '[' || *t->at == '`';
        bool is = t->kind == RECO_TOKEN_WORD && t->bytes == length + 2 * quoted &&
                  memcmp(t->at + quoted, name, length) == 0 && !is_mark(w, i + 1, '(') &&
                  !is_mark(w, i + 1, '.') && !(i > 0 && is_mark(w, i - 1, '.'));
        fwrite(at, 1, (size_t)(t->at - at), out);
        if (is)
            fprintf(out, "json_extract(meta, '$.\"%s\"')", name);
        else
            fwrite(t->at, 1, t->bytes, out);
        found += is;
        at = t->at + t->bytes;
    }
    bool failed = ferror(out);
    if (fclose(out) == 0 && !failed && found) copy = reco_strdup(ctx, text);
    free(text);
    return copy;
}
