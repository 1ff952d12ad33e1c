#include "pipeline/pipeline_internal.h"

char *reco_resolve_path(reco_ctx *ctx, const char *file, const char *item)
{
    if (item[0] == '/') return reco_strdup(ctx, item);
    char *dir = reco_path_dir(ctx, file), *joined = dir ? reco_path_join(ctx, dir, item) : NULL;
    reco_free(dir);
    if (joined && reco_path_exists(joined)) return joined;
    reco_free(joined);
    return reco_strdup(ctx, item);
}

/* Room for one more in an array that doubles. */
static reco_status grow(reco_ctx *ctx, char ***items, size_t n, size_t *room)
{
    if (n < *room) return RECO_OK;
    size_t more = *room ? 2 * *room : 64;
    char **larger = reco_alloc(ctx, more, sizeof *larger, "lines");
    if (!larger) return RECO_E_NOMEM;
    if (n) memcpy(larger, *items, n * sizeof *larger);
    reco_free(*items);
    *items = larger;
    *room = more;
    return RECO_OK;
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
        RECO_GO(grow(ctx, lines, *n, &room));
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

reco_status reco_read_columns(reco_ctx *ctx, const char *path, const reco_table_opts *table, const char *a,
                              const char *b, char ***as, char ***bs, size_t *n)
{
    (void)table;
    *as = *bs = NULL;
    *n = 0;
    size_t room_a = 0, room_b = 0;
    reco_records *file = NULL;
    json_t *row = NULL;
    reco_status status = reco_records_open(ctx, &file, path);
    while (status == RECO_OK) {
        uint64_t number;
        const char *bad = NULL;
        RECO_GO(reco_records_next(ctx, file, &row, &number, &bad));
        if (bad)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: record %llu: %s", path, (unsigned long long)number,
                              bad));
        if (!row) break;
        const char *x = json_string_value(json_object_get(row, a)),
                   *y = json_string_value(json_object_get(row, b));
        if (!x || !y)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: record %llu has no %s", path,
                              (unsigned long long)number, x ? b : a));
        RECO_GO(grow(ctx, as, *n, &room_a));
        RECO_GO(grow(ctx, bs, *n, &room_b));
        if (!((*as)[*n] = reco_strdup(ctx, x))) RECO_GO(RECO_E_NOMEM);
        if (!((*bs)[*n] = reco_strdup(ctx, y))) {
            reco_free((*as)[*n]);
            RECO_GO(RECO_E_NOMEM);
        }
        ++*n;
        json_decref(row);
        row = NULL;
    }
    if (status == RECO_OK && *n == 0) status = reco_fail(ctx, RECO_E_FORMAT, "%s: no records", path);
out:
    json_decref(row);
    reco_records_close(file);
    if (status != RECO_OK) {
        reco_lines_free(*as, *n);
        reco_lines_free(*bs, *n);
        *as = *bs = NULL;
    }
    return status;
}
