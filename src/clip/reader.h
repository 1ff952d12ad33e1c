/* clip/reader.h: keys of a configuration file. The first failure stays; what follows it is a no-op that gives the
 * default. A key that is missing (or null, unless `nulls`) has the default, which is noted as a guess of the model. */
#ifndef RECO_SRC_CLIP_READER_H
#define RECO_SRC_CLIP_READER_H

#include "clip/clip_internal.h"

typedef struct reco_reader {
    reco_ctx *ctx;
    reco_model *model;
    const char *path;     /* for messages */
    const char *section;  /* "vision_config", or "" for the whole file */
    const json_t *object; /* NULL: as if empty */
    reco_status status;
    bool nulls; /* null is a value, a wrong one, to all but reco_read_value and reco_read_section */
} reco_reader;

/* Fail with "PATH: SECTION.KEY " and what follows. */
void reco_read_fail(reco_reader *r, reco_status status, const char *key, const char *format, ...)
    RECO_PRINTF(4, 5);
/* The value, NULL where it is missing or null. */
const json_t *reco_read_value(const reco_reader *r, const char *key);
/* The object of that key, an empty section where it is missing; RECO_E_FORMAT where it is something else. */
reco_reader reco_read_section(reco_reader *r, const char *key);

size_t reco_read_size(reco_reader *r, const char *key, size_t otherwise, size_t low, size_t high);
/* A side of a square: a number, or [n, n]. */
size_t reco_read_square(reco_reader *r, const char *key, size_t otherwise, size_t low, size_t high);
double reco_read_number(reco_reader *r, const char *key, double otherwise, double low, double high);
/* Never noted as guesses: flags and names whose absence says that a feature is not used. */
bool reco_read_flag(reco_reader *r, const char *key, bool otherwise);
const char *reco_read_text(reco_reader *r, const char *key, const char *otherwise);
/* The activation of a tower, by its name; noted in act, [32]. */
void reco_read_act(reco_reader *r, reco_act *out, char *act, const char *key, const char *otherwise);

#endif
