/* pipeline/class_list.h: what reading classes and matching labels share. */
#ifndef RECO_SRC_CLASS_LIST_H
#define RECO_SRC_CLASS_LIST_H

#include "pipeline/pipeline_internal.h"

#include <strings.h>

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

#endif
