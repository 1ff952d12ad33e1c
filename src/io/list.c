#include "io/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MAX_DEPTH 64

typedef struct folder {
    const struct folder *parent;
    dev_t dev;
    ino_t ino;
    size_t depth;
} folder;

typedef struct listing {
    reco_ctx *ctx;
    char **paths;
    size_t n, room;
    bool recurse;
    bool (*keep)(const char *name);
} listing;

static reco_status append(listing *list, char *path)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        char **grown = realloc(list->paths, room * sizeof *grown);
        if (!grown) return reco_fail_nomem(list->ctx, room * sizeof *grown, "list of files");
        list->paths = grown;
        list->room = room;
    }
    list->paths[list->n++] = path;
    return RECO_OK;
}

/* A link that leads back to a folder we are inside of would never end. */
static bool inside(const folder *in, const struct stat *info)
{
    for (; in; in = in->parent)
        if (in->dev == info->st_dev && in->ino == info->st_ino) return true;
    return false;
}

static reco_status walk(listing *list, const char *dir, const folder *parent);

static reco_status visit(listing *list, const char *dir, const char *name, const folder *in)
{
    struct stat info;
    char *path = reco_path_join(list->ctx, dir, name);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (stat(path, &info) != 0) { /* removed meanwhile, or a link to nothing: not a file */
        if (errno != ENOENT && errno != ELOOP) status = reco_fail_errno(list->ctx, RECO_E_IO, "%s", path);
    } else if (S_ISDIR(info.st_mode)) {
        if (list->recurse && !inside(in, &info)) status = walk(list, path, in);
    } else if (S_ISREG(info.st_mode) && (!list->keep || list->keep(name))) {
        status = append(list, path);
        if (status == RECO_OK) return RECO_OK;
    }
    free(path);
    return status;
}

static reco_status walk(listing *list, const char *dir, const folder *parent)
{
    size_t depth = parent ? parent->depth + 1 : 1;
    if (depth > MAX_DEPTH)
        return reco_fail(list->ctx, RECO_E_UNSUPPORTED, "%s: folders are nested deeper than %d", dir,
                         MAX_DEPTH);
    DIR *stream = opendir(dir);
    if (!stream) return reco_fail_errno(list->ctx, RECO_E_IO, "%s", dir);
    reco_status status = RECO_OK;
    struct stat info;
    if (fstat(dirfd(stream), &info) != 0) RECO_GO(reco_fail_errno(list->ctx, RECO_E_IO, "%s", dir));
    folder here = {parent, info.st_dev, info.st_ino, depth};
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry) {
            if (errno) RECO_GO(reco_fail_errno(list->ctx, RECO_E_IO, "%s", dir));
            break;
        }
        if (entry->d_name[0] != '.') RECO_GO(visit(list, dir, entry->d_name, &here));
    }
out:
    closedir(stream);
    return status;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

reco_status reco_list_files(reco_ctx *ctx, char ***out, size_t *n, const char *dir, bool recurse,
                            bool (*keep)(const char *name))
{
    listing list = {.ctx = ctx, .recurse = recurse, .keep = keep};
    *out = NULL;
    *n = 0;
    reco_status status = walk(&list, dir, NULL);
    if (status == RECO_OK && !list.paths) { /* an empty answer is an array too */
        list.paths = reco_alloc(ctx, 1, sizeof *list.paths, "list of files");
        if (!list.paths) status = RECO_E_NOMEM;
    }
    if (status != RECO_OK) {
        for (size_t i = 0; i < list.n; i++) free(list.paths[i]);
        free(list.paths);
        return status;
    }
    if (list.n) qsort(list.paths, list.n, sizeof *list.paths, by_text);
    *out = list.paths;
    *n = list.n;
    return RECO_OK;
}
