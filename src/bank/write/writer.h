/* bank/write/writer.h: writing rows into a bank. */
#ifndef RECO_SRC_BANK_WRITER_H
#define RECO_SRC_BANK_WRITER_H

#include "bank/bank.h"
#include "bank/segment/segment.h"

/* A vector that takes the place of another. */
typedef struct reco_bank_patch {
    int64_t id;
    reco_side side;
    size_t at; /* row of patch_vectors */
} reco_bank_patch;

/* What another kind of bank than a folder does to write. The functions of this folder have looked at the arguments, and set
 * w->broken to what append, change and commit return. */
typedef struct reco_writer_ops {
    /* x: [n][d] by reco_side, of norms [n][2]; counts up w->next_id. */
    reco_status (*append)(reco_ctx *ctx, reco_bank_writer *w, const float *const x[2], const double *norms,
                          const reco_pair *pairs, size_t n);
    reco_status (*change)(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const float *image,
                          const float *text);
    /* As the functions of the catalog of these names. */
    reco_status (*seek)(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const char *resolved,
                        bool any_caption, int64_t *id, unsigned char content[RECO_BANK_HASH],
                        bool *has_content, bool *has_others);
    reco_status (*touch)(reco_ctx *ctx, reco_bank_writer *w, int64_t id, bool *before);
    reco_status (*key_by)(reco_ctx *ctx, reco_bank_writer *w);
    reco_status (*seek_key)(reco_ctx *ctx, reco_bank_writer *w, const char *meta, bool *has, int64_t *id,
                            int64_t *count);
    reco_status (*add_key)(reco_ctx *ctx, reco_bank_writer *w, const char *meta);
    reco_status (*seek_content)(reco_ctx *ctx, reco_bank_writer *w,
                                const unsigned char content[RECO_BANK_HASH], int64_t *id);
    /* As the public functions of these names. */
    reco_status (*gather)(reco_ctx *ctx, reco_bank_writer *w, reco_side side, int64_t id, float *out);
    reco_status (*get)(reco_ctx *ctx, reco_bank_writer *w, int64_t id, reco_pair *out);
    reco_status (*commit)(reco_ctx *ctx, reco_bank_writer *w, uint64_t next, bool done);
    reco_status (*discard)(reco_ctx *ctx, reco_bank_writer *w);
    void (*close)(reco_bank_writer *w); /* frees w */
} reco_writer_ops;

struct reco_bank_writer {
    const reco_writer_ops *ops; /* NULL: of a folder, by the functions here */
    char *dir, *job;            /* job NULL: nothing to remember */
    char *key;                  /* JSON path of the column that rows are found by; NULL: none */
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
    int scans; /* the bank has scan files, as its first segment tells: 1 yes, -1 no, 0 not looked yet */
    /* Rows that are to change: what they say is staged in the catalog, their new vectors are here until the commit. */
    reco_bank *bank; /* as of the last commit; NULL: not needed so far */
    reco_bank_patch *patches;
    uint16_t *patch_vectors; /* [patch_room][d] f16 */
    size_t npatches, patch_room;
    bool changed;          /* something is staged */
    reco_segment_list old; /* segments that are written anew */
    reco_status broken;    /* what failed half-way, after which nothing more is written */
    bool commit_failed;    /* its files may yet belong to the bank: leave them to the next writer */
};

/* ---- append.c ---- */

/* Begin to write out the rows held. */
reco_status reco_bank_writer_flush(reco_ctx *ctx, reco_bank_writer *w);
/* Wait for what was begun. */
reco_status reco_bank_writer_join(reco_ctx *ctx, reco_bank_writer *w);

/* ---- writer.c ---- */

/* A folder that is there, or is made. */
reco_status reco_bank_make_folder(reco_ctx *ctx, const char *dir);
/* RECO_E_EXISTS when it has more than a build leaves that was cut off before its bank began. */
reco_status reco_bank_check_empty(reco_ctx *ctx, const char *dir);
/* DIR/vectors. */
reco_status reco_bank_make_vectors(reco_ctx *ctx, const char *dir);
/* RECO_OK, or the refusal of a writer that failed before. */
reco_status reco_bank_writer_check(reco_ctx *ctx, const reco_bank_writer *w);
reco_status reco_bank_check_spec(reco_ctx *ctx, const reco_bank_spec *spec);
/* The public function, of a folder. */
reco_status reco_folder_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *path,
                                    const reco_bank_spec *spec, const char *job, uint64_t *next, int *done);
/* RECO_OK when a build of spec may go on with the bank of info, which was built by the same job. */
reco_status reco_bank_check_same(reco_ctx *ctx, const char *dir, const reco_bank_spec *spec,
                                 const reco_bank_info *info, bool built);

/* ---- append.c ---- */

reco_status reco_bank_check_norm(reco_ctx *ctx, size_t row, reco_side side, const float *x, size_t d,
                                 double norm);
/* A row as it is stored: of unit norm, in halves. */
void reco_bank_round(uint16_t *to, const float *x, size_t d, double norm);

/* ---- change.c ---- */

/* Before the commit: write anew the segments whose rows get other vectors. */
reco_status reco_bank_rewrite_changed(reco_ctx *ctx, reco_bank_writer *w);
/* After it: what was changed is there, and the old files go. */
void reco_bank_changes_committed(reco_ctx *ctx, reco_bank_writer *w);

/* ---- index.c ---- */

/* Are the writer's new segments to have scan files? before: the next id at the last commit. */
bool reco_bank_wants_scan(reco_ctx *ctx, reco_bank_writer *w, int64_t before);
/* After a commit, in a bank of RECO_SCAN_DEFAULT_ROWS or more: give scan files to segments that lack one, where those
 * before have them. before: the next id before this commit. */
reco_status reco_bank_index_new(reco_ctx *ctx, reco_bank_writer *w, int64_t before);

/* Give scan files to all segments that have none, along no directions; *made counts them. */
reco_status reco_bank_index_missing(reco_ctx *ctx, const reco_bank_writer *w, size_t *made);

/* Give scan files to all segments that lack a good one; *made counts them. */
reco_status reco_bank_index_all(reco_ctx *ctx, const reco_bank_writer *w, size_t *made);

#endif
