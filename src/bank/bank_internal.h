/* bank/bank_internal.h: a bank folder, opened: its catalog (catalog.h) and its mapped vector files. */
#ifndef RECO_SRC_BANK_INTERNAL_H
#define RECO_SRC_BANK_INTERNAL_H

#include "bank/catalog/catalog.h"

#include <pthread.h>

#define RECO_SEGMENT_BLOCK ((size_t)1 << 16) /* bytes of a segment's file that share a checksum */

/* Rows of a segment at most: a writer holds twice as many in memory. */
static inline size_t reco_segment_most(size_t d)
{
    return reco_max(1, reco_min(((size_t)20 << 20) / (2 * d * sizeof(uint16_t)), 65536));
}

/* What a scan looks at in the place of the vectors; layout in kernels/scan.h. */
typedef struct reco_scan_side {
    const uint8_t *codes; /* [groups][width/4][16][4]; NULL: there is no scan file */
    const float *bounds;  /* [groups][3][16] */
    const float *mean;    /* [d] */
} reco_scan_side;

/* An immutable vector file. Row i of it has position base + i in the bank and id reco_segment_id(s, i). */
typedef struct reco_segment {
    reco_safetensors *file;
    const uint16_t *vectors[2]; /* by reco_side: [rows][d] f16 */
    const uint8_t *ids;         /* [rows] i64, maybe unaligned; NULL: first, first + 1, ... */
    int64_t first;
    size_t rows, base;
    reco_safetensors *scan_file; /* NULL: none */
    reco_scan_side scan[2];
} reco_segment;

struct reco_bank {
    reco_catalog *catalog;
    reco_bank_info info;
    reco_segment *segments;
    reco_segment_entry *entries; /* [nsegments] */
    size_t nsegments, positions; /* positions: rows of all segments, deleted ones too */
    uint64_t *deleted;           /* bit p: position p is deleted; NULL when nothing is */
};

/* ---- segment/segment.c ---- */

static inline int64_t reco_segment_id(const reco_segment *s, size_t row)
{
    if (!s->ids) return s->first + (int64_t)row;
    int64_t id;
    memcpy(&id, s->ids + row * sizeof id, sizeof id);
    return id;
}

/* Map DIR/vectors/FILE and check it against its entry. base is left to the caller. */
reco_status reco_segment_open(reco_ctx *ctx, reco_segment *s, const char *dir,
                              const reco_segment_entry *entry, size_t d);
void reco_segment_close(reco_segment *s);
/* Remove what killed writers left in DIR/vectors: every segment file, whole or temporary, that is not named. */
reco_status reco_segment_sweep(reco_ctx *ctx, reco_catalog *c, const char *dir,
                               const reco_segment_list *named);

/* How many it would remove. */
reco_status reco_segment_orphans(reco_ctx *ctx, const char *dir, const reco_segment_list *named,
                                 size_t *found);

/* ---- segment/write.c ---- */

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
    bool scan; /* a scan file is wanted; where it can't be written there is none */
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

/* ---- segment/scan_file.c: vectors/segment-NNNNNN.scan-int8.safetensors, made of a segment's rows and no more ---- */

#define RECO_SCAN_ENDING ".scan-int8.safetensors"
/* Banks from so many rows on are given scan files without being asked. */
#define RECO_SCAN_DEFAULT_ROWS 10000
/* "DIR/vectors/segment-NNNNNN.scan-int8.safetensors" */
char *reco_scan_path(reco_ctx *ctx, const char *dir, int64_t number);
/* Map the scan file of s, which is open, when there is one; RECO_E_FORMAT when it is damaged or was not made of this
 * very segment. */
reco_status reco_scan_open(reco_ctx *ctx, reco_segment *s, const char *dir, const reco_segment_entry *entry,
                           size_t d, bool *is_there);
void reco_scan_close(reco_segment *s);
/* Write the one of s, in the place of any. Takes memory for a segment's codes. */
reco_status reco_scan_write(reco_ctx *ctx, const reco_segment *s, const char *dir,
                            const reco_segment_entry *entry, size_t d);
/* The first row of a side whose bounds do not hold, s->rows when all do. x is scratch [d]. */
size_t reco_scan_check(const reco_segment *s, reco_side side, size_t d, float *x);

/* ---- write/index.c ---- */

/* Are the writer's new segments to have scan files? before: the next id at the last commit. */
bool reco_bank_wants_scan(reco_ctx *ctx, const reco_bank_writer *w, int64_t before);
/* After a commit, in a bank of RECO_SCAN_DEFAULT_ROWS or more: give scan files to segments that lack one, where those
 * before have them. before: the next id before this commit. */
reco_status reco_bank_index_new(reco_ctx *ctx, const reco_bank_writer *w, int64_t before);

/* Give scan files to all segments that lack a good one; *made counts them. */
reco_status reco_bank_index_all(reco_ctx *ctx, const reco_bank_writer *w, size_t *made);

/* ---- search/scan.c ---- */

/* Rows of one segment: first is a multiple of 16, at most reco_scan_block_rows rows. */
typedef struct reco_scan_block {
    size_t segment, first, rows;
} reco_scan_block;
size_t reco_scan_block_rows(size_t d);

typedef struct reco_scan_opts {
    reco_side side;
    const reco_bank_filter *filter; /* NULL: all live rows */
    size_t k;
    float least; /* score that a hit must reach; -INFINITY: none */
    /* Where to look, each row at most once; blocks NULL: everywhere. A list of fewer blocks is what an approximate
     * index would give. */
    const reco_scan_block *blocks;
    size_t nblocks;
} reco_scan_opts;
/* The k best of those rows: position and score of each of nq queries [nq][k], counts [nq]. Scores are inner products
 * with the stored f16 rows in double, rounded to f32, equal ones by position: that does not depend on blocks, threads
 * or kernel. Scratch: about threads * (nq (12 k + 24) + 1 MiB). */
reco_status reco_bank_scan(reco_ctx *ctx, const reco_bank *bank, const reco_scan_opts *opts,
                           const float *queries, size_t nq, float *scores, int64_t *positions,
                           size_t *counts);

/* ---- rows.c ---- */

/* The segment of a position below bank->positions. */
size_t reco_bank_segment_at(const reco_bank *bank, size_t position);
/* Position of an id; false when the snapshot does not hold it. */
bool reco_bank_find(const reco_bank *bank, int64_t id, size_t *position);
static inline bool reco_bank_is_deleted(const reco_bank *bank, size_t position)
{
    return bank->deleted && (bank->deleted[position / 64] >> position % 64 & 1);
}
static inline int64_t reco_bank_id_at(const reco_bank *bank, size_t position)
{
    const reco_segment *s = &bank->segments[reco_bank_segment_at(bank, position)];
    return reco_segment_id(s, position - s->base);
}
/* [d] f16 at a position. *hint is a segment at or before it, updated: walking upwards costs nothing. */
static inline const uint16_t *reco_bank_row(const reco_bank *bank, reco_side side, size_t position,
                                            size_t *hint)
{
    const reco_segment *s = &bank->segments[*hint];
    while (position - s->base >= s->rows) s = &bank->segments[++*hint];
    return s->vectors[side] + (position - s->base) * bank->info.d;
}

/* ---- search/filter.c ---- */

struct reco_bank_filter {
    const reco_bank *bank;
    uint64_t *bits; /* [positions / 64 + 1], bit p: position p is in the set; never of a deleted row */
    size_t count;   /* bits that are set */
};
/* The empty set; the caller sets bits and count, and owns it. */
reco_status reco_bank_filter_new(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank);

/* ---- write/lock.c ---- */

/* The advisory lock of a bank's one writer, DIR/writer.lock: RECO_E_BUSY says who holds it. */
reco_status reco_bank_lock(reco_ctx *ctx, int *fd, const char *dir);
void reco_bank_unlock(int fd); /* -1 is fine */

/* ---- write/writer.c ---- */

struct reco_bank_writer {
    char *dir, *job; /* job NULL: nothing to remember */
    int lock;
    reco_catalog *catalog;
    size_t d;
    int64_t next_id, next_segment; /* after all that was appended */
    int64_t committed;             /* next_id of the last commit */
    int64_t first;                 /* id of the job's first row, committed by an earlier run or to come */
    bool keeps_first;              /* it has to be remembered: a build's is 0 */
    /* Rows on their way to a segment file, image then text: [room][d] f16 each. */
    uint16_t *held[2];
    size_t nheld, room;
    /* Those before, of the last of files, with room for as many. */
    reco_segment_job behind;
    size_t behind_room;
    /* Files written since the last commit. */
    reco_segment_list files;
    reco_status broken; /* what failed half-way, after which nothing more is written */
    bool commit_failed; /* its files may yet belong to the bank: leave them to the next writer */
};

/* Begin to write out the rows held. */
reco_status reco_bank_writer_flush(reco_ctx *ctx, reco_bank_writer *w);
/* Wait for what was begun. */
reco_status reco_bank_writer_join(reco_ctx *ctx, reco_bank_writer *w);
/* RECO_OK, or the refusal of a writer that failed before. */
reco_status reco_bank_writer_check(reco_ctx *ctx, const reco_bank_writer *w);

#endif
