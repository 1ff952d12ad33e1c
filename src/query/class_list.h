/* query/class_list.h: shared by reading classes and matching labels. */
#ifndef RECO_SRC_CLASS_LIST_H
#define RECO_SRC_CLASS_LIST_H

#include "query/query.h"

#include <strings.h>

struct reco_class_index {
    uint64_t hash;
    uint32_t entry;
};

static inline int reco_class_by_hash(const void *a, const void *b)
{
    const struct reco_class_index *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->entry < y->entry ? -1 : x->entry > y->entry;
}

struct reco_class_list {
    char *path; /* of the file or folder */
    bool is_folder, has_keys;
    size_t entries; /* lines or folders, in their order */
    char **entry_names;
    char **keys;     /* [entries] numbers that the file has for them; NULL: none */
    char **texts;    /* [entries] what the model reads; NULL: the names */
    uint64_t *lines; /* [entries] in the file, from 1 */
    /* after reco_class_list_settle */
    size_t n;                               /* classes */
    const char **names, **class_texts;      /* [n] */
    uint32_t *of_entry;                     /* [entries] */
    struct reco_class_index *exact, *known; /* sorted by hash */
    size_t nexact, nknown;
};

/* class_match.c: a hash of the words of a text without case, Unicode form and width of blanks, _ and - being blanks too where
 * loose. */
reco_status reco_class_hash_words(reco_ctx *ctx, const char *name, bool loose, uint64_t *hash);
/* Where the first entry of this hash stands among n sorted ones; n where there is none. */
size_t reco_class_first(const struct reco_class_index *index, size_t n, uint64_t hash);

#endif
