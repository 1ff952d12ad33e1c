#include "pipeline/pipeline_internal.h"

#include <limits.h>

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* What is written otherwise than a path is, in place: %20 as in a URL, and Windows' backslashes. */
static void plain_path(char *path, bool percent, bool backslash)
{
    char *to = path;
    for (const char *c = path; *c; c++, to++) {
        bool coded = percent && *c == '%' && c[1] && hex(c[1]) >= 0 && hex(c[2]) >= 0 &&
                     (c[1] != '0' || c[2] != '0');
        *to = *c == '\\' && backslash ? '/' : *c;
        if (!coded) continue;
        *to = (char)(16 * hex(c[1]) + hex(c[2]));
        c += 2;
    }
    *to = 0;
}

/* Beside the file, else as it is; NULL where nothing is there. */
static char *find_path(reco_ctx *ctx, const char *file, const char *item)
{
    char *dir = reco_path_dir(ctx, file), *path = dir ? reco_path_join(ctx, dir, item) : NULL;
    reco_free(dir);
    if (path && reco_path_exists(path)) return path;
    reco_free(path);
    return reco_path_exists(item) ? reco_strdup(ctx, item) : NULL;
}

char *reco_resolve_path(reco_ctx *ctx, const char *file, const char *item)
{
    const char *name = item;
    bool url = strncmp(item, "file://", 7) == 0;
    if (url) name += strncmp(item, "file://localhost/", 17) == 0 ? 16 : 7;
    if (!url && *item == '/') return reco_strdup(ctx, item);
    char *found = find_path(ctx, file, name), *other = found ? NULL : reco_strdup(ctx, name);
    if (other) {
        plain_path(other, url, true);
        while (*other == ' ') memmove(other, other + 1, strlen(other)); /* "a.csv, b.png" */
        for (size_t n = strlen(other); n && other[n - 1] == ' '; n--) other[n - 1] = 0;
        found = find_path(ctx, file, other);
    }
    reco_free(other);
    return found ? found : reco_strdup(ctx, name);
}

static reco_status grow_lines(reco_ctx *ctx, char ***items, size_t n, size_t *room)
{
    char **grown = reco_grow(ctx, *items, n, room, 64, sizeof *grown, "lines");
    if (grown) *items = grown;
    return grown ? RECO_OK : RECO_E_NOMEM;
}

void reco_lines_free(char **lines, size_t n)
{
    for (size_t i = 0; lines && i < n; i++) reco_free(lines[i]);
    reco_free(lines);
}

reco_status reco_read_lines(reco_ctx *ctx, const char *path, char ***lines, size_t *n)
{
    *lines = NULL;
    *n = 0;
    reco_lines *file = NULL;
    size_t room = 0;
    reco_status status = reco_lines_open(ctx, &file, path);
    while (status == RECO_OK) {
        const char *line;
        size_t bytes;
        RECO_GO(reco_lines_next(ctx, file, &line, &bytes));
        if (!line) break;
        if (bytes == 0) continue;
        RECO_GO(grow_lines(ctx, lines, *n, &room));
        if (!((*lines)[*n] = reco_strdup(ctx, line))) RECO_GO(RECO_E_NOMEM);
        ++*n;
    }
    if (status == RECO_OK && *n == 0) status = reco_fail(ctx, RECO_E_FORMAT, "%s: no lines", path);
out:
    reco_lines_close(file);
    if (status != RECO_OK) {
        reco_lines_free(*lines, *n);
        *lines = NULL;
    }
    return status;
}

static const char *const roles[RECO_COLUMNS] = {"image", "text", "label"};

/* Which kind of column the name stands for; -1: it is one of the file's own. */
static int role_of(const char *name)
{
    for (int i = 0; i < RECO_COLUMNS; i++)
        if (strcmp(name, roles[i]) == 0) return i;
    return -1;
}

reco_status reco_row_value(reco_ctx *ctx, const json_t *row, const char *name, const reco_table_opts *table,
                           char **out)
{
    int role = role_of(name);
    const char *given = role < 0 ? name : reco_column_given((reco_column)role, table), *key;
    json_t *value, *best = NULL;
    int least = INT_MAX;
    *out = NULL;
    json_object_foreach((json_t *)row, key, value)
    {
        bool says = json_is_number(value) || (json_is_string(value) && *json_string_value(value));
        int at = given ? (reco_column_same(given, key) ? strcmp(given, key) != 0 : -1)
                       : reco_column_rank((reco_column)role, key);
        if (!says || at < 0 || at >= least) continue;
        least = at;
        best = value;
    }
    if (!best) return RECO_OK;
    *out = json_is_string(best) ? reco_strdup(ctx, json_string_value(best)) : reco_json_dump(ctx, best);
    return *out ? RECO_OK : RECO_E_NOMEM;
}

reco_status reco_read_columns(reco_ctx *ctx, const char *path, const reco_table_opts *table, const char *a,
                              const char *b, char ***as, char ***bs, char ***reasons, uint64_t **lines,
                              size_t *n)
{
    const char *const names[2] = {a, b};
    uint64_t *at = NULL;
    size_t room_at = 0;
    char **columns[3] = {NULL, NULL, NULL}; /* the last: what is wrong with the row */
    size_t room[3] = {0, 0, 0};
    reco_records *file = NULL;
    json_t *row = NULL;
    *as = *bs = NULL;
    if (reasons) *reasons = NULL;
    *n = 0;
    reco_status status = reco_records_open(ctx, &file, path, table);
    for (int i = 0; i < 2 && status == RECO_OK; i++)
        if (role_of(names[i]) >= 0) status = reco_records_need(ctx, file, (reco_column)role_of(names[i]));
    while (status == RECO_OK) {
        uint64_t number;
        const char *bad = NULL;
        char *values[3] = {NULL, NULL, NULL}, no[32];
        RECO_GO(reco_records_next(ctx, file, &row, &number, &bad));
        if (!row && !bad) break;
        for (int i = 0; i < 3 && status == RECO_OK; i++)
            status = grow_lines(ctx, &columns[i], *n, &room[i]);
        for (int i = 0; i < 2 && status == RECO_OK; i++) {
            if (row) status = reco_row_value(ctx, row, names[i], table, &values[i]);
            if (status != RECO_OK || values[i]) continue;
            if (!bad) snprintf(no, sizeof no, "no %.20s", names[i]);
            if (!bad) bad = no;
            if (!(values[i] = reco_strdup(ctx, ""))) status = RECO_E_NOMEM;
        }
        if (status == RECO_OK && bad && !reasons)
            status =
                reco_fail(ctx, RECO_E_FORMAT, "%s: record %llu: %s", path, (unsigned long long)number, bad);
        if (status == RECO_OK && bad && !(values[2] = reco_strdup(ctx, bad))) status = RECO_E_NOMEM;
        if (status != RECO_OK) {
            for (int i = 0; i < 3; i++) reco_free(values[i]);
            goto out;
        }
        for (int i = 0; i < 3; i++) columns[i][*n] = values[i];
        ++*n;
        json_decref(row);
        row = NULL;
        uint64_t *grown = reco_grow(ctx, at, *n - 1, &room_at, 64, sizeof *grown, "lines");
        if (!grown) RECO_GO(RECO_E_NOMEM);
        at = grown;
        at[*n - 1] = reco_records_line(file);
    }
    if (status == RECO_OK && *n == 0) status = reco_fail(ctx, RECO_E_FORMAT, "%s: no records", path);
out:
    json_decref(row);
    reco_records_close(file);
    for (int i = 0; i < 3; i++) {
        if (status == RECO_OK && (i < 2 || reasons)) continue;
        reco_lines_free(columns[i], *n);
        columns[i] = NULL;
    }
    *as = columns[0];
    *bs = columns[1];
    if (reasons) *reasons = columns[2];
    if (lines) *lines = status == RECO_OK ? at : NULL;
    if (!lines || status != RECO_OK) reco_free(at);
    return status;
}
