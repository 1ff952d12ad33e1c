/* pipeline/sink_internal.h: shared by sink*.c. */
#ifndef RECO_SRC_SINK_INTERNAL_H
#define RECO_SRC_SINK_INTERNAL_H

#include "bank/bank.h"
#include "pipeline/sink.h"

/* What is to become of a record. */
typedef enum reco_sink_fate {
    RECO_SINK_FAIL,        /* reason says why */
    RECO_SINK_ADD,         /* a new row */
    RECO_SINK_PASS,        /* it is there already */
    RECO_SINK_CHANGE,      /* row id is to say this */
    RECO_SINK_COMPARE,     /* row id is the same picture, or was; only the vectors can tell */
    RECO_SINK_COMPARE_TEXT /* the same, of a row with another caption, which must not be of this picture */
} reco_sink_fate;

typedef struct reco_sink_entry {
    reco_pair_row row;
    uint64_t number; /* source record */
    char *reason;    /* what is wrong with it; NULL: nothing so far */
    char *resolved;  /* absolute path or URL; NULL: it has no URI */
    const char *base;
    unsigned char place[RECO_BANK_HASH], content[RECO_BANK_HASH];
    bool has_content;
    reco_sink_fate fate;
    int64_t id;
    bool new_image, new_text; /* of a change */
    bool quiet;               /* a change of nothing that a user would see */
    size_t leader;            /* the first entry of the batch that has this picture */
    size_t at;                /* of its text among those that are embedded */
} reco_sink_entry;

/* Pictures that were embedded lately: the bank has the vectors of older ones. */
typedef struct reco_sink_recent {
    unsigned char (*contents)[RECO_BANK_HASH]; /* [room] */
    float *vectors;                            /* [room][d] */
    size_t n, room, next;
} reco_sink_recent;

struct reco_sink {
    reco_sink_spec spec;
    reco_decoder *decoder;
    reco_bank_writer *writer;
    reco_dedup *dedup; /* NULL: near-duplicates are welcome */
    reco_failures failures;
    reco_stream_result *result;
    reco_sink_entry *entries; /* [size] */
    float *image, *text;      /* [size][d] */
    bool several;             /* captions of one picture */
    bool is_part;             /* of the source: it may come to nothing */
    bool shares;              /* vectors may be taken from the bank: they are known to be of this encoder */
    size_t size, n, d;
    size_t pictures, most_pictures; /* in the batch */
    size_t commit, uncommitted;     /* records between commits, and since the last one */
    size_t bytes;                   /* of the text of these */
    bool grows;                     /* the larger the bank, the more records between commits */
    size_t held;                    /* bytes of pictures in the rows */
    char *folder, *cwd;             /* of the source; where we are */
    int relative; /* relative URIs of embeddings are of: 0 not known yet, 1 folder, 2 cwd */
    reco_sink_recent recent;
    uint64_t next;
    bool done;
    bool keyed; /* a record had a value of the key */
};

/* Are pictures, or captions, embedded here? Else the rows bring their vectors. */
static inline bool reco_sink_embeds(const reco_sink *s, reco_side side)
{
    return s->spec.model && !s->spec.brings[side];
}
static inline bool reco_sink_has_place(const reco_sink_entry *e) { return e->resolved != NULL; }
/* As the bank takes it. Borrowed from e. */
reco_pair reco_sink_pair(const reco_sink_entry *e);
/* e fails, unless it did before. */
reco_status reco_sink_refuse(reco_ctx *ctx, reco_sink_entry *e, const char *reason);

/* ---- sink.c ---- */

void reco_sink_clear(reco_sink_entry *e);

/* ---- sink_place.c ---- */

/* Which picture e is of: base, resolved, place. */
reco_status reco_sink_locate(reco_ctx *ctx, reco_sink *s, reco_sink_entry *e);

/* ---- sink_judge.c ---- */

/* The fate of entry i, of which the picture's content is known where it could be read. */
reco_status reco_sink_judge(reco_ctx *ctx, reco_sink *s, size_t i);
/* The same of one that was to be compared, whose vector is in its slot. */
reco_status reco_sink_compare(reco_ctx *ctx, reco_sink *s, size_t i);

/* ---- sink_batch.c ---- */

/* The batch becomes rows, changes and failures. */
reco_status reco_sink_flush(reco_ctx *ctx, reco_sink *s);

#endif
