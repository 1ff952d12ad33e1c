#include "io/internal.h"
#include "io/window.h"

/* Of a column's values so far. */
typedef struct tally {
    uint64_t filled, quoted, wrapped; /* not empty; read in quotes; with a quote at both ends */
    bool other, uncounted;            /* one is no number; one is not the row's number */
    int64_t first;
} tally;

/* The rows as one dialect reads them. */
typedef struct scan {
    uint64_t good, bad; /* records */
    uint64_t longer;    /* of the bad, those with one field more than names */
    uint64_t joined;    /* lines beyond the first of a record */
    bool escaped;       /* a backslash stood before a quote or a separator */
    bool leading;       /* a field begins with a quote, read without them; */
    bool malformed;     /* one such that does not end with one, or has a single one inside; */
    bool needed;        /* and one with something inside that quotes are for */
    tally *columns;     /* [t->n] */
    tally names;        /* first fields of rows that are longer */
} scan;

/* Does the text begin and end with quotes, those inside doubled? */
static bool is_wrapped(const char *text, size_t bytes, bool *needed)
{
    bool needs = false;
    if (bytes < 2 || text[bytes - 1] != '"') return false;
    for (size_t i = 1; i < bytes - 1; i++) {
        if (text[i] == '"' && (i + 1 == bytes - 1 || text[++i] != '"')) return false;
        needs |= text[i] == '"' || text[i] == ',' || text[i] == ';';
    }
    *needed |= needs;
    return true;
}

static bool counts(tally *c, const char *text, size_t bytes, uint64_t row)
{
    uint64_t value = 0;
    if (bytes == 0 || bytes > 18) return false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = 10 * value + (uint64_t)(text[i] - '0');
    }
    if (row == 0) c->first = (int64_t)value;
    return c->first <= 1 && value == row + (uint64_t)c->first;
}

static void count_field(const reco_io_table *t, scan *s, size_t i, uint64_t row)
{
    size_t bytes;
    tally *c = &s->columns[i];
    const char *text = reco_io_csv_field(&t->csv, i, &bytes);
    if (!c->uncounted) c->uncounted = !counts(c, text, bytes, row);
    if (bytes == 0) return;
    c->filled++;
    c->quoted += t->csv.fields[i].quoted;
    if (*text == '"' && !t->csv.dialect.quotes) {
        bool wrapped = is_wrapped(text, bytes, &s->needed);
        s->leading = true;
        s->malformed |= !wrapped;
        c->wrapped += wrapped;
    }
    if (!c->other) c->other = !reco_is_number(text, bytes);
}

static reco_status scan_table(reco_ctx *ctx, reco_io_table *t, scan *s, bool quotes, bool escapes)
{
    *s = (scan){.columns = s->columns};
    memset(s->columns, 0, t->n * sizeof *s->columns);
    t->csv.dialect.quotes = quotes;
    t->csv.dialect.escapes = escapes;
    t->csv.escaped = false;
    RECO_TRY(reco_io_table_rewind(ctx, t));
    for (uint64_t row = 0;; row++) {
        const char *bad;
        RECO_TRY(reco_io_csv_next(ctx, t->window, &t->csv, &bad));
        if (t->csv.n == 0) return RECO_OK;
        s->escaped |= t->csv.escaped;
        const size_t n = reco_io_csv_filled(&t->csv);
        if (bad || t->csv.odd || n != t->n)
            s->bad++;
        else
            s->good++;
        if (!bad && n == t->n + 1) {
            size_t bytes;
            const char *name = reco_io_csv_field(&t->csv, 0, &bytes);
            s->longer++;
            if (!s->names.uncounted) s->names.uncounted = !counts(&s->names, name, bytes, row);
        }
        if (bad || n > t->n) {
            /* A separator within quotes, perhaps. */
            for (size_t i = 0, bytes; i < t->csv.n; i++)
                s->leading |= *reco_io_csv_field(&t->csv, i, &bytes) == '"';
            continue;
        }
        s->joined += t->csv.lines - 1;
        for (size_t i = 0; i < t->n; i++) {
            if (i < t->csv.n)
                count_field(t, s, i, row);
            else
                s->columns[i].uncounted = true;
        }
        if (row % 4096 == 0) RECO_TRY(reco_progress(ctx, "reading the table", row, 0));
    }
}

static bool better(const scan *a, const scan *b)
{
    return (int64_t)(a->good - a->bad) > (int64_t)(b->good - b->bad);
}

/* Without quotes every field that begins with one is read as it is: do they show that they belong to the writing? */
static bool shows_quotes(const reco_io_table *t, const scan *plain)
{
    if (!plain->leading || plain->malformed) return false;
    bool shows = plain->needed || t->quoted_names > 0;
    for (size_t i = 0; i < t->n; i++) {
        const tally *c = &plain->columns[i];
        shows |= c->filled > 1 && c->wrapped == c->filled;
    }
    return shows;
}

static void swap_scans(scan *to, scan *from)
{
    const scan other = *to;
    *to = *from;
    *from = other;
}

/* The better of the two for quotes: with or without a backslash before those inside. */
static reco_status with_quotes(reco_ctx *ctx, reco_io_table *t, scan *best, scan *spare, bool *escapes)
{
    *escapes = false;
    RECO_TRY(scan_table(ctx, t, best, true, false));
    if (!best->escaped || best->bad == 0) return RECO_OK;
    RECO_TRY(scan_table(ctx, t, spare, true, true));
    if (!better(spare, best)) return RECO_OK;
    *escapes = true;
    swap_scans(best, spare);
    return RECO_OK;
}

static reco_status choose_scan(reco_ctx *ctx, reco_io_table *t, scan s[3], scan **chosen)
{
    reco_quote quote = t->opts ? t->opts->quote : RECO_QUOTE_AUTO;
    bool tabs = t->csv.dialect.separator == '\t', quotes = quote != RECO_QUOTE_NO, escapes = false,
         plain = false;
    *chosen = &s[0];
    if (quote == RECO_QUOTE_NO || (quote == RECO_QUOTE_AUTO && tabs)) {
        RECO_TRY(scan_table(ctx, t, &s[1], false, false));
        plain = true;
        quotes = quote != RECO_QUOTE_NO && s[1].leading;
    }
    if (quotes) {
        RECO_TRY(with_quotes(ctx, t, &s[0], &s[2], &escapes));
        if (plain) quotes = better(&s[0], &s[1]) || (!better(&s[1], &s[0]) && shows_quotes(t, &s[1]));
    }
    if (!quotes) *chosen = &s[1];
    t->csv.dialect.quotes = quotes;
    t->csv.dialect.escapes = quotes && escapes;
    return RECO_OK;
}

static void set_types(reco_io_table *t, const scan *s)
{
    for (size_t i = 0; i < t->n; i++) {
        const tally *c = &s->columns[i];
        reco_io_column *column = &t->columns[i];
        /* pandas writes the row's number before all others, without a name. */
        if (column->skipped) column->skipped = c->filled == 0 || (i == 0 && !c->uncounted && s->good > 0);
        if (column->text) continue;
        if (column->marked)
            column->type = RECO_IO_SCALAR;
        else if (c->filled && !c->other)
            column->type = RECO_IO_NUMBER;
    }
}

reco_status reco_io_table_scan(reco_ctx *ctx, reco_io_table *t)
{
    scan s[3] = {0}, *chosen;
    reco_status status = RECO_OK;
    for (size_t i = 0; i < 3; i++) /* one more, for names of rows */
        if (!(s[i].columns = reco_alloc(ctx, t->n + 1, sizeof *s[i].columns, "csv columns")))
            RECO_GO(RECO_E_NOMEM);
    RECO_GO(choose_scan(ctx, t, s, &chosen));
    if (chosen->longer && chosen->longer == chosen->bad && chosen->good == 0 && !chosen->names.uncounted) {
        RECO_GO(reco_io_table_name_rows(ctx, t));
        RECO_GO(choose_scan(ctx, t, s, &chosen));
    }
    set_types(t, chosen);
out:
    for (size_t i = 0; i < 3; i++) reco_free(s[i].columns);
    return status;
}
