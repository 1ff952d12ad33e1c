#include "io/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define FILE_SCHEME "file://"

bool reco_place_is_url(const char *item)
{
    size_t n = strspn(item, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return n > 1 && strncmp(item + n, "://", 3) == 0 && strncasecmp(item, FILE_SCHEME, 7) != 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *reco_place_path(reco_ctx *ctx, const char *item)
{
    if (strncasecmp(item, FILE_SCHEME, 7) != 0) return reco_strdup(ctx, item);
    const char *from = item + 7;
    if (strncasecmp(from, "localhost/", 10) == 0) from += 9;
    if (*from != '/') return reco_strdup(ctx, item); /* of another host */
    char *path = reco_strdup(ctx, from), *to = path;
    if (!path) return NULL;
    for (; *from; from++) {
        int high = *from == '%' ? hex_digit(from[1]) : -1, low = high >= 0 ? hex_digit(from[2]) : -1;
        bool coded = low >= 0 && (high || low);
        *to++ = coded ? (char)(16 * high + low) : *from;
        if (coded) from += 2;
    }
    *to = 0;
    return path;
}

/* The end of an absolute path that is not there, put behind the part that is: without ".", "..", and empty names. */
static void append_names(char *path, const char *rest)
{
    while (*rest) {
        size_t n = strcspn(rest, "/"), length = strlen(path);
        if (n == 2 && rest[0] == '.' && rest[1] == '.') {
            char *slash = strrchr(path, '/');
            if (slash) *slash = 0;
        } else if (n && !(n == 1 && rest[0] == '.'))
            sprintf(path + length, "/%.*s", (int)n, rest);
        rest += n + (rest[n] == '/');
    }
}

/* The folders of a path have one name each, whatever links lead there; the last name stays, since a link may be given another
 * picture. */
static char *resolve(reco_ctx *ctx, const char *path)
{
    char real[PATH_MAX];
    size_t n = strlen(path);
    char *out = reco_alloc(ctx, n + PATH_MAX + 2, 1, "path"), *copy = reco_strdup(ctx, path);
    if (!out || !copy) goto fail;
    for (size_t end = n; end > 0; end--) {
        if (path[end - 1] != '/') continue;
        copy[end] = 0; /* "/a/b/" of "/a/b/c" */
        if (!realpath(copy, real)) continue;
        strcpy(out, strcmp(real, "/") == 0 ? "" : real);
        append_names(out, path + end);
        if (!*out) strcpy(out, "/");
        reco_free(copy);
        return out;
    }
fail:
    reco_free(out);
    reco_free(copy);
    return NULL;
}

char *reco_place_resolve(reco_ctx *ctx, const char *base, const char *item)
{
    if (reco_place_is_url(item)) return reco_strdup(ctx, item);
    char cwd[PATH_MAX], *path = reco_place_path(ctx, item), *full = NULL, *out = NULL;
    if (path && *path == '/')
        full = reco_strdup(ctx, path);
    else if (path && base && *base == '/')
        full = reco_path_join(ctx, base, path);
    else if (path && !getcwd(cwd, sizeof cwd))
        full = reco_strdup(ctx, path); /* a folder that was removed has no name */
    else if (path)
        full = base ? reco_format(ctx, "%s/%s/%s", cwd, base, path) : reco_path_join(ctx, cwd, path);
    if (full) out = resolve(ctx, full);
    if (full && !out) out = reco_strdup(ctx, full);
    reco_free(full);
    reco_free(path);
    return out;
}

char *reco_place_folder(reco_ctx *ctx, const char *dir)
{
    char *inside = reco_path_join(ctx, dir ? dir : ".", "."), *out = NULL;
    if (inside) out = reco_place_resolve(ctx, NULL, inside);
    reco_free(inside);
    return out;
}

void reco_place_hash(const char *resolved, unsigned char out[RECO_PLACE_BYTES])
{
    reco_hash128(resolved, strlen(resolved), out);
}
