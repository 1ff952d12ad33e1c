#include "bank/postgres/pg.h"
#include "bank/search/filter.h"

#define MOST (512 << 10) /* bytes of a condition, as in a folder */

/* Text in quotes, from the first on; NULL where it does not end. */
static const char *skip_quoted(const char *at)
{
    char quote = *at++;
    for (; *at; at++)
        if (*at == quote && *++at != quote) return at;
    return NULL;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c & 0x80;
}

/* What of it could reach out of the parentheses around it; NULL: nothing. */
static const char *reaches_out(const char *where)
{
    int depth = 0;
    for (const char *at = where; *at;) {
        bool escapes =
            at > where && (at[-1] == 'e' || at[-1] == 'E') && (at == where + 1 || !is_word(at[-2]));
        if (*at == '\'' && escapes) return "an E'' string, want '' or chr()";
        if (*at == '\'' || *at == '"') {
            if (!(at = skip_quoted(at))) return "a quote that does not end";
            continue;
        }
        if (*at == ';') return "a semicolon, want one condition";
        if (*at == '-' && at[1] == '-') return "a comment";
        if (*at == '/' && at[1] == '*') return "a comment";
        if (*at == '$') return "a $ (a parameter or a dollar-quoted string)";
        if (*at == '(') depth++;
        if (*at == ')' && --depth < 0) return "an unmatched )";
        at++;
    }
    return depth ? "an unclosed (" : NULL;
}

reco_status pg_check_where(reco_ctx *ctx, const char *where)
{
    size_t bytes = strnlen(where, MOST + 1);
    if (bytes > MOST) return reco_fail(ctx, RECO_E_ARG, "condition of more than %d bytes", MOST);
    if (strspn(where, " \t\r\n") == bytes)
        return reco_fail(ctx, RECO_E_ARG, "condition \"\": want an expression");
    const char *wrong = reaches_out(where);
    return wrong ? reco_fail(ctx, RECO_E_ARG, "condition has %s", wrong) : RECO_OK;
}

/* ---- filters ---- */

typedef struct counting {
    const reco_bank_filter *filter;
    char *sql;
    unsigned char *ids;
    size_t bytes;
    uint64_t rows;
} counting;

static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    const counting *c = arg;
    (void)ctx, (void)shard, (void)i;
    call->sql = c->sql;
    if (c->ids) pg_bytes(call, c->ids, c->bytes);
    return RECO_OK;
}

static reco_status take(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    counting *c = arg;
    (void)ctx, (void)shard, (void)i;
    c->rows += (uint64_t)pg_get_int(rows, 0, 0);
    return RECO_OK;
}

/* How many rows there are of it, now; it tells what is wrong with a condition, too. */
static reco_status count(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank, reco_bank_filter *f)
{
    counting c = {.filter = f};
    reco_status status = RECO_E_NOMEM;
    if (f->where)
        c.sql = reco_format(ctx, "SELECT count(*) FROM reco_pair WHERE (%s\n)", f->where);
    else {
        c.sql = reco_format(ctx, "SELECT count(*) FROM reco_pair WHERE id = ANY($1::int8[])");
        c.ids = f->packed;
        c.bytes = f->packed_bytes;
    }
    const pg_work work = {
        .calls = 1, .send = ask, .take = take, .arg = &c, .wrong = f->where ? RECO_E_ARG : RECO_OK};
    if (c.sql) status = pg_read(ctx, bank, &work);
    reco_free(c.sql);
    f->count = (size_t)c.rows;
    if (status == RECO_OK)
        *out = f;
    else
        reco_bank_filter_free(f);
    return status;
}

reco_status pg_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank, const char *where)
{
    RECO_TRY(pg_check_where(ctx, where));
    reco_bank_filter *f = reco_alloc(ctx, 1, sizeof *f, "filter");
    if (!f) return RECO_E_NOMEM;
    f->bank = bank;
    if ((f->where = reco_strdup(ctx, where))) return count(ctx, out, bank, f);
    reco_bank_filter_free(f);
    return RECO_E_NOMEM;
}

reco_status pg_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank, const int64_t *ids,
                          size_t n)
{
    if (n > (1 << 26))
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "bank: a filter of %zu ids on a server, want at most 2^26", n);
    reco_bank_filter *f = reco_alloc(ctx, 1, sizeof *f, "filter");
    if (!f) return RECO_E_NOMEM;
    f->bank = bank;
    f->packed = reco_alloc(ctx, pg_ids_bytes(n), 1, "filter");
    if (f->packed) {
        f->packed_bytes = pg_put_ids(f->packed, ids, n);
        return count(ctx, out, bank, f);
    }
    reco_bank_filter_free(f);
    return RECO_E_NOMEM;
}
