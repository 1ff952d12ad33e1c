#include "bank/bank.h"
#include "bank/catalog/sqlite.h"

/* Pairs that another bank had, found as an addition finds them (pipeline/sink_judge.c), but all at once: those of one picture lie
 * side by side in the index. */

typedef struct member {
    int64_t number;
    size_t bank;
    unsigned char caption[RECO_BANK_HASH], content[RECO_BANK_HASH];
    bool has_content, placed;
    char *uri;            /* of one that is refused */
    reco_merge_fate fate; /* 0: it stays */
} member;

typedef struct group {
    member *items;
    size_t n, room;
    bool by_uri; /* else of one place */
} group;

static size_t bank_of(const reco_merge_rules *rules, int64_t number)
{
    size_t lo = 0, hi = rules->n; /* the last that begins at or before the number; of empty ones the last */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (rules->firsts[mid] <= number)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static reco_status push(reco_ctx *ctx, group *g, member **out)
{
    member *items = reco_grow(ctx, g->items, g->n, &g->room, 16, sizeof *items, "pairs of one picture");
    if (!items) return RECO_E_NOMEM;
    g->items = items;
    *out = &g->items[g->n++];
    **out = (member){0};
    return RECO_OK;
}

/* The rows of s: number, caption, content, whether it has a place, uri. */
static reco_status read_group(reco_ctx *ctx, reco_catalog *c, const reco_merge_rules *rules,
                              sqlite3_stmt *s, group *g)
{
    reco_status status;
    for (;;) {
        bool row;
        member *m;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        RECO_GO(push(ctx, g, &m));
        m->number = sqlite3_column_int64(s, 0);
        m->bank = bank_of(rules, m->number);
        const void *caption = sqlite3_column_text(s, 1);
        reco_hash128(caption ? caption : "", (size_t)sqlite3_column_bytes(s, 1), m->caption);
        m->has_content =
            sqlite3_column_type(s, 2) == SQLITE_BLOB && sqlite3_column_bytes(s, 2) == RECO_BANK_HASH;
        if (m->has_content) memcpy(m->content, sqlite3_column_blob(s, 2), RECO_BANK_HASH);
        m->placed = sqlite3_column_int(s, 3) != 0;
        const char *uri = (const char *)sqlite3_column_text(s, 4);
        if (uri && !(m->uri = reco_strdup(ctx, uri))) RECO_GO(RECO_E_NOMEM);
    }
out:
    sqlite3_reset(s);
    return status;
}

static reco_picture_is compare(const member *a, const member *b)
{
    if (!a->has_content || !b->has_content) return RECO_PICTURE_UNKNOWN;
    return memcmp(a->content, b->content, RECO_BANK_HASH) == 0 ? RECO_PICTURE_SAME : RECO_PICTURE_OTHER;
}

/* An earlier bank's pair of the picture that m may be of: one of the same content, else the first; NULL: none. */
static member *find(group *g, const member *m, bool same_caption)
{
    member *first = NULL;
    for (member *e = g->items; e < m; e++) {
        if (e->fate || e->bank == m->bank || (g->by_uri && e->placed && m->placed)) continue;
        if (same_caption && memcmp(e->caption, m->caption, RECO_BANK_HASH) != 0) continue;
        if (compare(e, m) == RECO_PICTURE_SAME) return e;
        if (!first) first = e;
    }
    return first;
}

static reco_status is_same(reco_ctx *ctx, const reco_merge_rules *rules, const member *a, const member *b,
                           bool *same)
{
    reco_picture_is is = compare(a, b);
    *same = is == RECO_PICTURE_SAME;
    return is == RECO_PICTURE_UNKNOWN ? rules->same(ctx, rules->arg, a->number, b->number, same) : RECO_OK;
}

static reco_status judge(reco_ctx *ctx, const reco_merge_rules *rules, group *g)
{
    for (member *m = g->items; m < g->items + g->n; m++) {
        bool same;
        member *e = find(g, m, true);
        if (e) {
            RECO_TRY(is_same(ctx, rules, e, m, &same));
            if (same)
                m->fate = RECO_MERGE_DOUBLE;
            else if (e->placed && m->placed) /* else it may be a picture of another folder */
                e->fate = RECO_MERGE_REPLACED;
        } else if (!rules->several && (e = find(g, m, false))) {
            RECO_TRY(is_same(ctx, rules, e, m, &same));
            if (same) m->fate = RECO_MERGE_REFUSED;
        }
        RECO_TRY(reco_progress(ctx, "comparing pairs", 0, 0));
    }
    return RECO_OK;
}

static reco_status drop(reco_ctx *ctx, reco_catalog *c, const group *g)
{
    for (size_t i = 0; i < g->n; i++) {
        const member *m = &g->items[i];
        sqlite3_stmt *s;
        if (!m->fate) continue;
        RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_DROP, &s));
        sqlite3_bind_int64(s, 1, m->number);
        sqlite3_bind_int(s, 2, (int)m->fate);
        if (m->uri && m->fate == RECO_MERGE_REFUSED) sqlite3_bind_text(s, 3, m->uri, -1, SQLITE_STATIC);
        RECO_TRY(reco_catalog_run(ctx, c, s));
    }
    return RECO_OK;
}

static void empty(group *g)
{
    for (size_t i = 0; i < g->n; i++) reco_free(g->items[i].uri);
    g->n = 0;
}

static reco_status look(reco_ctx *ctx, reco_catalog *c, const reco_merge_rules *rules, sqlite3_stmt *s,
                        group *g)
{
    reco_status status;
    RECO_GO(read_group(ctx, c, rules, s, g));
    RECO_GO(judge(ctx, rules, g));
    status = drop(ctx, c, g);
out:
    empty(g);
    return status;
}

static reco_status by_place(reco_ctx *ctx, reco_catalog *c, const reco_merge_rules *rules, group *g)
{
    sqlite3_stmt *s, *rows;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_PLACES, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        if (bank_of(rules, sqlite3_column_int64(s, 1)) == bank_of(rules, sqlite3_column_int64(s, 2)))
            continue; /* it was one bank's to judge */
        RECO_GO(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_OF_PLACE, &rows));
        sqlite3_bind_value(rows, 1, sqlite3_column_value(s, 0));
        RECO_GO(look(ctx, c, rules, rows, g));
    }
out:
    sqlite3_reset(s);
    return status;
}

/* Pairs of banks of format 1 and 2 have no place: they are known by their uri, among themselves and to others. */
static reco_status by_uri(reco_ctx *ctx, reco_catalog *c, const reco_merge_rules *rules, group *g)
{
    sqlite3_stmt *s, *rows;
    reco_status status;
    g->by_uri = true;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_URIS, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        RECO_GO(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_OF_URI, &rows));
        sqlite3_bind_value(rows, 1, sqlite3_column_value(s, 0));
        RECO_GO(look(ctx, c, rules, rows, g));
    }
out:
    sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_merge_drop(reco_ctx *ctx, reco_catalog *c, const reco_merge_rules *rules)
{
    group g = {0};
    RECO_TRY(reco_catalog_index(ctx, c, "pair_place"));
    RECO_TRY(reco_catalog_index(ctx, c, "pair_unplaced"));
    RECO_TRY(reco_catalog_index(ctx, c, "pair_uri"));
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    reco_status status = reco_catalog_exec(ctx, c, "DELETE FROM merge_dropped");
    if (status == RECO_OK) status = by_place(ctx, c, rules, &g);
    if (status == RECO_OK) status = by_uri(ctx, c, rules, &g);
    reco_free(g.items);
    return reco_catalog_end(ctx, c, status);
}
