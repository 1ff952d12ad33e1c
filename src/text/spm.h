/* text/spm.h: a face in C for the sentencepiece library, which speaks C++ (spm.cc). Compiled only where the library is;
 * RECO_SENTENCEPIECE says so. */
#ifndef RECO_SRC_SPM_H
#define RECO_SRC_SPM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reco_spm reco_spm;
/* From a serialised model; NULL with the reason in error. The data is copied. */
reco_spm *reco_spm_load(const void *data, size_t bytes, char *error, size_t room);
void reco_spm_free(reco_spm *spm);
size_t reco_spm_size(const reco_spm *spm);
/* Id of a piece; the unknown token's where there is none of that name. */
int32_t reco_spm_id(const reco_spm *spm, const char *piece);
int32_t reco_spm_unk(const reco_spm *spm);
/* ids[0..max) of a text; how many there are, which may be more than max; -1: out of memory or refused. Thread-safe. */
long reco_spm_encode(const reco_spm *spm, const char *text, size_t bytes, int32_t *ids, size_t max);

#ifdef __cplusplus
}
#endif
#endif
