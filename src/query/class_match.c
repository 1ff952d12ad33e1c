/* Which names are the same class, and which class a label belongs to. */
#include "clip/clip.h"
#include "io/io.h"
#include "query/class_list.h"

#include <ctype.h>
#include <stdlib.h>

#define SHOWN 64 /* bytes of a name that are compared to find the nearest */

/* ---- what makes two names the same: letter by letter, the tokens, or the words without case ---- */

static uint64_t hash_exact(const char *name) { return reco_hash64(name, strlen(name), 1); }

/* Without case, Unicode form and width of blanks; _ and - are blanks too where `loose`. */
reco_status reco_class_hash_words(reco_ctx *ctx, const char *name, bool loose, uint64_t *hash)
{
    char *copy = reco_strdup(ctx, name);
    if (!copy) return RECO_E_NOMEM;
    for (char *c = copy; loose && *c; c++)
        if (*c == '_' || *c == '-') *c = ' ';
    reco_status status = reco_caption_key(ctx, hash, copy);
    *hash += loose; /* apart from those of the strict kind */
    reco_free(copy);
    return status;
}

/* Without a model the words have to do. */
static reco_status hash_tokens(reco_ctx *ctx, const reco_model *model, const char *text, uint64_t *hash)
{
    return model ? reco_model_hash_tokens(ctx, model, text, hash)
                 : reco_class_hash_words(ctx, text, false, hash);
}

static const char *text_of(const reco_class_list *list, size_t entry)
{
    return list->texts ? list->texts[entry] : list->entry_names[entry];
}

/* ---- classes of one name ---- */

static reco_status name_texts(reco_ctx *ctx, reco_class_list *list)
{
    if (!list->is_folder) return RECO_OK;
    if (!(list->texts = reco_alloc(ctx, list->entries, sizeof *list->texts, "classes")))
        return RECO_E_NOMEM;
    for (size_t i = 0; i < list->entries; i++) {
        if (!(list->texts[i] = reco_strdup(ctx, list->entry_names[i]))) return RECO_E_NOMEM;
        for (char *c = list->texts[i]; *c; c++)
            if (*c == '_') *c = ' ';
    }
    return RECO_OK;
}

static reco_status same_class(reco_ctx *ctx, const reco_class_list *list, size_t a, size_t b)
{
    const char *x = list->entry_names[a], *y = list->entry_names[b];
    const char *why =
        strcmp(x, y) == 0
            ? ""
            : " (names are compared without case, blanks and Unicode form, and by their tokens)";
    if (list->is_folder)
        return reco_fail(ctx, RECO_E_EXISTS,
                         "%s: the folders \"%.200s\" and \"%.200s\" are the same class%s", list->path, x, y,
                         why);
    return reco_fail(ctx, RECO_E_EXISTS,
                     "%s: lines %llu and %llu are the same class: \"%.200s\" and \"%.200s\"%s", list->path,
                     (unsigned long long)list->lines[a], (unsigned long long)list->lines[b], x, y, why);
}

/* Entries that share a hash of tokens or of words become one; of_entry is the first of them. */
static reco_status join(reco_ctx *ctx, reco_class_list *list, int merge)
{
    size_t first = SIZE_MAX, second = 0;
    for (uint32_t i = 0; i < list->entries; i++) list->of_entry[i] = i;
    for (size_t i = 1; i < list->nknown; i++) {
        if (list->known[i].hash != list->known[i - 1].hash) continue;
        uint32_t a = reco_root(list->of_entry, list->known[i - 1].entry),
                 b = reco_root(list->of_entry, list->known[i].entry);
        if (a == b) continue;
        size_t later = reco_max(list->known[i - 1].entry, list->known[i].entry);
        if (first == SIZE_MAX || later < second) {
            first = reco_min(list->known[i - 1].entry, list->known[i].entry);
            second = later;
        }
        list->of_entry[reco_max(a, b)] = (uint32_t)reco_min(a, b);
    }
    if (first != SIZE_MAX && !merge) return same_class(ctx, list, first, second);
    for (uint32_t i = 0; i < list->entries; i++) {
        uint32_t r = reco_root(list->of_entry, i);
        if (r == i) {
            list->names[list->n] = list->entry_names[i];
            list->class_texts[list->n++] = text_of(list, i);
        }
    }
    return RECO_OK;
}

/* From first entries to numbers of classes. */
static reco_status number(reco_ctx *ctx, reco_class_list *list)
{
    uint32_t *of = reco_alloc(ctx, list->entries, sizeof *of, "classes"), next = 0;
    if (!of) return RECO_E_NOMEM;
    for (uint32_t i = 0; i < list->entries; i++) {
        uint32_t r = reco_root(list->of_entry, i);
        of[i] = r == i ? next++ : of[r];
    }
    reco_free(list->of_entry);
    list->of_entry = of;
    return RECO_OK;
}

reco_status reco_class_list_settle(reco_ctx *ctx, reco_class_list *list, const reco_model *model, int merge)
{
    size_t n = list->entries;
    RECO_TRY(name_texts(ctx, list));
    list->names = reco_alloc(ctx, n, sizeof *list->names, "classes");
    list->class_texts = reco_alloc(ctx, n, sizeof *list->class_texts, "classes");
    list->of_entry = reco_alloc(ctx, n, sizeof *list->of_entry, "classes");
    list->exact = reco_alloc(ctx, n, sizeof *list->exact, "classes");
    list->known = reco_alloc(ctx, 3 * n, sizeof *list->known, "classes");
    if (!list->names || !list->class_texts || !list->of_entry || !list->exact || !list->known)
        return RECO_E_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        list->exact[list->nexact++] = (struct reco_class_index){hash_exact(list->entry_names[i]), i};
        struct reco_class_index *known = list->known + list->nknown;
        known[0].entry = known[1].entry = i;
        RECO_TRY(hash_tokens(ctx, model, text_of(list, i), &known[0].hash));
        RECO_TRY(reco_class_hash_words(ctx, text_of(list, i), false, &known[1].hash));
        list->nknown += 2;
    }
    qsort(list->exact, list->nexact, sizeof *list->exact, reco_class_by_hash);
    qsort(list->known, list->nknown, sizeof *list->known, reco_class_by_hash);
    RECO_TRY(join(ctx, list, merge));
    RECO_TRY(number(ctx, list));
    for (uint32_t i = 0; i < n; i++) {
        struct reco_class_index *known = list->known + list->nknown++;
        known->entry = i;
        RECO_TRY(reco_class_hash_words(ctx, text_of(list, i), true, &known->hash));
    }
    qsort(list->known, list->nknown, sizeof *list->known, reco_class_by_hash);
    return RECO_OK;
}

size_t reco_class_list_count(const reco_class_list *list) { return list->n; }
size_t reco_class_list_merged(const reco_class_list *list) { return list->entries - list->n; }
const char *const *reco_class_list_entries(const reco_class_list *list)
{
    return (const char *const *)list->entry_names;
}
const uint32_t *reco_class_list_of(const reco_class_list *list) { return list->of_entry; }
const char *const *reco_class_list_names(const reco_class_list *list) { return list->names; }
const char *const *reco_class_list_texts(const reco_class_list *list) { return list->class_texts; }

/* ---- labels ---- */

size_t reco_class_first(const struct reco_class_index *index, size_t n, uint64_t hash)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && index[low].hash == hash ? low : n;
}

/* The class of this hash among sorted entries; RECO_NO_CLASS where there is none, or several. */
static uint32_t look_up(const reco_class_list *list, const struct reco_class_index *index, size_t n,
                        uint64_t hash)
{
    size_t low = reco_class_first(index, n, hash);
    if (low == n) return RECO_NO_CLASS;
    uint32_t found = list->of_entry[index[low].entry];
    for (size_t i = low + 1; i < n && index[i].hash == hash; i++)
        if (list->of_entry[index[i].entry] != found) return RECO_NO_CLASS;
    return found;
}

static reco_status by_words(reco_ctx *ctx, const reco_class_list *list, const reco_model *model,
                            const char *label, uint32_t *found)
{
    uint64_t hash;
    *found = look_up(list, list->exact, list->nexact, hash_exact(label));
    if (*found != RECO_NO_CLASS) return RECO_OK;
    RECO_TRY(hash_tokens(ctx, model, label, &hash));
    *found = look_up(list, list->known, list->nknown, hash);
    for (int loose = 0; loose < 2 && *found == RECO_NO_CLASS; loose++) {
        RECO_TRY(reco_class_hash_words(ctx, label, loose, &hash));
        *found = look_up(list, list->known, list->nknown, hash);
    }
    return RECO_OK;
}

/* "7", "007", and "7.0", which is what tables make of whole numbers beside missing ones. "-1", by which data sets say that a
 * picture has no label, is a number, too. */
static bool whole_number(const char *label, uint64_t *value)
{
    char *end;
    bool negative = *label == '-';
    label += negative;
    size_t digits = strspn(label, "0123456789");
    if (digits == 0 || digits > 15) return false;
    *value = strtoull(label, &end, 10);
    if (negative) *value = 0 - *value;
    if (*end == '.' && end[1] == '0') end += 1 + strspn(end + 1, "0");
    return *end == 0;
}

static bool is_synset(const char *label)
{
    return strlen(label) == 9 && *label == 'n' && strspn(label + 1, "0123456789") == 8;
}

static uint32_t by_key(const reco_class_list *list, const char *label)
{
    uint64_t value, key;
    bool is_number = whole_number(label, &value);
    for (size_t i = 0; list->keys && i < list->entries; i++)
        if (strcmp(list->keys[i], label) == 0 ||
            (is_number && whole_number(list->keys[i], &key) && key == value))
            return list->of_entry[i];
    return !list->keys && is_number && value < list->entries ? list->of_entry[value] : RECO_NO_CLASS;
}

typedef struct labels {
    const char *const *text;
    size_t n, known;           /* how many are names of classes */
    bool all_keys, all_synset; /* all are numbers or names of synsets, all the latter */
} labels;

/* Labels that are positions go from 1 to the number of classes: positions count from 0, and all of them would be wrong. */
static bool count_from_one(const reco_class_list *list, const labels *l)
{
    bool last = false;
    uint64_t value;
    for (size_t i = 0; i < l->n; i++) {
        if (list->keys || !whole_number(l->text[i], &value) || value == 0) return false;
        last |= value == list->entries;
    }
    return last;
}

static reco_status survey(reco_ctx *ctx, const reco_class_list *list, const reco_model *model, labels *l,
                          uint32_t *classes)
{
    uint64_t value;
    const char *before = NULL;
    l->all_keys = l->all_synset = l->n > 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *label = l->text[i];
        if (before && strcmp(before, label) == 0)
            classes[i] = classes[i - 1];
        else
            RECO_TRY(by_words(ctx, list, model, label, &classes[i]));
        l->known += classes[i] != RECO_NO_CLASS;
        l->all_synset = l->all_synset && is_synset(label);
        l->all_keys = l->all_keys && (is_synset(label) || whole_number(label, &value));
        before = label;
    }
    return RECO_OK;
}

reco_status reco_class_list_match(reco_ctx *ctx, const reco_class_list *list, const reco_model *model,
                                  const char *const *label_texts, size_t n, int folders, uint32_t *classes,
                                  const char **how)
{
    labels l = {.text = label_texts, .n = n};
    *how = folders ? "folders" : "names";
    RECO_TRY(survey(ctx, list, model, &l, classes));
    if (l.all_keys && l.known) {
        bool differs = l.known < n;
        for (size_t i = 0; i < n; i++) differs |= by_key(list, label_texts[i]) != classes[i];
        if (differs)
            reco_log(ctx, RECO_LOG_WARN,
                     "%s: some class names are numbers, so labels that are numbers are read as names",
                     list->path);
        return RECO_OK;
    }
    if (!l.all_keys || l.known) return RECO_OK;
    size_t found = 0;
    for (size_t i = 0; i < n; i++) found += (classes[i] = by_key(list, label_texts[i])) != RECO_NO_CLASS;
    *how = "numbers";
    if (found) {
        reco_log(ctx, RECO_LOG_INFO, "labels are numbers: %s %s",
                 list->keys ? "those in" : "from 0, of the classes in", list->path);
        if (count_from_one(list, &l))
            reco_log(
                ctx, RECO_LOG_WARN,
                "no label is 0 and one is %zu: if labels count from 1, put numbers before the names in %s",
                list->entries, list->path);
        return RECO_OK;
    }
    if (!folders || !l.all_synset || n != list->entries || list->keys) return RECO_OK;
    /* ImageNet's folders, and a list of the names in their order, as everybody has it. */
    for (size_t i = 0; i < n; i++) classes[i] = list->of_entry[i];
    *how = "order";
    reco_log(ctx, RECO_LOG_WARN,
             "the folders are named by synsets and %s has as many classes: they are matched in the order "
             "of their names",
             list->path);
    return RECO_OK;
}

/* ---- the nearest name ---- */

/* Edit distance without case; rows of the usual table, one after another. */
static size_t distance(const char *a, const char *b)
{
    size_t row[SHOWN + 1], n = strnlen(a, SHOWN), m = strnlen(b, SHOWN);
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t old = row[j],
                   same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            row[j] = reco_min(reco_min(row[j] + 1, row[j - 1] + 1), corner + !same);
            corner = old;
        }
    }
    return row[m];
}

const char *reco_class_list_nearest(const reco_class_list *list, const char *label)
{
    size_t best = SIZE_MAX, at = 0;
    for (size_t i = 0; i < list->entries; i++) {
        size_t d = distance(label, list->entry_names[i]);
        if (d < best) best = d, at = i;
    }
    return list->entry_names[at];
}
