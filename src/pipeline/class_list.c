/* Class names, from a file or from folders. class_match.c matches labels to them. */
#include "pipeline/pipeline_internal.h"
#include "query/class_list.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

void reco_class_list_free(reco_class_list *list)
{
    if (!list) return;
    for (size_t i = 0; i < list->entries; i++) {
        if (list->entry_names) reco_free(list->entry_names[i]);
        if (list->keys) reco_free(list->keys[i]);
        if (list->texts) reco_free(list->texts[i]);
    }
    reco_free(list->entry_names);
    reco_free(list->keys);
    reco_free(list->texts);
    reco_free((void *)list->names);
    reco_free((void *)list->class_texts);
    reco_free(list->of_entry);
    reco_free(list->exact);
    reco_free(list->known);
    reco_free(list->lines);
    reco_free(list->path);
    reco_free(list);
}

/* Entries as they come; arrays that double. */
static reco_status add_class_entry(reco_ctx *ctx, reco_class_list *list, const char *name, size_t bytes,
                                   uint64_t line)
{
    if ((list->entries & (list->entries + 1)) == 0 || !list->entry_names) {
        size_t room = 2 * (list->entries + 1);
        char **names = reco_alloc(ctx, room, sizeof *names, "classes");
        uint64_t *lines = reco_alloc(ctx, room, sizeof *lines, "classes");
        if (!names || !lines) {
            reco_free(names);
            reco_free(lines);
            return RECO_E_NOMEM;
        }
        if (list->entries) {
            memcpy(names, list->entry_names, list->entries * sizeof *names);
            memcpy(lines, list->lines, list->entries * sizeof *lines);
        }
        reco_free(list->entry_names);
        reco_free(list->lines);
        list->entry_names = names;
        list->lines = lines;
    }
    list->lines[list->entries] = line;
    if (!(list->entry_names[list->entries] = reco_format(ctx, "%.*s", (int)bytes, name)))
        return RECO_E_NOMEM;
    list->entries++;
    return RECO_OK;
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

static reco_status read_lines(reco_ctx *ctx, reco_class_list *list)
{
    reco_lines *file = NULL;
    reco_status status = reco_lines_open(ctx, &file, list->path);
    for (uint64_t number = 1; status == RECO_OK; number++) {
        const char *line;
        size_t bytes;
        RECO_GO(reco_lines_next(ctx, file, &line, &bytes));
        if (!line) break;
        if (memchr(line, 0, bytes))
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s:%llu: holds a NUL byte", list->path,
                              (unsigned long long)number));
        if (bytes > RECO_CAPTION_MAX)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s:%llu: longer than 65536 bytes", list->path,
                              (unsigned long long)number));
        while (bytes && blank(*line)) line++, bytes--;
        while (bytes && blank(line[bytes - 1])) bytes--;
        if (bytes) RECO_GO(add_class_entry(ctx, list, line, bytes, number));
    }
out:
    reco_lines_close(file);
    return status;
}

/* ---- numbers in front ---- */

/* WordNet's name of a synset, as ImageNet's folders have it. */
static bool is_synset(const char *text, size_t n)
{
    bool digits = n == 9 && *text == 'n';
    for (size_t i = 1; i < n && digits; i++) digits = isdigit((unsigned char)text[i]);
    return digits;
}

/* The key in front of a name ("12", "n01440764"): its length, what parts it from the name, and where that begins. */
static bool split_key(const char *entry, size_t *key, char *mark, size_t *name)
{
    size_t n = 0;
    while (isalnum((unsigned char)entry[n])) n++;
    bool number = n > 0 && n <= 9 && strspn(entry, "0123456789") == n;
    if (!number && !is_synset(entry, n)) return false;
    *key = n;
    *mark = entry[n] && strchr(":,.)\t", entry[n]) ? entry[n] : blank(entry[n]) ? ' ' : 0;
    if (*mark && *mark != ' ') n++;
    size_t from = n;
    while (blank(entry[n])) n++;
    *name = n;
    if (*mark == '.' && from == n) return false; /* "1.5 litres" */
    if (*mark == ',' && isdigit((unsigned char)entry[n])) return false;
    return *mark && entry[n];
}

/* Do all lines begin with a key of the same kind, each another? Numbers before a mere blank may be part of a name ("2 euros") and
 * are taken for keys only where they count the lines from 0. */
static bool are_numbered(const reco_class_list *list, bool *counted_from_one)
{
    char first = 0, mark;
    size_t key, name;
    bool counts = true, ones = true, synset = false;
    for (size_t i = 0; i < list->entries; i++) {
        const char *entry = list->entry_names[i];
        if (!split_key(entry, &key, &mark, &name)) return false;
        bool this_one = is_synset(entry, key);
        if (i == 0) first = mark, synset = this_one;
        if (mark != first || this_one != synset) return false;
        counts = counts && strtoull(entry, NULL, 10) == i;
        ones = ones && strtoull(entry, NULL, 10) == i + 1;
    }
    *counted_from_one = list->entries > 1 && first == ' ' && !synset && ones;
    return list->entries > 1 && (synset || counts || first != ' ');
}

static reco_status take_keys(reco_ctx *ctx, reco_class_list *list)
{
    size_t key, name;
    char mark;
    if (!(list->keys = reco_alloc(ctx, list->entries, sizeof *list->keys, "classes"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < list->entries; i++) {
        char *entry = list->entry_names[i];
        split_key(entry, &key, &mark, &name);
        if (!(list->keys[i] = reco_format(ctx, "%.*s", (int)key, entry))) return RECO_E_NOMEM;
        memmove(entry, entry + name, strlen(entry + name) + 1);
    }
    reco_log(ctx, RECO_LOG_INFO,
             "%s: %s to %s before the names are read as class numbers, not as part of the names",
             list->path, list->keys[0], list->keys[list->entries - 1]);
    return RECO_OK;
}

static void drop_descriptions(reco_ctx *ctx, reco_class_list *list)
{
    size_t cut = 0;
    for (size_t i = 0; i < list->entries; i++) {
        char *tab = strchr(list->entry_names[i], '\t');
        if (!tab) continue;
        while (tab > list->entry_names[i] && blank(tab[-1])) tab--;
        *tab = 0;
        cut++;
    }
    if (cut)
        reco_log(ctx, RECO_LOG_INFO,
                 "%s: text after a tab is read as a description and ignored (%zu line%s)", list->path, cut,
                 cut == 1 ? "" : "s");
}

/* ---- tables ---- */

static const char *const table_endings[] = {".csv", ".tsv", ".jsonl", ".ndjson", ".json"};
static const char *const name_columns[] = {"name", "class", "label"};
static const char *const key_columns[] = {"id", "index", "number"};

/* A table with a column of names, and one of numbers where there is one; false: it is none. */
static reco_status read_table(reco_ctx *ctx, reco_class_list *list, bool *is_table)
{
    char **names = NULL, **keys = NULL;
    uint64_t *lines = NULL;
    size_t n = 0, columns = sizeof name_columns / sizeof *name_columns;
    reco_status status = RECO_E_FORMAT;
    *is_table = false;
    for (size_t i = 0; i < sizeof table_endings / sizeof *table_endings; i++)
        *is_table |= reco_path_ends(list->path, strlen(list->path), table_endings[i]);
    if (!*is_table) return RECO_OK;
    for (size_t i = 0; i < columns && status == RECO_E_FORMAT; i++)
        for (size_t j = 0; j <= sizeof key_columns / sizeof *key_columns && status == RECO_E_FORMAT; j++) {
            list->has_keys = j < sizeof key_columns / sizeof *key_columns;
            const char *key = list->has_keys ? key_columns[j] : name_columns[i];
            status = reco_read_columns(ctx, list->path, NULL, name_columns[i], key, &names, &keys, NULL,
                                       &lines, &n);
        }
    *is_table = status == RECO_OK;
    if (status != RECO_OK) return status == RECO_E_FORMAT ? RECO_OK : status;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        status = add_class_entry(ctx, list, names[i], strlen(names[i]), lines[i]);
    if (status == RECO_OK && list->has_keys) {
        list->keys = keys;
        keys = NULL;
    }
    reco_free(lines);
    reco_lines_free(names, n);
    reco_lines_free(keys, n);
    return status;
}

/* ---- JSON ---- */

/* A member's number and name: "0": "tench", "0": ["n01440764", "tench"], or "tench": 0. false: it is none of these. */
static bool take_member(const char *key, const json_t *value, char number[24], const char **name)
{
    size_t n = json_array_size(value);
    bool counted = json_is_integer(value);
    *name = counted ? key : json_string_value(n ? json_array_get(value, n - 1) : value);
    int length = counted ? snprintf(number, 24, "%lld", (long long)json_integer_value(value))
                         : snprintf(number, 24, "%s", key);
    return *name && **name && length > 0 && length < 24;
}

/* A list of names, or an object of names and numbers; false: it is neither, or no JSON by its ending. */
static reco_status read_json(reco_ctx *ctx, reco_class_list *list, bool *is_json)
{
    json_t *json = NULL, *value;
    const char *key, *name;
    char number[24];
    size_t at;
    reco_status status = RECO_OK;
    *is_json = false;
    if (!reco_path_ends(list->path, strlen(list->path), ".json")) return RECO_OK;
    RECO_TRY(reco_json_load(ctx, &json, list->path));
    json_array_foreach(json, at, value)
    {
        if (!json_is_string(value)) goto out; /* of objects: a table */
        RECO_GO(add_class_entry(ctx, list, json_string_value(value), json_string_length(value), at + 1));
    }
    if (json_is_object(json) && json_object_size(json)) {
        list->keys = reco_alloc(ctx, json_object_size(json), sizeof *list->keys, "classes");
        if (!list->keys) RECO_GO(RECO_E_NOMEM);
    }
    json_object_foreach(json, key, value)
    {
        at = list->entries;
        if (!take_member(key, value, number, &name))
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT,
                              "%s: \"%s\" is not a class, want a list of names, or numbers and names",
                              list->path, key));
        RECO_GO(add_class_entry(ctx, list, name, strlen(name), at + 1));
        if (!(list->keys[at] = reco_strdup(ctx, number))) RECO_GO(RECO_E_NOMEM);
    }
    list->has_keys = list->keys != NULL;
    *is_json = true;
out:
    json_decref(json);
    return status;
}

static reco_status create_list(reco_ctx *ctx, reco_class_list **out, const char *path)
{
    *out = NULL;
    reco_class_list *list = reco_alloc(ctx, 1, sizeof *list, "classes");
    if (list && (list->path = reco_strdup(ctx, path))) {
        *out = list;
        return RECO_OK;
    }
    reco_free(list);
    return RECO_E_NOMEM;
}

reco_status reco_class_list_read(reco_ctx *ctx, reco_class_list **out, const char *path)
{
    bool ones = false, is_json, is_table = false;
    reco_class_list *list;
    RECO_TRY(create_list(ctx, &list, path));
    reco_status status = RECO_OK;
    RECO_GO(read_json(ctx, list, &is_json));
    if (!is_json) RECO_GO(read_table(ctx, list, &is_table));
    if (!is_json && !is_table) {
        RECO_GO(read_lines(ctx, list));
        if (list->entries && are_numbered(list, &ones)) RECO_GO(take_keys(ctx, list));
        if (ones)
            reco_log(ctx, RECO_LOG_WARN,
                     "%s: the names begin with numbers from 1 on, which are read as part of the names; a "
                     "tab or colon after the numbers would make them class numbers",
                     path);
        drop_descriptions(ctx, list);
    }
    if (list->entries == 0) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: no classes", path));
    *out = list;
    list = NULL;
out:
    reco_class_list_free(list);
    return status;
}

reco_status reco_class_list_from(reco_ctx *ctx, reco_class_list **out, const char *const *names, size_t n,
                                 const char *path)
{
    reco_class_list *list;
    *out = NULL;
    RECO_TRY(create_list(ctx, &list, path));
    reco_status status = n ? RECO_OK : reco_fail(ctx, RECO_E_FORMAT, "%s: no classes", path);
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        status = add_class_entry(ctx, list, names[i], strlen(names[i]), i + 1);
    if (status == RECO_OK)
        *out = list;
    else
        reco_class_list_free(list);
    return status;
}

/* ---- folders ---- */

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

reco_status reco_class_list_folders(reco_ctx *ctx, reco_class_list **out, const char *folder)
{
    reco_class_list *list;
    RECO_TRY(create_list(ctx, &list, folder));
    reco_status status = RECO_OK;
    const struct dirent *entry;
    list->is_folder = true;
    DIR *stream = opendir(folder);
    if (!stream) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", folder));
    while ((entry = readdir(stream))) {
        if (entry->d_name[0] == '.') continue;
        char *path = reco_path_join(ctx, folder, entry->d_name);
        if (!path) RECO_GO(RECO_E_NOMEM);
        bool is_dir = reco_path_is_dir(path);
        reco_free(path);
        if (is_dir) RECO_GO(add_class_entry(ctx, list, entry->d_name, strlen(entry->d_name), 0));
    }
    if (list->entries == 0)
        RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: no folders, want one for each class", folder));
    qsort(list->entry_names, list->entries, sizeof *list->entry_names, by_name);
    *out = list;
    list = NULL;
out:
    if (stream) closedir(stream);
    reco_class_list_free(list);
    return status;
}

/* ---- pictures of class folders ---- */

reco_status reco_list_pictures(reco_ctx *ctx, const char *folder, char ***paths, size_t *n)
{
    reco_source *source = NULL;
    size_t room = 0;
    *paths = NULL;
    *n = 0;
    reco_status status = reco_source_open(ctx, &source, folder, NULL, (reco_shard){0});
    while (status == RECO_OK) {
        reco_source_item item;
        status = reco_source_next(ctx, source, &item);
        char *path = item.path; /* what could not be listed fails once more, where it is to be read */
        item.path = NULL;
        reco_source_item_free(&item);
        if (status != RECO_OK) reco_free(path);
        if (status != RECO_OK || !path) break;
        char **grown = reco_grow(ctx, *paths, *n, &room, 256, sizeof *grown, "pictures");
        if (!grown) {
            reco_free(path);
            RECO_GO(RECO_E_NOMEM);
        }
        *paths = grown;
        (*paths)[(*n)++] = path;
    }
out:
    reco_source_close(source);
    if (status != RECO_OK) {
        reco_lines_free(*paths, *n);
        *paths = NULL;
    }
    return status;
}
