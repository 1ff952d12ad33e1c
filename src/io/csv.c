#include "io/internal.h"
#include "io/window.h"

#include <stdlib.h>

#define MAX_FIELDS 4096
#define MAX_LINE ((uint64_t)1 << 30) /* that is looked for the end of when it is passed over */

static reco_status append_to_record(reco_ctx *ctx, reco_io_csv *csv, const char *data, size_t bytes)
{
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
    reco_io_field *fields =
        reco_grow(ctx, csv->fields, csv->n, &csv->field_room, 32, sizeof *fields, "csv record");
    if (!fields) return RECO_E_NOMEM;
    csv->fields = fields;
    csv->fields[csv->n++] = (reco_io_field){.start = csv->used};
    return RECO_OK;
}

/* The byte `at` behind the window's start, -1 where the file ends before it. */
static inline reco_status byte_at(reco_ctx *ctx, reco_window *w, size_t at, int *c)
{
    while (at >= w->end - w->start && !w->ended) RECO_TRY(reco_window_fill(ctx, w));
    *c = at < w->end - w->start ? (unsigned char)w->data[w->start + at] : -1;
    return RECO_OK;
}

reco_status reco_io_skip_line(reco_ctx *ctx, reco_window *w, size_t *bytes)
{
    uint64_t passed = 0;
    int c;
    for (*bytes = 0;; w->start++, ++*bytes) {
        RECO_TRY(byte_at(ctx, w, 0, &c));
        if (c < 0) return RECO_OK;
        if (c == '\n' || c == '\r') break;
        if (++passed > MAX_LINE)
            return reco_fail(ctx, RECO_E_FORMAT, "%s:%llu: line is longer than %llu bytes", w->path,
                             (unsigned long long)w->line, (unsigned long long)MAX_LINE);
    }
    int first = c;
    RECO_TRY(byte_at(ctx, w, 1, &c));
    size_t end = first == '\r' && c == '\n' ? 2 : 1;
    w->start += end;
    *bytes += end;
    w->line++;
    return RECO_OK;
}

/* Lines that hold nothing. A separator is something. */
static reco_status skip_blank(reco_ctx *ctx, reco_window *w, reco_io_csv *csv)
{
    for (bool blank = false;; blank = true) {
        int c;
        size_t at = 0, bytes;
        do RECO_TRY(byte_at(ctx, w, at++, &c));
        while ((c == ' ' || c == '\t' || c == 0) && c != csv->dialect.separator && at < RECO_IO_MAX_RECORD);
        if (c < 0) w->start = w->end;
        if (c != '\n' && c != '\r') {
            csv->gap |= blank && c >= 0;
            return RECO_OK;
        }
        RECO_TRY(reco_io_skip_line(ctx, w, &bytes));
    }
}

/* What is read of a record so far. */
typedef struct reading {
    reco_window *w;
    reco_io_csv *csv;
    size_t at; /* behind the window's start */
    const char *bad;
} reading;

static bool too_long(reading *r)
{
    if (r->at <= RECO_IO_MAX_RECORD) return false;
    r->bad = "record is longer than 16777216 bytes: is a quote left open?";
    return true;
}

/* A line ends inside quotes. */
static void count_line(reading *r)
{
    reco_io_csv *csv = r->csv;
    if (csv->lines++ < csv->dialect.max_lines) return;
    snprintf(csv->bad, sizeof csv->bad, "the record spans more than %zu lines: is a quote left open?",
             csv->dialect.max_lines);
    r->bad = csv->bad;
}

/* r->at is behind the opening quote, then behind the closing one. */
static reco_status quoted(reco_ctx *ctx, reading *r)
{
    reco_io_csv *csv = r->csv;
    for (;;) {
        size_t from = r->at;
        int c, next;
        for (;; r->at++) {
            RECO_TRY(byte_at(ctx, r->w, r->at, &c));
            if (c < 0 || c == '"' || (c == '\\' && csv->dialect.escapes)) break;
            if (c != '\n' && c != '\r') continue;
            RECO_TRY(byte_at(ctx, r->w, r->at + 1, &next));
            if (c == '\r' && next == '\n') continue;
            count_line(r);
            if (r->bad || too_long(r)) return RECO_OK;
        }
        if (too_long(r)) return RECO_OK;
        if (c < 0) r->bad = "a quote is never closed";
        if (c < 0) return RECO_OK;
        RECO_TRY(byte_at(ctx, r->w, r->at + 1, &next));
        const char *text = r->w->data + r->w->start + from;
        size_t n = r->at - from;
        if (c == '"' && n && text[n - 1] == '\\') csv->escaped = true;
        bool twice = c == '"' ? next == '"' : next == '"' || next == '\\';
        if (c == '"' && !twice) {
            r->at++;
            return append_to_record(ctx, csv, text, n);
        }
        if (twice) { /* the second stands for itself */
            RECO_TRY(append_to_record(ctx, csv, text, n));
            RECO_TRY(append_to_record(ctx, csv, r->w->data + r->w->start + r->at + 1, 1));
            r->at += 2;
        } else
            RECO_TRY(append_to_record(ctx, csv, text, n + (r->at++, 1)));
    }
}

/* Up to a separator or the line's end, at which r->at stands then. */
static reco_status read_plain_field(reco_ctx *ctx, reading *r)
{
    reco_io_csv *csv = r->csv;
    const char separator = csv->dialect.separator;
    for (;;) {
        size_t from = r->at;
        int c, next;
        for (;; r->at++) {
            RECO_TRY(byte_at(ctx, r->w, r->at, &c));
            if (c < 0 || c == separator || c == '\n' || c == '\r' || c == '\\') break;
        }
        if (too_long(r)) return RECO_OK;
        if (c != '\\') return append_to_record(ctx, csv, r->w->data + r->w->start + from, r->at - from);
        RECO_TRY(byte_at(ctx, r->w, r->at + 1, &next));
        bool escape = next == '"' || next == separator;
        csv->escaped |= escape;
        escape = csv->dialect.escapes && (escape || next == '\\');
        const char *text = r->w->data + r->w->start + from;
        RECO_TRY(append_to_record(ctx, csv, text, r->at - from + !escape));
        r->at++;
        if (!escape) continue;
        RECO_TRY(append_to_record(ctx, csv, r->w->data + r->w->start + r->at, 1));
        r->at++;
    }
}

static reco_status read_field(reco_ctx *ctx, reading *r)
{
    reco_io_csv *csv = r->csv;
    int c;
    RECO_TRY(start_field(ctx, csv));
    for (;; r->at++) {
        RECO_TRY(byte_at(ctx, r->w, r->at, &c));
        if (!csv->dialect.trims || (c != ' ' && c != '\t') || c == csv->dialect.separator) break;
    }
    reco_io_field *field = &csv->fields[csv->n - 1];
    if (c == '"' && csv->dialect.quotes) {
        field->quoted = true;
        r->at++;
        RECO_TRY(quoted(ctx, r));
        if (r->bad) return RECO_OK;
        size_t behind = r->at;
        do RECO_TRY(byte_at(ctx, r->w, behind++, &c));
        while ((c == ' ' || c == '\t') && c != csv->dialect.separator);
        if (c < 0 || c == csv->dialect.separator || c == '\n' || c == '\r')
            r->at = behind - 1;
        else {
            /* One line is taken as pandas takes it; of several it is not clear that they belong together. */
            csv->odd = true;
            if (csv->lines > 1) r->bad = "text follows a closing quote";
            if (!r->bad) RECO_TRY(read_plain_field(ctx, r));
        }
    } else
        RECO_TRY(read_plain_field(ctx, r));
    if (r->bad) return RECO_OK;
    field->bytes = csv->used - field->start;
    return append_to_record(ctx, csv, "", 1);
}

static reco_status read_record(reco_ctx *ctx, reading *r)
{
    reco_io_csv *csv = r->csv;
    for (;;) {
        int c, next;
        if (csv->n == MAX_FIELDS) r->bad = "more than 4096 fields";
        if (!r->bad) RECO_TRY(read_field(ctx, r));
        if (r->bad) return RECO_OK;
        RECO_TRY(byte_at(ctx, r->w, r->at, &c));
        if (c < 0) return RECO_OK;
        r->at++;
        if (c == csv->dialect.separator) continue;
        RECO_TRY(byte_at(ctx, r->w, r->at, &next));
        if (c == '\r' && next == '\n') r->at++;
        return RECO_OK;
    }
}

reco_status reco_io_csv_look(reco_ctx *ctx, reco_window *w, reco_io_csv *csv, const char **bad)
{
    csv->n = csv->used = csv->bytes = 0;
    csv->odd = false;
    *bad = NULL;
    RECO_TRY(skip_blank(ctx, w, csv));
    csv->line = w->line;
    csv->lines = 1;
    if (w->start == w->end) return RECO_OK;
    reading r = {.w = w, .csv = csv};
    RECO_TRY(read_record(ctx, &r));
    *bad = r.bad;
    csv->bytes = r.at;
    return RECO_OK;
}

reco_status reco_io_csv_next(reco_ctx *ctx, reco_window *w, reco_io_csv *csv, const char **bad)
{
    RECO_TRY(reco_io_csv_look(ctx, w, csv, bad));
    if (csv->n == 0) return RECO_OK;
    if (!*bad && csv->lines > 1 && csv->most && reco_io_csv_filled(csv) > csv->most) {
        snprintf(csv->bad, sizeof csv->bad,
                 "the record spans %llu lines and has %zu fields, want %zu: is a quote left open?",
                 (unsigned long long)csv->lines, csv->n, csv->most);
        *bad = csv->bad;
    }
    if (*bad) { /* what stands below is not to suffer from a quote that was left open */
        csv->lines = 1;
        return reco_io_skip_line(ctx, w, &csv->bytes);
    }
    w->start += csv->bytes;
    w->line += csv->lines;
    return RECO_OK;
}

size_t reco_io_csv_filled(const reco_io_csv *csv)
{
    size_t n = csv->n;
    while (n > csv->most && csv->fields[n - 1].bytes == 0) n--;
    return n;
}

const char *reco_io_csv_field(const reco_io_csv *csv, size_t i, size_t *bytes)
{
    *bytes = csv->fields[i].bytes;
    return csv->text + csv->fields[i].start;
}

void reco_io_csv_free(reco_io_csv *csv)
{
    free(csv->text);
    free(csv->fields);
}
