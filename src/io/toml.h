/* io/toml.h: the part of TOML 1.0 that configuration files of reco need: tables, bare and quoted keys, strings of one line,
 * integers, floats, booleans, arrays. Dates, strings of several lines, dotted keys, inline tables and arrays of tables are refused by name. */
#ifndef RECO_SRC_IO_TOML_H
#define RECO_SRC_IO_TOML_H

#include "io/io.h"

typedef struct reco_toml_entry {
    char *table, *key; /* table "" before the first header */
    json_t *value;
    size_t line; /* from 1 */
} reco_toml_entry;

typedef struct reco_toml {
    reco_toml_entry *entries; /* in the order of the file; tables without a key are not among them */
    size_t n;
} reco_toml;

/* At most 1 MiB of UTF-8. RECO_E_FORMAT names file, line and what was wanted; a table or key that comes twice is one. Free with
 * reco_toml_free also after an error. */
reco_status reco_toml_read(reco_ctx *ctx, reco_toml *toml, const char *path);
void reco_toml_free(reco_toml *toml);

#endif
