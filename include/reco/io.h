/* reco/io.h: how tables of pairs, of labels and of metadata are read. */
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

#ifdef __cplusplus
}
#endif
#endif
