/* bank/postgres/postgres.h: a bank on PostgreSQL servers with pgvector. In builds without libpq, each function
 * returns an error that says so. */
#ifndef RECO_SRC_BANK_POSTGRES_H
#define RECO_SRC_BANK_POSTGRES_H

#include "bank/write/deletion.h"

/* ---- url.c ---- */

/* Where the first of several URLs ends: at the comma before another one. A URL may have commas of its own, between hosts. */
const char *reco_pg_url_end(const char *url);

/* ---- open.c ---- */

reco_status reco_pg_open(reco_ctx *ctx, reco_bank **out, const char *urls, const reco_bank_open_opts *opts);

/* ---- write.c, delete.c: the public functions of these names ---- */

reco_status reco_pg_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *urls,
                                const reco_bank_spec *spec, const char *job, uint64_t *next, int *done);
reco_status reco_pg_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *urls, bool preview);

#endif
