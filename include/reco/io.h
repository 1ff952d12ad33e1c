/* reco/io.h: reading of tables (pairs, labels, metadata) and of configuration files. */
#ifndef RECO_IO_H
#define RECO_IO_H

#include "reco/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum reco_quote {
    /* found from the file: a CSV file has quotes; a TSV file has them only if its content shows them */
    RECO_QUOTE_AUTO = 0,
    RECO_QUOTE_YES = 1,
    RECO_QUOTE_NO = 2
} reco_quote;

/* How to read a table (pairs, labels, or metadata of embeddings). {0}: everything is found from the file.
 * Strings are borrowed for the call. docs/format.md lists the known column names. */
typedef struct reco_table_opts {
    const char *image_column, *text_column; /* NULL: a known name */
    const char *label_column;               /* of labels; NULL: a known name */
    /* "price=number,sku=text", types of the columns of CSV and TSV files; NULL: number if every value is
     * one, else text */
    const char *types;
    const char *encoding; /* encoding, by iconv's name; NULL: UTF-8, or UTF-16 with a byte-order mark */
    char separator;       /* 0: found from the header and the file extension */
    reco_quote quote;
    size_t max_lines; /* most lines that a record may span; 0 = 100 */
    uint64_t reserved[RECO_RESERVED];
} reco_table_opts;

/* An option of a configuration file. */
typedef struct reco_setting {
    char *name, *value; /* value: a string as is; a number, true or false as text */
    size_t line;        /* from 1 */
} reco_setting;

/* Read the options of a TOML file: its keys before any table, in the order of the file. A list gives one
 * option for each of its values. RECO_E_FORMAT names the file, the line and what was wanted, for instance
 * for a table or a duplicate key. Free with reco_settings_free. */
RECO_API reco_status reco_settings_read(reco_ctx *ctx, reco_setting **out, size_t *n, const char *path);
RECO_API void reco_settings_free(reco_setting *settings, size_t n); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
