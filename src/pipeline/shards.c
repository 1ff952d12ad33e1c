#include "pipeline/shards.h"

#include <ctype.h>
#include <glob.h>
#include <stdlib.h>

#define MOST ((size_t)1000000)
#define IDENTIFYING ((size_t)64 << 10) /* bytes of a tar that name it, beside its length */

static reco_status push_tar(reco_ctx *ctx, reco_shards *s, char *path)
{
    if (!path) return RECO_E_NOMEM;
    if (s->n == MOST) {
        reco_free(path);
        return reco_fail(ctx, RECO_E_ARG, "tars: more than %zu", MOST);
    }
    char **paths = reco_grow(ctx, s->paths, s->n, &s->room, 16, sizeof *paths, "list of tars");
    if (!paths) {
        reco_free(path);
        return RECO_E_NOMEM;
    }
    s->paths = paths;
    s->paths[s->n++] = path;
    return RECO_OK;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* "*", "?" and "[...]": what is there, sorted by bytes whatever the locale; a pattern that nothing matches stays, and is
 * then the name of a tar that is missing. */
static reco_status match_pattern(reco_ctx *ctx, reco_shards *s, const char *pattern)
{
    glob_t found = {0};
    int rc = !reco_path_exists(pattern) && strpbrk(pattern, "*?[")
                 ? glob(pattern, GLOB_NOSORT, NULL, &found)
                 : GLOB_NOMATCH;
    reco_status status = rc == GLOB_NOSPACE ? reco_fail_nomem(ctx, 0, "list of tars") : RECO_OK;
    if (rc == GLOB_NOMATCH || rc == GLOB_ABORTED) status = push_tar(ctx, s, reco_strdup(ctx, pattern));
    if (rc == 0) qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_text);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc && status == RECO_OK; i++)
        status = push_tar(ctx, s, reco_strdup(ctx, found.gl_pathv[i]));
    if (rc == 0) globfree(&found);
    return status;
}

/* The brace that closes this one, and in *comma whether there are alternatives within; NULL: none does. */
static const char *close_of(const char *open, bool *comma)
{
    size_t depth = 0;
    *comma = false;
    for (const char *c = open; *c; c++) {
        depth += *c == '{';
        if (*c == ',' && depth == 1) *comma = true;
        if (*c == '}' && --depth == 0) return c;
    }
    return NULL;
}

static reco_status expand(reco_ctx *ctx, reco_shards *s, const char *pattern, size_t from);

static reco_status expand_one(reco_ctx *ctx, reco_shards *s, const char *pattern, const char *open,
                              size_t bytes, const char *with, const char *close)
{
    char *name =
        reco_format(ctx, "%.*s%.*s%s", (int)(open - pattern), pattern, (int)bytes, with, close + 1);
    if (!name) return RECO_E_NOMEM;
    reco_status status = expand(ctx, s, name, (size_t)(open - pattern));
    reco_free(name);
    return status;
}

/* {a,b}: each in turn. */
static reco_status alternatives(reco_ctx *ctx, reco_shards *s, const char *pattern, const char *open,
                                const char *close)
{
    size_t depth = 0;
    const char *start = open + 1;
    for (const char *c = start; c <= close; c++) {
        if ((*c == ',' && depth == 0) || c == close) {
            RECO_TRY(expand_one(ctx, s, pattern, open, (size_t)(c - start), start, close));
            start = c + 1;
        }
        if (*c == '{') depth++;
        if (*c == '}' && c < close) depth--;
    }
    return RECO_OK;
}

/* {000..009}: each number, as wide as the first is written; {a..e}: each letter. false: it is neither. */
static bool is_range(const char *open, const char *close, unsigned long long ends[2], int *width)
{
    int after = 0, end = 0;
    *width = 0;
    if (close - open == 5 && open[2] == '.' && open[3] == '.' && isalpha((unsigned char)open[1]) &&
        isalpha((unsigned char)open[4])) {
        ends[0] = (unsigned char)open[1];
        ends[1] = (unsigned char)open[4];
        return true;
    }
    if (sscanf(open, "{%9llu%n..%n%9llu}%n", &ends[0], width, &after, &ends[1], &end) != 2 || !end)
        return false;
    if (!isdigit((unsigned char)open[1]) || !isdigit((unsigned char)open[after]) || open + end != close + 1)
        return false;
    --*width; /* of the brace */
    return true;
}

static reco_status range(reco_ctx *ctx, reco_shards *s, const char *pattern, const char *open,
                         const char *close, const unsigned long long ends[2], int width)
{
    if (ends[0] > ends[1] || ends[1] - ends[0] >= MOST)
        return reco_fail(ctx, RECO_E_ARG, "%s: range %.*s, want ascending and less than %zu", pattern,
                         (int)(close - open - 1), open + 1, MOST);
    for (unsigned long long i = ends[0]; i <= ends[1]; i++) {
        char with[32];
        int n = width ? snprintf(with, sizeof with, "%0*llu", width, i)
                      : snprintf(with, sizeof with, "%c", (char)i);
        RECO_TRY(expand_one(ctx, s, pattern, open, (size_t)n, with, close));
    }
    return RECO_OK;
}

/* Braces from `from` on, then the rest. A file whose name has such characters is itself. */
static reco_status expand(reco_ctx *ctx, reco_shards *s, const char *pattern, size_t from)
{
    const char *open = reco_path_exists(pattern) ? NULL : strchr(pattern + from, '{');
    for (; open; open = strchr(open + 1, '{')) {
        bool comma;
        int width;
        unsigned long long ends[2];
        const char *close = close_of(open, &comma);
        if (!close) continue;
        if (comma) return alternatives(ctx, s, pattern, open, close);
        if (is_range(open, close, ends, &width)) return range(ctx, s, pattern, open, close, ends, width);
    }
    return match_pattern(ctx, s, pattern);
}

typedef struct place {
    const char *path;
    size_t at;
} place;

static int by_path(const void *a, const void *b)
{
    const place *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* Patterns may overlap: a tar that is named twice is read once, where it is named first. */
static reco_status drop_doubles(reco_ctx *ctx, reco_shards *s)
{
    size_t n = 0;
    place *places = reco_alloc(ctx, s->n + 1, sizeof *places, "list of tars");
    if (!places) return RECO_E_NOMEM;
    for (size_t i = 0; i < s->n; i++) places[i] = (place){s->paths[i], i};
    qsort(places, s->n, sizeof *places, by_path);
    for (size_t i = s->n; i-- > 1;)
        if (strcmp(places[i].path, places[i - 1].path) == 0) {
            reco_free(s->paths[places[i].at]);
            s->paths[places[i].at] = NULL;
        }
    for (size_t i = 0; i < s->n; i++)
        if (s->paths[i]) s->paths[n++] = s->paths[i];
    s->n = n;
    reco_free(places);
    return RECO_OK;
}

/* A job is named by what the tars are, not by all of their content, which may be terabytes: by their lengths and both ends of
 * each, compressed as they are. One that is missing is named by that. */
static reco_status identify(reco_ctx *ctx, reco_shards *s)
{
    reco_hash *hash;
    RECO_TRY(reco_hash_new(ctx, &hash));
    for (size_t i = 0; i < s->n; i++) {
        reco_map map;
        if (reco_map_open(ctx, &map, s->paths[i]) != RECO_OK) {
            s->missing++;
            reco_hash_update(hash, s->paths[i], strlen(s->paths[i]) + 1);
            continue;
        }
        uint64_t bytes = map.bytes;
        size_t part = reco_min(map.bytes, IDENTIFYING);
        reco_hash_update(hash, &bytes, sizeof bytes);
        if (part) reco_hash_update(hash, map.data, part);
        if (part) reco_hash_update(hash, map.data + (map.bytes - part), part);
        reco_map_close(&map);
    }
    reco_hash_hex(hash, s->content);
    if (s->missing < s->n || s->n == 0) return RECO_OK;
    if (s->n == 1) return RECO_E_IO; /* the error tells which and why */
    return reco_fail(ctx, RECO_E_NOTFOUND, "none of the %zu tars can be read, the first is %s", s->n,
                     s->paths[0]);
}

/* Whole tars, since only who has read one knows how many samples it has. */
static void keep_part(reco_shards *s, reco_shard shard)
{
    reco_part part = reco_part_of(shard, s->n);
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (i >= part.begin && i < part.end)
            s->paths[n++] = s->paths[i];
        else
            reco_free(s->paths[i]);
    s->n = n;
}

reco_status reco_shards_find(reco_ctx *ctx, reco_shards *s, const char *const *patterns, size_t n,
                             reco_shard shard)
{
    *s = (reco_shards){0};
    reco_status status = RECO_OK;
    for (size_t i = 0; i < n; i++) RECO_GO(expand(ctx, s, patterns[i], 0));
    if (s->n == 0) RECO_GO(reco_fail(ctx, RECO_E_ARG, "tars: none given"));
    RECO_GO(drop_doubles(ctx, s));
    keep_part(s, shard);
    RECO_GO(identify(ctx, s));
out:
    if (status != RECO_OK) reco_shards_free(s);
    return status;
}

void reco_shards_free(reco_shards *s)
{
    for (size_t i = 0; i < s->n; i++) reco_free(s->paths[i]);
    reco_free(s->paths);
    *s = (reco_shards){0};
}
