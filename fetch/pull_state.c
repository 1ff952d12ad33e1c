#include "fetch/pull.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool is_empty_dir(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) return false;
    const struct dirent *entry;
    bool empty = true;
    while (empty && (entry = readdir(dir)))
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(dir);
    return empty;
}

/* Temporary files of the state, of a pull that was killed while it wrote them. */
static void sweep(const reco_pull *p)
{
    static const char prefix[] = ".reco-pull.json.tmp-";
    DIR *dir = opendir(p->work);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0) unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir) closedir(dir);
}

/* A file of a folder that was pulled: still what came? */
static reco_status check_file(reco_pull *p, const char *file, const json_t *entry)
{
    char *path = reco_path_join(p->ctx, p->out, file), sha256[65] = "", git[41] = "";
    const char *want_sha = text_of(entry, "sha256"), *want_git = text_of(entry, "git");
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (reco_path_exists(path))
        status = reco_digest_file(p->ctx, path, *want_sha ? sha256 : NULL, *want_git ? git : NULL);
    if (status == RECO_OK &&
        (!reco_path_exists(path) || strcmp(sha256, want_sha) != 0 || strcmp(git, want_git) != 0))
        status = reco_fail(p->ctx, RECO_E_EXISTS,
                           "%s: has changed since it was pulled; remove %s to pull it again", path, p->out);
    p->result->files++;
    p->result->bytes += (uint64_t)json_integer_value(json_object_get(entry, "size"));
    p->result->verified += *want_sha || *want_git;
    reco_free(path);
    return status;
}

/* What lies where the folder shall be. */
static reco_status look_at_out(reco_pull *p, bool *done)
{
    *done = false;
    if (!reco_path_exists(p->out) || is_empty_dir(p->out)) return RECO_OK;
    char *path = reco_path_join(p->ctx, p->out, "reco-pull.json");
    json_t *old = NULL;
    if (!path) return RECO_E_NOMEM;
    bool ours = reco_path_exists(path) && reco_json_load(p->ctx, &old, path) == RECO_OK;
    reco_free(path);
    const char *commit = text_of(p->list, "sha");
    *done = ours && strcmp(text_of(old, "name"), p->name) == 0 &&
            strcmp(text_of(old, "endpoint"), p->endpoint) == 0 && *commit &&
            strcmp(text_of(old, "commit"), commit) == 0;
    reco_status status = RECO_OK;
    if (!*done && ours)
        status = reco_fail(p->ctx, RECO_E_EXISTS, "%s: holds %s at %.12s already; want a new folder",
                           p->out, text_of(old, "name"), text_of(old, "commit"));
    else if (!*done)
        status = reco_fail(p->ctx, RECO_E_EXISTS, "%s: exists; want a new folder", p->out);
    const char *file;
    json_t *entry;
    json_object_foreach(*done ? json_object_get(old, "files") : NULL, file, entry)
    {
        if (status == RECO_OK) status = check_file(p, file, entry);
    }
    json_decref(old);
    return status;
}

static reco_status lock(reco_pull *p)
{
    RECO_TRY(reco_mkdirs(p->ctx, p->work));
    p->lock = open(p->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->lock < 0) return reco_fail_errno(p->ctx, RECO_E_IO, "%s", p->work);
    if (flock(p->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return reco_fail(p->ctx, RECO_E_BUSY, "%s: another pull is running there", p->work);
    return RECO_OK;
}

static json_t *new_state(const reco_pull *p)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:{}}", "endpoint", p->endpoint, "name", p->name, "revision",
                     p->revision, "commit", text_of(p->list, "sha"), "files");
}

reco_status reco_pull_prepare(reco_pull *p, bool *done)
{
    RECO_TRY(look_at_out(p, done));
    if (*done) return RECO_OK;
    RECO_TRY(lock(p));
    sweep(p);
    const char *commit = text_of(p->list, "sha");
    json_t *old = NULL;
    if (reco_path_exists(p->state_path)) {
        RECO_TRY(reco_json_load(p->ctx, &old, p->state_path));
        if (strcmp(text_of(old, "name"), p->name) != 0 ||
            strcmp(text_of(old, "endpoint"), p->endpoint) != 0) {
            reco_fail(p->ctx, RECO_E_EXISTS, "%s: belongs to a pull of %s from %s; finish or remove it",
                      p->work, text_of(old, "name"), text_of(old, "endpoint"));
            json_decref(old);
            return RECO_E_EXISTS;
        }
    } else if (!is_empty_dir(p->work)) {
        return reco_fail(p->ctx, RECO_E_EXISTS, "%s: exists but does not belong to a pull; remove it",
                         p->work);
    }
    p->state = new_state(p);
    json_t *files = json_object_get(old, "files");
    if (p->state && json_is_object(files)) {
        /* Of another commit, whole files may be others by now; the beginnings of files are safe by their ETags. */
        bool same = *commit && strcmp(text_of(old, "commit"), commit) == 0;
        const char *file;
        json_t *entry;
        json_object_foreach(files, file, entry) if (!same) json_object_del(entry, "done");
        json_object_set(p->state, "files", files);
    }
    json_decref(old);
    return p->state ? reco_pull_save(p) : reco_fail_nomem(p->ctx, 0, "JSON");
}

reco_status reco_pull_save(reco_pull *p)
{
    char *text = json_dumps(p->state, JSON_INDENT(1) | JSON_SORT_KEYS);
    if (!text) return reco_fail_nomem(p->ctx, 0, "JSON");
    reco_status status = reco_write_file(p->ctx, p->state_path, text, strlen(text));
    reco_free(text);
    return status;
}

json_t *reco_pull_entry(reco_pull *p, const char *file)
{
    json_t *files = json_object_get(p->state, "files"), *entry = json_object_get(files, file);
    if (json_is_object(entry)) return entry;
    if (json_object_set_new(files, file, json_object()) == 0) return json_object_get(files, file);
    reco_fail_nomem(p->ctx, 0, "JSON");
    return NULL;
}

/* Files of an earlier commit that this one has no more would stay. */
static reco_status remove_others(reco_pull *p)
{
    char **paths;
    size_t n;
    RECO_TRY(reco_list_files(p->ctx, &paths, &n, p->work, true, NULL));
    size_t skip = strlen(p->work) + 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_object_get(json_object_get(p->state, "files"), paths[i] + skip);
        if (!json_is_true(json_object_get(entry, "done")) && strcmp(paths[i], p->state_path) != 0)
            unlink(paths[i]);
        reco_free(paths[i]);
    }
    reco_free(paths);
    const char *file;
    json_t *entry;
    void *next;
    json_object_foreach_safe(json_object_get(p->state, "files"), next, file, entry)
    {
        if (!json_is_true(json_object_get(entry, "done")))
            json_object_del(json_object_get(p->state, "files"), file);
    }
    return RECO_OK;
}

reco_status reco_pull_finish(reco_pull *p)
{
    RECO_TRY(remove_others(p));
    RECO_TRY(reco_pull_save(p));
    RECO_TRY(reco_sync_dir(p->ctx, p->work));
    if (rename(p->work, p->out) != 0) return reco_fail_errno(p->ctx, RECO_E_IO, "%s", p->out);
    char *parent = reco_path_dir(p->ctx, p->out);
    reco_status status = parent ? reco_sync_dir(p->ctx, parent) : RECO_E_NOMEM;
    reco_free(parent);
    return status;
}
