#include "io/internal.h"
#include "io/window.h"

#define DEEPEST 128

/* What may come next. A record that breaks off is told by this from one that goes on in the next line. */
typedef enum want { KEY_OR_END, KEY, COLON, VALUE, VALUE_OR_END, AFTER } want;

typedef struct walk {
    reco_window *w;
    size_t at;
    uint64_t lines; /* ended within the record */
    want next;
    size_t depth;
    bool object[DEEPEST];
} walk;

static reco_status byte_at(reco_ctx *ctx, reco_window *w, size_t at, int *c)
{
    while (at >= w->end - w->start && !w->ended) RECO_TRY(reco_window_fill(ctx, w));
    *c = at < w->end - w->start ? (unsigned char)w->data[w->start + at] : -1;
    return RECO_OK;
}

static bool is_word_char(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.';
}

static bool is_json_space(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool wants_value(const walk *k) { return k->next == VALUE || k->next == VALUE_OR_END; }

/* at is behind the opening quote, then behind the closing one; false: a line ends before that. */
static reco_status pass_string(reco_ctx *ctx, walk *k, bool *good)
{
    int c;
    for (;; k->at++) {
        RECO_TRY(byte_at(ctx, k->w, k->at, &c));
        *good = c == '"';
        if (c < 0 || c == '\n' || c == '"') break;
        if (c == '\\') {
            RECO_TRY(byte_at(ctx, k->w, k->at + 1, &c));
            if (c >= 0 && c != '\n') k->at++;
        }
        if (k->at > RECO_IO_MAX_RECORD) return RECO_OK;
    }
    k->at += *good;
    return RECO_OK;
}

static bool open_value(walk *k, bool object)
{
    if (!wants_value(k) || k->depth == DEEPEST) return false;
    k->object[k->depth++] = object;
    k->next = object ? KEY_OR_END : VALUE_OR_END;
    return true;
}

static bool close_value(walk *k, bool object)
{
    want empty = object ? KEY_OR_END : VALUE_OR_END;
    if (k->depth == 0 || k->object[k->depth - 1] != object || (k->next != AFTER && k->next != empty))
        return false;
    k->depth--;
    k->next = AFTER;
    return true;
}

/* One character, or one string or word, of what stands in an object; false: it can't stand there. */
static reco_status step_token(reco_ctx *ctx, walk *k, int c, bool *good)
{
    k->at++;
    switch (c) {
    case '{':
    case '[':
        *good = open_value(k, c == '{');
        return RECO_OK;
    case '}':
    case ']':
        *good = close_value(k, c == '}');
        return RECO_OK;
    case ',':
        *good = k->next == AFTER;
        k->next = k->object[k->depth - 1] ? KEY : VALUE;
        return RECO_OK;
    case ':':
        *good = k->next == COLON;
        k->next = VALUE;
        return RECO_OK;
    case '"':
        *good = wants_value(k) || k->next == KEY || k->next == KEY_OR_END;
        k->next = wants_value(k) ? AFTER : COLON;
        if (*good) RECO_TRY(pass_string(ctx, k, good));
        return RECO_OK;
    default:
        *good = is_word_char(c) && wants_value(k);
        k->next = AFTER;
        while (*good && is_word_char(c)) {
            RECO_TRY(byte_at(ctx, k->w, k->at, &c));
            k->at += is_word_char(c);
        }
        return RECO_OK;
    }
}

/* From the opening brace to behind the closing one. */
static reco_status pass_object(reco_ctx *ctx, walk *k, size_t max_lines, bool *good)
{
    *good = true;
    k->next = VALUE;
    do {
        int c;
        RECO_TRY(byte_at(ctx, k->w, k->at, &c));
        if (c == '\n') k->lines++;
        if (c < 0 || k->lines >= max_lines || k->at > RECO_IO_MAX_RECORD) *good = false;
        if (is_json_space(c))
            k->at++;
        else if (*good)
            RECO_TRY(step_token(ctx, k, c, good));
    } while (*good && k->depth);
    return RECO_OK;
}

/* Blanks, NULs, and of an array its brackets and commas; says whether a line was blank. */
static reco_status pass_between(reco_ctx *ctx, reco_window *w, reco_io_json_text *json)
{
    bool blank = false, filled = json->begun; /* the record before ends on this line */
    for (;; w->start++) {
        int c;
        RECO_TRY(byte_at(ctx, w, 0, &c));
        if (c == '\n') {
            blank |= !filled;
            filled = false;
            w->line++;
        } else if (json->array && (c == ',' || c == ']'))
            filled = true;
        else if (!is_json_space(c) && c != 0) {
            json->gap |= blank && c >= 0;
            return RECO_OK;
        }
    }
}

/* Does the file begin as an array of objects? */
static reco_status find_array(reco_ctx *ctx, reco_window *w, reco_io_json_text *json)
{
    int c;
    size_t at = 1;
    RECO_TRY(byte_at(ctx, w, 0, &c));
    if (c != '[') return RECO_OK;
    do RECO_TRY(byte_at(ctx, w, at++, &c));
    while (is_json_space(c) && at < RECO_IO_MAX_RECORD);
    json->array = c == '{' || c == ']';
    w->start += json->array;
    if (json->array) return pass_between(ctx, w, json);
    return RECO_OK;
}

/* The rest of a line on which an object ends; *good: nothing else stands there that is no object. */
static reco_status look_behind(reco_ctx *ctx, const reco_io_json_text *json, walk *k, bool *good)
{
    int c;
    size_t at = k->at;
    do RECO_TRY(byte_at(ctx, k->w, at++, &c));
    while (c == ' ' || c == '\t' || c == '\r' || c == 0);
    *good = c < 0 || c == '\n' || c == '{' || (json->array && (c == ',' || c == ']'));
    return RECO_OK;
}

reco_status reco_io_json_next(reco_ctx *ctx, reco_window *w, reco_io_json_text *json)
{
    json->text = NULL;
    json->bytes = 0;
    json->broken = false;
    RECO_TRY(pass_between(ctx, w, json));
    if (!json->begun) RECO_TRY(find_array(ctx, w, json));
    json->begun = true;
    json->line = w->line;
    if (w->start == w->end) return RECO_OK;

    walk k = {.w = w};
    int c;
    bool good;
    RECO_TRY(byte_at(ctx, w, 0, &c));
    good = c == '{';
    if (good) RECO_TRY(pass_object(ctx, &k, json->max_lines, &good));
    if (good) RECO_TRY(look_behind(ctx, json, &k, &good));
    json->broken = !good;
    if (!good) { /* the line alone: what stands below is not to suffer */
        for (k.at = 0, k.lines = 0; k.at < RECO_IO_MAX_RECORD; k.at++) {
            RECO_TRY(byte_at(ctx, w, k.at, &c));
            if (c < 0 || c == '\n') break;
        }
        if (k.at == RECO_IO_MAX_RECORD) { /* no more of it is kept */
            size_t passed;
            RECO_TRY(reco_io_skip_line(ctx, w, &passed));
            json->text = "{";
            json->bytes = 1;
            return RECO_OK;
        }
    }
    json->text = w->data + w->start;
    json->bytes = k.at;
    w->start += k.at;
    w->line += k.lines;
    return RECO_OK;
}
