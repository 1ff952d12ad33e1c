#include "bank/catalog/where_text.h"

#include <stdio.h>

#define SECONDS_PER_LOOK 0.05
#define PATTERN 1000 /* most bytes of what is looked for, and of the characters to trim */

bool reco_where_late(reco_where_guard *g)
{
    double now = reco_now();
    if (now > g->deadline || g->steps > g->most_steps) {
        snprintf(g->refused, sizeof g->refused, "takes too long: stopped after %llu SQLite steps",
                 (unsigned long long)g->steps);
        return true;
    }
    if (now - g->asked >= SECONDS_PER_LOOK) {
        g->asked = now;
        g->stopped = reco_progress(g->ctx, "filtering", g->steps, 0);
    }
    return g->stopped != RECO_OK;
}

/* reco_guard(X) is X. LIKE, GLOB, instr, replace and trim take a time that is the product of two lengths, and nothing can stop them;
 * SQLite's limit on patterns is for the first two alone. Run before each, this keeps a call to a second or two, and ends those that
 * come one after the other without a loop, where SQLite itself never looks up. */
static void run_guard(sqlite3_context *f, int n, sqlite3_value **v)
{
    const reco_catalog *c = sqlite3_user_data(f);
    char error[64];
    int type = sqlite3_value_type(v[0]);
    (void)n;
    if (c->guard && reco_where_late(c->guard))
        sqlite3_result_error(f, "takes too long", -1);
    else if ((type == SQLITE_TEXT || type == SQLITE_BLOB) && sqlite3_value_bytes(v[0]) > PATTERN) {
        snprintf(error, sizeof error, "a pattern of more than %d bytes", PATTERN);
        sqlite3_result_error(f, error, -1);
    } else
        sqlite3_result_value(f, v[0]);
}

static bool is_number(int type) { return type == SQLITE_INTEGER || type == SQLITE_FLOAT; }

/* reco_note(I, LEFT, RIGHT, UPPER) is 1: comparison I is made of these. */
static void run_note(sqlite3_context *f, int n, sqlite3_value **v)
{
    const reco_catalog *c = sqlite3_user_data(f);
    sqlite3_int64 i = n > 0 ? sqlite3_value_int64(v[0]) : -1;
    int left = n > 1 ? sqlite3_value_type(v[1]) : SQLITE_NULL;
    sqlite3_result_int(f, 1);
    if (!c->guard || i < 0 || (size_t)i >= c->guard->text->ncomparisons) return;
    reco_comparison *comparison = &c->guard->text->comparisons[i];
    bool met = false;
    for (int j = 2; j < n; j++) {
        int right = sqlite3_value_type(v[j]);
        bool text_left = left == SQLITE_TEXT && is_number(right);
        if (!text_left && !(right == SQLITE_TEXT && is_number(left))) continue;
        comparison->text_left = text_left;
        met = true;
    }
    comparison->met += met;
}

reco_status reco_where_functions(reco_ctx *ctx, reco_catalog *c)
{
    int rc = sqlite3_create_function(c->db, "reco_guard", 1, SQLITE_UTF8, c, run_guard, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function(c->db, "reco_note", -1, SQLITE_UTF8, c, run_note, NULL, NULL);
    if (rc != SQLITE_OK) return reco_catalog_fail(ctx, c);
    c->has_where = true;
    return RECO_OK;
}
