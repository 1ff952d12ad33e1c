#include "io/internal.h"

#include <stdlib.h>

#define MAX_FIELDS 4096

static reco_status push(reco_ctx *ctx, const reco_lines *lines, reco_io_csv *csv, const char *data,
                        size_t bytes)
{
    if (bytes > RECO_IO_MAX_RECORD - csv->used)
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s:%llu: record is longer than %zu bytes: is a quote left open?",
                         reco_io_lines_path(lines), (unsigned long long)csv->line, RECO_IO_MAX_RECORD);
    if (bytes > csv->room - csv->used) {
        size_t room = reco_max(4096, 2 * (csv->used + bytes));
        char *grown = realloc(csv->text, room);
        if (!grown) return reco_fail_nomem(ctx, room, "csv record");
        csv->text = grown;
        csv->room = room;
    }
    if (bytes) memcpy(csv->text + csv->used, data, bytes);
    csv->used += bytes;
    return RECO_OK;
}

static reco_status start_field(reco_ctx *ctx, reco_io_csv *csv)
{
    if (csv->n == csv->start_room) {
        size_t room = csv->start_room ? 2 * csv->start_room : 32;
        size_t *grown = realloc(csv->start, room * sizeof *grown);
        if (!grown) return reco_fail_nomem(ctx, room * sizeof *grown, "csv record");
        csv->start = grown;
        csv->start_room = room;
    }
    csv->start[csv->n++] = csv->used;
    return RECO_OK;
}

/* The rest of a quoted field, over as many lines as it takes. *at is behind the opening quote, then behind the
 * closing one of whichever line is current. */
static reco_status quoted(reco_ctx *ctx, reco_lines *lines, reco_io_csv *csv, char **line, size_t *bytes,
                          size_t *end, size_t *at, const char **bad)
{
    for (;;) {
        char *from = *line + *at, *quote = memchr(from, '"', *bytes - *at);
        if (!quote) {
            RECO_TRY(push(ctx, lines, csv, from, *bytes - *at + *end));
            RECO_TRY(reco_io_lines_raw(ctx, lines, line, bytes, end));
            *at = 0;
            if (!*line) {
                *bad = "a quote is never closed";
                return RECO_OK;
            }
            continue;
        }
        bool twice = quote + 1 < *line + *bytes && quote[1] == '"'; /* stands for one */
        RECO_TRY(push(ctx, lines, csv, from, (size_t)(quote - from) + twice));
        *at = (size_t)(quote - *line) + 1 + twice;
        if (twice) continue;
        if (*at < *bytes && (*line)[*at] != csv->separator) *bad = "text follows a closing quote";
        return RECO_OK;
    }
}

reco_status reco_io_csv_next(reco_ctx *ctx, reco_lines *lines, reco_io_csv *csv, const char **bad)
{
    csv->n = csv->used = 0;
    *bad = NULL;
    char *line;
    size_t bytes, end;
    RECO_TRY(reco_io_lines_filled(ctx, lines, false, &line, &bytes, &end, &csv->gap));
    if (!line) return RECO_OK;
    csv->line = reco_io_lines_number(lines);

    for (size_t at = 0;; at++) {
        if (csv->n == MAX_FIELDS) {
            *bad = "more than 4096 fields";
            return RECO_OK;
        }
        RECO_TRY(start_field(ctx, csv));
        if (at < bytes && line[at] == '"') {
            at++;
            RECO_TRY(quoted(ctx, lines, csv, &line, &bytes, &end, &at, bad));
            if (*bad) return RECO_OK;
        } else {
            const char *from = line + at, *stop = memchr(from, csv->separator, bytes - at);
            size_t n = stop ? (size_t)(stop - from) : bytes - at;
            RECO_TRY(push(ctx, lines, csv, from, n));
            at += n;
        }
        RECO_TRY(push(ctx, lines, csv, "", 1));
        if (at == bytes) return RECO_OK;
    }
}

const char *reco_io_csv_field(const reco_io_csv *csv, size_t i, size_t *bytes)
{
    *bytes = (i + 1 < csv->n ? csv->start[i + 1] : csv->used) - csv->start[i] - 1;
    return csv->text + csv->start[i];
}

void reco_io_csv_free(reco_io_csv *csv)
{
    free(csv->text);
    free(csv->start);
}
