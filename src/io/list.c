#include "io/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 64

/* Folders are known by what they are and not by their names, since links may lead in circles. */
typedef struct identity {
    dev_t dev;
    ino_t ino;
} identity;

typedef struct folder {
    const struct folder *parent;
    identity id;
    size_t depth;
} folder;

typedef struct paths {
    reco_found *items;
    size_t n, room;
} paths;

typedef struct listing {
    reco_ctx *ctx;
    paths found, links; /* links to folders wait until what lies there itself is listed */
    identity *seen;     /* [room] folders that were listed, by hash; dev and ino 0: free */
    size_t nseen, room;
    uint64_t hidden;
    identity except;
    bool recurse, strict; /* strict: what can't be read is an error, what is no file is passed over */
    bool (*keep)(const char *name);
} listing;

static reco_status append_path(listing *l, paths *to, char *path, char *problem)
{
    reco_found *items = reco_grow(l->ctx, to->items, to->n, &to->room, 64, sizeof *items, "list of files");
    if (!items) return RECO_E_NOMEM;
    to->items = items;
    to->items[to->n++] = (reco_found){path, problem};
    return RECO_OK;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const reco_found *)a)->path, ((const reco_found *)b)->path);
}

static void sort(paths *p)
{
    if (p->n) qsort(p->items, p->n, sizeof *p->items, by_path);
}

void reco_found_free(reco_found *found, size_t n)
{
    for (size_t i = 0; found && i < n; i++) {
        free(found[i].path);
        free(found[i].problem);
    }
    free(found);
}

static bool same(identity a, identity b) { return a.dev == b.dev && a.ino == b.ino; }

static size_t find_seen_slot(const listing *l, identity id)
{
    size_t at = (size_t)((uint64_t)id.ino * 0x9e3779b97f4a7c15u ^ (uint64_t)id.dev) & (l->room - 1);
    while ((l->seen[at].ino || l->seen[at].dev) && !same(l->seen[at], id)) at = (at + 1) & (l->room - 1);
    return at;
}

static bool was_seen(const listing *l, identity id)
{
    return l->room && same(l->seen[find_seen_slot(l, id)], id);
}

static reco_status mark_seen(listing *l, identity id)
{
    if (was_seen(l, id)) return RECO_OK;
    if (2 * (l->nseen + 1) > l->room) {
        identity *old = l->seen;
        size_t n = l->room;
        l->room = n ? 2 * n : 64;
        l->seen = reco_alloc(l->ctx, l->room, sizeof *l->seen, "list of folders");
        if (!l->seen) {
            l->seen = old;
            l->room = n;
            return RECO_E_NOMEM;
        }
        for (size_t i = 0; i < n; i++)
            if (old[i].ino || old[i].dev) l->seen[find_seen_slot(l, old[i])] = old[i];
        reco_free(old);
    }
    l->seen[find_seen_slot(l, id)] = id;
    l->nseen++;
    return RECO_OK;
}

/* Something at `path` can't be read, which the context's error says. */
static reco_status problem(listing *l, reco_status status, const char *path)
{
    if (l->strict || status == RECO_E_NOMEM) return status;
    char *copy = reco_strdup(l->ctx, path), *why = reco_strdup(l->ctx, reco_ctx_error(l->ctx));
    if (copy && why && append_path(l, &l->found, copy, why) == RECO_OK) return RECO_OK;
    free(copy);
    free(why);
    return RECO_E_NOMEM;
}

/* A link that leads back to a folder we are inside of would never end. */
static bool inside(const folder *in, identity id)
{
    for (; in; in = in->parent)
        if (same(in->id, id)) return true;
    return false;
}

static reco_status walk_folder(listing *l, const char *dir, const folder *parent);

static reco_status visit(listing *l, const char *dir, const char *name, const folder *in)
{
    struct stat info, link;
    char *path = reco_path_join(l->ctx, dir, name);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    bool wanted = !l->keep || l->keep(name);
    if (lstat(path, &link) != 0) { /* removed meanwhile */
        if (errno != ENOENT) status = problem(l, reco_fail_errno(l->ctx, RECO_E_IO, "%s", path), path);
        goto out;
    }
    bool is_link = S_ISLNK(link.st_mode);
    if (!is_link) info = link;
    if (is_link && stat(path, &info) != 0) { /* a link to nothing: not a file */
        if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
            status = problem(l, reco_fail_errno(l->ctx, RECO_E_IO, "%s", path), path);
        else if (!l->strict && wanted && (status = append_path(l, &l->found, path, NULL)) == RECO_OK)
            path = NULL;
        goto out;
    }
    identity id = {info.st_dev, info.st_ino};
    if (S_ISDIR(info.st_mode)) {
        if (!l->recurse || inside(in, id) || same(l->except, id)) goto out;
        if (!is_link)
            status = walk_folder(l, path, in);
        else if ((status = append_path(l, &l->links, path, NULL)) == RECO_OK)
            path = NULL;
    } else if (wanted && (S_ISREG(info.st_mode) || !l->strict)) {
        if ((status = append_path(l, &l->found, path, NULL)) == RECO_OK) path = NULL;
    }
out:
    free(path);
    return status;
}

static reco_status walk_folder(listing *l, const char *dir, const folder *parent)
{
    size_t depth = parent ? parent->depth + 1 : 1;
    if (depth > MAX_DEPTH)
        return problem(
            l,
            reco_fail(l->ctx, RECO_E_UNSUPPORTED, "%s: folders are nested deeper than %d", dir, MAX_DEPTH),
            dir);
    DIR *stream = opendir(dir);
    if (!stream) return problem(l, reco_fail_errno(l->ctx, RECO_E_IO, "%s", dir), dir);
    reco_status status = RECO_OK;
    struct stat info;
    if (fstat(dirfd(stream), &info) != 0)
        RECO_GO(problem(l, reco_fail_errno(l->ctx, RECO_E_IO, "%s", dir), dir));
    folder here = {parent, {info.st_dev, info.st_ino}, depth};
    RECO_GO(mark_seen(l, here.id));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry) {
            if (errno) RECO_GO(problem(l, reco_fail_errno(l->ctx, RECO_E_IO, "%s", dir), dir));
            break;
        }
        const char *name = entry->d_name;
        if (name[0] != '.')
            RECO_GO(visit(l, dir, name, &here));
        else if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            l->hidden++;
    }
out:
    closedir(stream);
    return status;
}

/* List what a link to a folder leads to, under the link's name, with the folders above it known. */
static reco_status follow(listing *l, size_t root, const char *path, bool nested)
{
    struct stat info;
    folder above[MAX_DEPTH];
    size_t n = 0;
    reco_status status = RECO_OK;
    char *part = reco_strdup(l->ctx, path);
    if (!part) return RECO_E_NOMEM;
    for (size_t i = root; part[i] && n < MAX_DEPTH; i++) {
        if (part[i] != '/' || (i && part[i - 1] == '/')) continue;
        part[i] = 0;
        if (stat(i ? part : "/", &info) == 0) {
            above[n] = (folder){n ? &above[n - 1] : NULL, {info.st_dev, info.st_ino}, n + 1};
            n++;
        }
        part[i] = '/';
    }
    if (stat(path, &info) == 0) {
        identity id = {info.st_dev, info.st_ino};
        if (!(nested && was_seen(l, id)) && !inside(n ? &above[n - 1] : NULL, id))
            status = walk_folder(l, path, n ? &above[n - 1] : NULL);
    }
    free(part);
    return status;
}

/* Folders that lie below are listed first. A link among them is followed always, one that is met behind a link only when
 * it leads to a folder that was not listed: so links may make a folder appear twice, and never without end. */
static reco_status list(listing *l, const char *dir)
{
    size_t root = strlen(dir);
    while (root > 1 && dir[root - 1] == '/') root--;
    RECO_TRY(walk_folder(l, dir, NULL));
    for (bool nested = false; l->links.n; nested = true) {
        paths now = l->links;
        l->links = (paths){0};
        sort(&now);
        reco_status status = RECO_OK;
        for (size_t i = 0; i < now.n && status == RECO_OK; i++)
            status = follow(l, root, now.items[i].path, nested);
        reco_found_free(now.items, now.n);
        RECO_TRY(status);
    }
    sort(&l->found);
    return RECO_OK;
}

static reco_status list_folder(listing *l, const char *dir)
{
    reco_status status = list(l, dir);
    reco_free(l->seen);
    reco_found_free(l->links.items, l->links.n);
    if (status != RECO_OK) reco_found_free(l->found.items, l->found.n);
    return status;
}

reco_status reco_find_files(reco_ctx *ctx, reco_found **found, size_t *n, uint64_t *hidden, const char *dir,
                            const char *except)
{
    listing l = {.ctx = ctx, .recurse = true};
    struct stat info;
    if (except && stat(except, &info) == 0) l.except = (identity){info.st_dev, info.st_ino};
    *found = NULL;
    *n = 0;
    DIR *there = opendir(dir); /* of all folders this one must be readable */
    if (!there) return reco_fail_errno(ctx, RECO_E_IO, "%s", dir);
    closedir(there);
    RECO_TRY(list_folder(&l, dir));
    *found = l.found.items;
    *n = l.found.n;
    *hidden = l.hidden;
    return RECO_OK;
}

reco_status reco_list_files(reco_ctx *ctx, char ***out, size_t *n, const char *dir, bool recurse,
                            bool (*keep)(const char *name))
{
    listing l = {.ctx = ctx, .recurse = recurse, .strict = true, .keep = keep};
    *out = NULL;
    *n = 0;
    RECO_TRY(list_folder(&l, dir));
    *out =
        reco_alloc(ctx, l.found.n + 1, sizeof **out, "list of files"); /* an empty answer is an array too */
    if (!*out) {
        reco_found_free(l.found.items, l.found.n);
        return RECO_E_NOMEM;
    }
    for (size_t i = 0; i < l.found.n; i++) (*out)[i] = l.found.items[i].path;
    *n = l.found.n;
    free(l.found.items);
    return RECO_OK;
}
