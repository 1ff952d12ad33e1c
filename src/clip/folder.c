#include "clip/folder.h"
#include "io/io.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONFIG_MOST ((size_t)1 << 20) /* of the small files that say what a folder is */

/* dir/name is there. */
static bool has_file(reco_ctx *ctx, const char *dir, const char *name)
{
    char *path = reco_path_join(ctx, dir, name);
    bool there = path && reco_path_exists(path);
    reco_free(path);
    return there;
}

static bool has_config(reco_ctx *ctx, const char *dir)
{
    return has_file(ctx, dir, "config.json") || has_file(ctx, dir, "open_clip_config.json");
}

/* The names in a folder but those that begin with a dot, sorted; free each and the array. */
static reco_status list(reco_ctx *ctx, struct dirent ***names, int *n, const char *dir)
{
    *n = scandir(dir, names, NULL, alphasort);
    if (*n >= 0) return RECO_OK;
    *names = NULL;
    *n = 0;
    return reco_fail_errno(ctx, RECO_E_IO, "%s", dir);
}

static void free_list(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
}

/* Strings of a small JSON file, for messages: "" where there is none. */
static void read_string(reco_ctx *ctx, char *out, size_t room, const char *dir, const char *file,
                        const char *key)
{
    json_t *root = NULL;
    char *path = reco_path_join(ctx, dir, file);
    *out = 0;
    if (path && reco_json_load(ctx, &root, path) == RECO_OK) {
        const char *text = json_string_value(json_object_get(root, key));
        snprintf(out, room, "%s", text ? text : "");
        for (char *c = out; *c; c++)
            if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    }
    json_decref(root);
    reco_free(path);
}

/* ---- a file in a folder's place ---- */

static reco_status is_file(reco_ctx *ctx, const char *path)
{
    char *dir = NULL;
    reco_status status = RECO_E_IO;
    FILE *file = fopen(path, "re");
    char head[4096];
    size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file) fclose(file);
    const char *is = reco_content_excuse(head, n);
    if (!(dir = reco_path_dir(ctx, path)))
        status = RECO_E_NOMEM;
    else if (has_config(ctx, dir))
        reco_fail(ctx, status, "%s: not a folder, want the model folder that contains it: %s", path, dir);
    else if (n && is)
        reco_fail(ctx, status, "%s: %s, want a model folder", path, is);
    else if (!reco_folder_foreign(ctx, path))
        reco_fail(ctx, status, "%s: not a folder, want a model folder", path);
    reco_free(dir);
    return status;
}

/* ---- sentence-transformers: modules.json, and the model in a folder of its own ---- */

static bool is_type(const char *type, const char *last)
{
    size_t n = strlen(type), end = strlen(last);
    return n >= end && strcmp(type + n - end, last) == 0 && (n == end || type[n - end - 1] == '.');
}

/* The folder of the only module that counts; NULL with a failure recorded. */
static char *of_modules(reco_ctx *ctx, const char *dir, const json_t *modules, const char *path)
{
    const char *folder = NULL;
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const json_t *module = json_array_get(modules, i);
        const char *type = json_string_value(json_object_get(module, "type"));
        const char *sub = json_string_value(json_object_get(module, "path"));
        if (type && is_type(type, "Normalize")) continue; /* embeddings are unit rows anyhow */
        if (!type || !is_type(type, "CLIPModel") || !sub || folder) {
            reco_fail(ctx, RECO_E_UNSUPPORTED,
                      "%s: module %zu is %.80s, want only sentence-transformers' CLIPModel", path, i,
                      type ? type : "without a type");
            return NULL;
        }
        if (*sub == '/' || strstr(sub, "..")) {
            reco_fail(ctx, RECO_E_FORMAT, "%s: module %zu is in \"%.80s\", want a folder in this one", path,
                      i, sub);
            return NULL;
        }
        folder = sub;
    }
    if (!folder) reco_fail(ctx, RECO_E_FORMAT, "%s: names no module", path);
    return !folder ? NULL : *folder ? reco_path_join(ctx, dir, folder) : reco_strdup(ctx, dir);
}

static reco_status sentence_transformers(reco_ctx *ctx, char **out, const char *dir)
{
    reco_status status = RECO_OK;
    json_t *modules = NULL;
    char *path = reco_path_join(ctx, dir, "modules.json");
    if (!path) return RECO_E_NOMEM;
    if (reco_path_exists(path)) {
        RECO_GO(reco_json_load(ctx, &modules, path));
        if (!json_is_array(modules))
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: want a list of modules", path));
        if (!(*out = of_modules(ctx, dir, modules, path))) status = RECO_E_UNSUPPORTED;
    } else if (has_file(ctx, dir, "0_CLIPModel")) {
        if (!(*out = reco_path_join(ctx, dir, "0_CLIPModel"))) status = RECO_E_NOMEM;
    }
out:
    json_decref(modules);
    reco_free(path);
    return status;
}

/* ---- a hub's cache: models--ORG--NAME with refs/, snapshots/REVISION/ and blobs/ ---- */

static reco_status which_snapshot(reco_ctx *ctx, const char *dir, const char *snapshots)
{
    struct dirent **names;
    int n, first = -1, count = 0;
    RECO_TRY(list(ctx, &names, &n, snapshots));
    for (int i = 0; i < n; i++)
        if (names[i]->d_name[0] != '.') {
            if (first < 0) first = i;
            count++;
        }
    reco_status status = RECO_E_IO;
    if (count)
        reco_fail(
            ctx, status,
            "%s: is a hub's cache of a model, but no refs/main names one of its snapshots: give %s%s/%s",
            dir, count > 1 ? "one of them, as " : "it, ", snapshots, names[first]->d_name);
    else
        reco_fail(ctx, status, "%s: is a hub's cache of a model without a snapshot: fetch it again", dir);
    free_list(names, n);
    return status;
}

static reco_status hub_cache(reco_ctx *ctx, char **out, const char *dir)
{
    reco_status status = RECO_OK;
    char *ref = NULL, *snapshot = NULL, *text = NULL, *snapshots = reco_path_join(ctx, dir, "snapshots");
    size_t bytes = 0;
    if (!snapshots || !(ref = reco_path_join(ctx, dir, "refs/main"))) RECO_GO(RECO_E_NOMEM);
    if (!reco_path_is_dir(snapshots)) goto out;
    if (reco_path_exists(ref)) {
        RECO_GO(reco_read_file(ctx, &text, &bytes, ref, 256));
        text[strcspn(text, "\r\n \t")] = 0;
    }
    if (text && *text && *text != '.' && !strchr(text, '/')) {
        if (!(snapshot = reco_path_join(ctx, snapshots, text))) RECO_GO(RECO_E_NOMEM);
        if (reco_path_is_dir(snapshot)) {
            *out = snapshot;
            snapshot = NULL;
            goto out;
        }
    }
    status = which_snapshot(ctx, dir, snapshots);
out:
    reco_free(text);
    reco_free(ref);
    reco_free(snapshot);
    reco_free(snapshots);
    return status;
}

/* ---- what is no model ---- */

static reco_status adapter(reco_ctx *ctx, const char *dir)
{
    char base[200], type[40];
    read_string(ctx, base, sizeof base, dir, "adapter_config.json", "base_model_name_or_path");
    read_string(ctx, type, sizeof type, dir, "adapter_config.json", "peft_type");
    return reco_fail(ctx, RECO_E_UNSUPPORTED,
                     "%s: is a PEFT adapter%s%s%s for %s, not a model: merge it with merge_and_unload and "
                     "save the result (docs/models.md, \"Adapters\")",
                     dir, *type ? " (" : "", type, *type ? ")" : "", *base ? base : "another model");
}

static reco_status diffusers(reco_ctx *ctx, const char *dir)
{
    char name[80];
    read_string(ctx, name, sizeof name, dir, "model_index.json", "_class_name");
    return reco_fail(
        ctx, RECO_E_UNSUPPORTED,
        "%s: is a diffusers pipeline%s%s, not a model that embeds: want a CLIP or SigLIP folder", dir,
        *name ? ": " : "", name);
}

/* A folder of none of the names that tell: what is in it that might have been meant. */
static reco_status nameless(reco_ctx *ctx, const char *dir)
{
    struct dirent **names;
    int n, count = 0, models = 0;
    const char *within = NULL, *lone = NULL;
    RECO_TRY(list(ctx, &names, &n, dir));
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name, *end = strrchr(name, '.');
        char *path = *name == '.' ? NULL : reco_path_join(ctx, dir, name);
        if (*name != '.') count++;
        if (path && reco_path_is_dir(path) &&
            (has_config(ctx, path) || strncmp(name, "models--", 8) == 0)) {
            if (!within) within = name;
            models++;
        } else if (end && strcmp(end, ".safetensors") == 0 && !lone) {
            lone = name;
        }
        reco_free(path);
    }
    reco_status status = RECO_E_IO;
    const char *slash = *dir && dir[strlen(dir) - 1] == '/' ? "" : "/";
    if (count == 0)
        reco_fail(ctx, status,
                  "%s: is empty, want a model folder: config.json, model.safetensors and so on", dir);
    else if (within)
        reco_fail(ctx, status, "%s: is not a model folder (no config.json), but %s%s%s %s", dir, dir, slash,
                  within, models > 1 ? "and others in it are" : "in it is one");
    else if (lone)
        reco_fail(ctx, status,
                  "%s: holds %s, but no config.json (or open_clip_config.json): fetch that too", dir, lone);
    else {
        status = reco_folder_no_weights(ctx, dir, "model.safetensors");
        if (status == RECO_E_IO)
            reco_fail(ctx, status, "%s: no config.json and no open_clip_config.json: not a model folder",
                      dir);
    }
    free_list(names, n);
    return status;
}

/* Files that a model is read from; a link to nothing is a cache that was copied without its blobs. */
static reco_status dangling(reco_ctx *ctx, const char *dir)
{
    static const char *const read[] = {".json", ".safetensors", ".txt", ".model"};
    struct dirent **names;
    int n;
    reco_status status = RECO_OK;
    RECO_TRY(list(ctx, &names, &n, dir));
    for (int i = 0; i < n && status == RECO_OK; i++) {
        const char *name = names[i]->d_name, *end = strrchr(name, '.');
        char target[256], *path = reco_path_join(ctx, dir, name);
        bool counts = false;
        for (size_t k = 0; end && k < sizeof read / sizeof *read; k++)
            counts = counts || strcmp(end, read[k]) == 0;
        ssize_t length = counts && path ? readlink(path, target, sizeof target - 1) : -1;
        if (length >= 0 && !reco_path_exists(path) && errno == ENOENT) {
            target[length] = 0;
            status = reco_fail(
                ctx, RECO_E_IO,
                "%s: is a link to %s, which does not exist: copy a hub's cache with its blobs (cp -rL)",
                path, target);
        }
        if (!path) status = RECO_E_NOMEM;
        reco_free(path);
    }
    free_list(names, n);
    return status;
}

/* "org/model" or a name alone that is no path. */
static bool is_hub_name(const char *name)
{
    const char *slash = strchr(name, '/');
    return *name != '.' && *name != '/' && *name != '~' && slash && slash[1] && !strchr(slash + 1, '/');
}

static reco_status find_model_folder(reco_ctx *ctx, char **out, const char **layout, const char *dir)
{
    if (has_file(ctx, dir, "adapter_config.json")) return adapter(ctx, dir);
    if (has_config(ctx, dir)) return (*out = reco_strdup(ctx, dir)) ? RECO_OK : RECO_E_NOMEM;
    RECO_TRY(sentence_transformers(ctx, out, dir));
    if (*out) *layout = "sentence-transformers' layout";
    if (*out) return RECO_OK;
    RECO_TRY(hub_cache(ctx, out, dir));
    if (*out) *layout = "a hub's cache";
    if (*out) return RECO_OK;
    if (has_file(ctx, dir, "model_index.json")) return diffusers(ctx, dir);
    return nameless(ctx, dir);
}

reco_status reco_folder_find(reco_ctx *ctx, char **out, const char **layout, const char *dir)
{
    *out = NULL;
    *layout = "";
    if (!reco_path_exists(dir))
        return reco_fail(ctx, RECO_E_IO, "%s: no such folder, want a model folder%s", dir,
                         is_hub_name(dir) ? "; `reco model pull` fetches one from a hub" : "");
    if (!reco_path_is_dir(dir)) return is_file(ctx, dir);
    RECO_TRY(dangling(ctx, dir));
    RECO_TRY(find_model_folder(ctx, out, layout, dir));
    if (!**layout) return RECO_OK;
    /* What it led to is looked at in its turn, once. */
    char *outer = *out;
    const char *none;
    *out = NULL;
    reco_status status =
        !reco_path_is_dir(outer)
            ? reco_fail(ctx, RECO_E_IO, "%s: no such folder, where %s should have the model", outer,
                        *layout)
            : dangling(ctx, outer);
    if (status == RECO_OK) status = find_model_folder(ctx, out, &none, outer);
    reco_free(outer);
    return status;
}
