/* cli/search.h: the parts of `reco search`. */
#ifndef RECO_CLI_SEARCH_H
#define RECO_CLI_SEARCH_H

#include "cli.h"

typedef enum query_kind { QUERY_IMAGE, QUERY_TEXT, QUERY_ROW } query_kind;

typedef struct cli_query {
    query_kind kind;
    const char *text; /* file, text or id, as it was given */
    int64_t id;       /* of a row */
} cli_query;

typedef struct cli_search {
    cli *common;
    const char *model, *bank, *fusion, *where, *file, *out, *encoder;
    cli_query *queries;
    size_t n;
    uint64_t nrows; /* of the file */
    int in, own;    /* reco_side, or -1: the query's own; of the file's rows, or -1: the same */
    cli_readout readout;
    reco_memory memory;
    reco_find_opts find;
} cli_search;

/* The sides of a model that embedding the queries takes. */
reco_sides cli_query_sides(const cli_query *queries, size_t n);
/* The unit vector [d] of a query; `side` is that of a row. model may be NULL for a row. */
reco_status cli_embed_query(cli *c, const reco_model *model, const reco_bank *bank, const cli_query *q,
                            reco_side side, float *out);
/* --queries. */
reco_status cli_search_file(cli *c, cli_search *a, uint64_t *failures);

#endif
