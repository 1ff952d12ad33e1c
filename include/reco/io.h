/* reco/io.h: how tables of pairs, of labels and of metadata are read, and configuration files. */
#ifndef RECO_IO_H
#define RECO_IO_H

#include "reco/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum reco_quote {
    RECO_QUOTE_AUTO = 0, /* as the file shows: a CSV has quotes, a TSV has none until it shows them */
    RECO_QUOTE_YES = 1,
    RECO_QUOTE_NO = 2
} reco_quote;

/* How a table (of pairs, of labels, metadata of embeddings) is read. {0}: everything as the file shows. Strings are borrowed
 * for the call. docs/format.md lists the names of columns that are known without being told. */
typedef struct reco_table_opts {
    const char *image_column, *text_column; /* NULL: a known name */
    const char *label_column;               /* of labels, likewise */
    const char
        *types; /* "price=number,sku=text", of columns of CSV and TSV; NULL: numbers where all values are */
    const char *encoding; /* as iconv names it; NULL: UTF-8, or UTF-16 with a byte-order mark */
    char separator;       /* 0: by the header and the name's ending */
    reco_quote quote;
    size_t max_lines; /* that a record may span; 0 = 100 */
    uint64_t reserved[RECO_RESERVED];
} reco_table_opts;

/* An option of a configuration file. */
typedef struct reco_setting {
    char *name, *value; /* value: a string as it is, a number or true or false as text */
    size_t line;        /* from 1 */
} reco_setting;

/* The options of a TOML file, which are its keys before any table, in the order of the file; a list is an option for each of its
 * values. RECO_E_FORMAT names file, line and what was wanted, a table or a key that comes twice say. Free with reco_settings_free. */
RECO_API reco_status reco_settings_read(reco_ctx *ctx, reco_setting **out, size_t *n, const char *path);
RECO_API void reco_settings_free(reco_setting *settings, size_t n); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
