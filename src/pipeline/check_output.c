#include "pipeline/pipeline_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The real path of what is there of a path, from its end on: of "a/b/new/x" that of "a/b". */
static char *nearest(reco_ctx *ctx, const char *path)
{
    char *part = reco_strdup(ctx, path);
    while (part) {
        char *real = realpath(part, NULL), *parent;
        if (real || (errno != ENOENT && errno != ENOTDIR)) {
            reco_free(part);
            return real ? real : reco_strdup(ctx, path);
        }
        parent = reco_path_dir(ctx, part);
        bool top = parent && strcmp(parent, part) == 0;
        reco_free(part);
        part = top ? NULL : parent;
        if (top) reco_free(parent);
    }
    return reco_strdup(ctx, "/");
}

/* Is one of the folders above (or the path itself, which is real) this one? */
static bool lies_within(const char *path, const struct stat *folder)
{
    char above[PATH_MAX];
    if (snprintf(above, sizeof above, "%s", path) >= (int)sizeof above) return false;
    for (;;) {
        struct stat info;
        if (stat(above, &info) == 0 && same(&info, folder)) return true;
        char *slash = strrchr(above, '/');
        if (!slash || above[1] == 0) return false;
        slash[slash == above] = 0;
    }
}

/* `place`: where out will be. */
static reco_status check_against_input(reco_ctx *ctx, const char *out, const char *place, const char *real,
                                       int kind, const char *input)
{
    struct stat in, there;
    bool holds = false;
    if (!input || stat(input, &in) != 0) return RECO_OK; /* not there: who reads it will say so */
    if (stat(place, &there) == 0 && same(&there, &in))
        return reco_fail(ctx, RECO_E_EXISTS, "%s: is the input %s, want another place for the output", out,
                         input);
    if (kind & RECO_OUT_WITHIN || !S_ISDIR(in.st_mode) || !lies_within(real, &in)) return RECO_OK;
    if (!(kind & RECO_OUT_PICTURES))
        return reco_fail(ctx, RECO_E_EXISTS,
                         "%s: lies within the input %s, want another place for the output", out, input);
    RECO_TRY(reco_source_holds_pictures(ctx, out, &holds));
    if (holds)
        return reco_fail(ctx, RECO_E_EXISTS,
                         "%s: holds pictures of the input %s, want another place for the output", out,
                         input);
    return RECO_OK;
}

/* Try to write there, as the work will: after hours of it is too late to say that this can't be done. */
static reco_status probe(reco_ctx *ctx, const char *out, const char *real, bool folder)
{
    reco_file *file = NULL;
    char *path = NULL;
    if (folder && !reco_path_is_dir(real))
        return reco_fail(ctx, RECO_E_IO, "%s: %s is a file, want a folder", out, real);
    if (folder && !(path = reco_path_join(ctx, real, "reco-probe"))) return RECO_E_NOMEM;
    reco_status status = reco_file_begin(ctx, &file, folder ? path : out);
    if (status != RECO_OK && folder) status = reco_fail_prefix(ctx, status, out);
    reco_file_abort(file);
    reco_free(path);
    return status;
}

reco_status reco_check_output(reco_ctx *ctx, const char *out, int kind, const char *const *inputs, size_t n)
{
    /* new/../a is a once new has been made */
    char *place = reco_path_exists(out) ? reco_strdup(ctx, out) : reco_place_resolve(ctx, NULL, out);
    char *real = place ? nearest(ctx, place) : NULL;
    reco_status status = real ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        status = check_against_input(ctx, out, place, real, kind, inputs[i]);
    if (status == RECO_OK && !(kind & RECO_OUT_NO_PROBE))
        status = probe(ctx, out, real, (kind & RECO_OUT_FOLDER) != 0);
    reco_free(place);
    reco_free(real);
    return status;
}
