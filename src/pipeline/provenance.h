/* pipeline/provenance.h: reco.json, which records the encoder of a folder of embeddings. */
#ifndef RECO_SRC_PROVENANCE_H
#define RECO_SRC_PROVENANCE_H

#include "pipeline/pipeline_internal.h"

typedef struct reco_provenance {
    bool found;        /* there was a reco.json, or the caller was told who made them */
    bool exported;     /* from a bank: names and ids of the records are to be undone */
    char encoder[256]; /* "" where unknown, as in a bank */
    char fingerprint[33];
    float logit_scale; /* 0 where unknown */
    size_t d;          /* 0 where unknown */
    int sides;         /* bits as of reco_sides: whose embeddings it speaks of */
    int refined;       /* likewise: which of them were refined */
    bool concat;       /* rows are [sqrt(a) v; sqrt(1-a) v'], d being the width of both, */
    float weight;      /* of this a */
    bool exif;         /* the pictures were turned as their EXIF says */
    char precision[2][8];
    uint64_t rows; /* of an export */
} reco_provenance;

/* What DIR/reco.json says; found is false where there is none, or it is another program's. */
reco_status reco_provenance_read(reco_ctx *ctx, const char *dir, reco_provenance *p);
/* The same of embeddings to be read, which must not be concatenated (RECO_E_UNSUPPORTED), where `encoder` (a model folder or a name; NULL) tells of embeddings that say nothing of themselves.
 * RECO_E_MISMATCH where they say another. */
reco_status reco_provenance_of(reco_ctx *ctx, const char *dir, const char *encoder, reco_provenance *p);
/* Atomic. Where nothing is known (p->found is false) a reco.json that is there goes. */
reco_status reco_provenance_write(reco_ctx *ctx, const char *dir, const reco_provenance *p);
/* RECO_E_MISMATCH, naming both, unless the encoders of bank and layer may be that of `what`. Either may be NULL. */
reco_status reco_provenance_check(reco_ctx *ctx, const reco_provenance *p, const char *what,
                                  const reco_bank *bank, const reco_fusion *fusion);

#endif
