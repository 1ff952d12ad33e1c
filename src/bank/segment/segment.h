/* bank/segment/segment.h: vector files, and their scan files, which make searches fast. */
#ifndef RECO_SRC_BANK_SEGMENT_H
#define RECO_SRC_BANK_SEGMENT_H

#include "bank/catalog/catalog.h"
#include "bank/segment/directions.h"

#include <pthread.h>

#define RECO_SEGMENT_BLOCK ((size_t)1 << 16) /* bytes of a segment's file that share a checksum */

/* Rows of a segment at most: a writer holds twice as many in memory. */
static inline size_t reco_segment_most(size_t d)
{
    return reco_max(1, reco_min(((size_t)20 << 20) / (2 * d * sizeof(uint16_t)), 65536));
}

/* The same rows along the bank's directions of the side: what a scan may look at before the codes. */
typedef struct reco_scan_stages {
    const reco_directions_side *directions; /* NULL: none */
    const uint8_t *first;                   /* [groups][width of directions->first / 4][16][4] */
    const uint8_t *second;                  /* [rows][width of directions->second] */
    const float *first_bounds;              /* [groups][5][16], as kernels/scan.h has it */
    const float *second_bounds;             /* likewise */
} reco_scan_stages;

/* What a scan looks at in the place of the vectors of some rows of one side; layout in kernels/scan.h. */
typedef struct reco_scan_source {
    const uint8_t *codes; /* [groups][width/4][16][4]; NULL: none, only the rows' places are known */
    const float *bounds;  /* [groups][3][16] */
    const float *mean;    /* [d] */
    const uint32_t
        *positions; /* row i stands at position positions[i] of the bank, UINT32_MAX: nowhere. NULL:
                                * at base + i */
    size_t base, rows;
    reco_scan_stages stages;
} reco_scan_source;

/* An immutable vector file. Row i of it has position base + i in the bank and id reco_segment_id(s, i). */
typedef struct reco_segment {
    reco_safetensors *file;
    const uint16_t *vectors[2]; /* by reco_side: [rows][d] f16 */
    const uint8_t *ids;         /* [rows] i64, maybe unaligned; NULL: first, first + 1, ... */
    int64_t first;
    size_t rows, base;
    reco_safetensors *scan_file; /* NULL: none */
    reco_scan_source source[2];  /* by reco_side */
    size_t listed; /* its first row is row listed - 1 of the bank's lists; 0: they don't have it */
} reco_segment;

static inline int64_t reco_segment_id(const reco_segment *s, size_t row)
{
    if (!s->ids) return s->first + (int64_t)row;
    int64_t id;
    memcpy(&id, s->ids + row * sizeof id, sizeof id);
    return id;
}

/* ---- open.c ---- */

/* Map DIR/vectors/FILE and check it against its entry. base is left to the caller. */
reco_status reco_segment_open(reco_ctx *ctx, reco_segment *s, const char *dir,
                              const reco_segment_entry *entry, size_t d);
void reco_segment_close(reco_segment *s);
/* RECO_E_FORMAT unless its file has the checksum of its entry: before rows are copied, since damaged ones must not be given a new,
 * right one. */
reco_status reco_segment_check_sum(reco_ctx *ctx, const reco_segment *s, const reco_segment_entry *entry);

/* ---- sweep.c ---- */

/* Remove what killed writers left in DIR/vectors: every segment file, whole or temporary, that is not named. */
reco_status reco_segment_sweep(reco_ctx *ctx, reco_catalog *c, const char *dir,
                               const reco_segment_list *named);

/* How many it would remove. */
reco_status reco_segment_orphans(reco_ctx *ctx, const char *dir, const reco_segment_list *named,
                                 size_t *found);

/* ---- write.c ---- */

/* A new vector file, of which entry->number and first are given: between begin and commit the caller puts image
 * [rows][d] f16, text likewise and, with holes, id [rows] i64, in pieces as it likes. Commit fsyncs and renames it,
 * completes the entry, stages the sums of its blocks, and frees it whatever it returns. */
typedef struct reco_segment_file reco_segment_file;
reco_status reco_segment_begin(reco_ctx *ctx, reco_segment_file **out, reco_segment_entry *entry,
                               const char *dir, size_t rows, size_t d, bool holes);
reco_status reco_segment_put(reco_ctx *ctx, reco_segment_file *f, const void *data, size_t bytes);
reco_status reco_segment_commit(reco_ctx *ctx, reco_segment_file *f, reco_catalog *c,
                                reco_segment_entry *entry);
void reco_segment_abort(reco_segment_file *f); /* NULL is fine */

/* The same while the caller goes on: one thread writes the vectors, another sums them and writes the scan file. With a
 * context of one thread start does all. */
typedef struct reco_segment_job {
    reco_segment_entry entry;
    uint16_t *vectors[2]; /* by reco_side: [rows][d], the caller's, not to be touched before the join */
    size_t rows, d;
    const char *dir;
    bool scan;       /* a scan file is wanted; where it can't be written there is none */
    bool directions; /* and the bank's directions, unless it has some */
    /* Its own; zeros at first. */
    reco_segment_file *file; /* NULL: nothing is being written */
    reco_ctx *ctx[2];
    pthread_t thread[2];
    bool runs[2];
    reco_status status[2];
} reco_segment_job;
reco_status reco_segment_start(reco_ctx *ctx, reco_segment_job *j);
/* Wait until all is on disk; the entry is complete and its sums are staged. Nothing where nothing was started. */
reco_status reco_segment_join(reco_ctx *ctx, reco_segment_job *j, reco_catalog *c);
void reco_segment_job_free(reco_segment_job *j);

/* ---- encode.c ---- */

/* The mean [d] of some of the rows, evenly spread; 0 where that is not finite. row is scratch [d]. */
void reco_scan_find_mean(float *mean, float *row, const reco_scan_rows *rows);
/* Codes [groups][width/4][16][4] and bounds [groups][3][16] of rows less the mean [d], padding and all. */
reco_status reco_scan_encode(reco_ctx *ctx, uint8_t *codes, float *bounds, const reco_scan_rows *rows,
                             const float *mean);

/* ---- stages.c ---- */

/* Room for the stages of n rows along x; the caller's, in the scratch of ctx. */
typedef struct reco_scan_stages_room {
    uint8_t *codes[2]; /* as first and second above */
    float *bounds[2];
} reco_scan_stages_room;
reco_status reco_scan_stages_new(reco_ctx *ctx, reco_scan_stages_room *out, const reco_directions_side *x,
                                 size_t n);
reco_status reco_scan_stages_encode(reco_ctx *ctx, const reco_scan_stages_room *to,
                                    const reco_directions_side *x, const reco_scan_rows *rows,
                                    const float *mean);
/* The first of the rows whose bounds do not hold, rows->n when all do. */
reco_status reco_scan_stages_check(reco_ctx *ctx, const reco_scan_stages *s, const reco_scan_rows *rows,
                                   const float *mean, size_t *bad);

/* ---- scan_file.c: vectors/segment-NNNNNN.scan-int8.safetensors, made of a segment's rows and no more ---- */

#define RECO_SCAN_ENDING ".scan-int8.safetensors"
/* Banks from so many rows on are given scan files without being asked. */
#define RECO_SCAN_DEFAULT_ROWS 10000
/* "DIR/vectors/segment-NNNNNN.scan-int8.safetensors" */
char *reco_scan_path(reco_ctx *ctx, const char *dir, int64_t number);
/* A bank's directions, made of these segments' rows unless there are some that are whole, or the rows are few: file NULL then. */
reco_status reco_segments_directions(reco_ctx *ctx, reco_directions *out, const char *dir,
                                     const reco_segment *segments, size_t n, size_t d);
/* Map the scan file of s, which is open, when there is one; RECO_E_FORMAT when it is damaged or was not made of this
 * very segment. directions (NULL: none) must stay open as long; stages along others are left alone. */
reco_status reco_scan_open(reco_ctx *ctx, reco_segment *s, const char *dir, const reco_segment_entry *entry,
                           size_t d, const reco_directions *directions, bool *is_there);
void reco_scan_close(reco_segment *s);
/* Write the one of s, in the place of any, with stages along directions, NULL: without. Takes memory for a segment's
 * codes. */
reco_status reco_scan_write(reco_ctx *ctx, const reco_segment *s, const char *dir,
                            const reco_segment_entry *entry, size_t d, const reco_directions *directions);
/* Does it have the stages that one with these directions would have? */
bool reco_scan_is_whole(const reco_segment *s, const reco_directions *directions);
/* The first row of a side whose bounds do not hold, s->rows when all do. */
reco_status reco_scan_check(reco_ctx *ctx, const reco_segment *s, reco_side side, size_t d, size_t *bad);
/* Does a row x [d] lie where its codes and bounds say? */
bool reco_scan_holds(const reco_scan_source *side, size_t row, const float *x, size_t d);

#endif
