/* bank/catalog/sqlite.h: shared by the files of this folder. */
#ifndef RECO_SRC_BANK_CATALOG_SQLITE_H
#define RECO_SRC_BANK_CATALOG_SQLITE_H

#include "bank/catalog/catalog.h"

#include <pthread.h>
#include <sqlite3.h>

typedef enum reco_sql {
    RECO_SQL_HAS,
    RECO_SQL_INFO,
    RECO_SQL_SEGMENTS,
    RECO_SQL_DELETED,
    RECO_SQL_RANGE,
    RECO_SQL_PAIR,
    RECO_SQL_JOB,
    RECO_SQL_IS_OBJECT,
    RECO_SQL_STAGE,
    RECO_SQL_STAGE_CHANGE,
    RECO_SQL_SEEK,
    RECO_SQL_SEEK_PICTURE,
    RECO_SQL_TOUCH,
    RECO_SQL_KEY_ROWS,
    RECO_SQL_SEEK_KEY,
    RECO_SQL_ADD_KEY,
    RECO_SQL_SEEK_UNPLACED,
    RECO_SQL_SEEK_CONTENT,
    RECO_SQL_SOURCE,
    RECO_SQL_STAGE_SOURCE,
    RECO_SQL_PUBLISH_SOURCES,
    RECO_SQL_PUBLISH_CHANGES,
    RECO_SQL_PUBLISH,
    RECO_SQL_COUNT_STAGED,
    RECO_SQL_RESERVE,
    RECO_SQL_FILL,
    RECO_SQL_ADD_SEGMENT,
    RECO_SQL_ADVANCE,
    RECO_SQL_SAVE_JOB,
    RECO_SQL_DROP_JOB,
    RECO_SQL_PICK_ID,
    RECO_SQL_PICK_URI,
    RECO_SQL_PICK_DELETED,
    RECO_SQL_FIND_DOUBLES,
    RECO_SQL_DOUBLED,
    RECO_SQL_PICKED,
    RECO_SQL_MARK_PICKED,
    RECO_SQL_COUNT_DELETED,
    RECO_SQL_PUBLISH_BLOCKS,
    RECO_SQL_STAGE_BLOCK,
    RECO_SQL_SEALED_BANK,
    RECO_SQL_SEALED_SEGMENTS,
    RECO_SQL_SEALED_JOBS,
    RECO_SQL_SEALED_SOURCES,
    RECO_SQL_SEAL,
    RECO_SQL_RESEAL,
    RECO_SQL_DROP_SEGMENT,
    RECO_SQL_DROP_BLOCK,
    RECO_SQL_DROP_DELETED,
    RECO_SQL_NONE_DELETED,
    RECO_SQL_BLOCK,
    RECO_SQL_PAIRS,
    RECO_SQL_INTEGRITY,
    RECO_SQL_PUT,
    RECO_SQL_PUT_MANY,
    RECO_SQL_MERGE_STATE,
    RECO_SQL_MERGE_SAVE,
    RECO_SQL_MERGE_JOBS,
    RECO_SQL_MERGE_ADD_JOB,
    RECO_SQL_MERGE_NAMELESS,
    RECO_SQL_MERGE_PLACES,
    RECO_SQL_MERGE_OF_PLACE,
    RECO_SQL_MERGE_URIS,
    RECO_SQL_MERGE_OF_URI,
    RECO_SQL_MERGE_DROP,
    RECO_SQL_MERGE_DROPPED,
    RECO_SQL_MERGE_REFUSED,
    RECO_SQL_MERGE_COUNTS,
    RECO_SQL_COUNT /* how many there are */
} reco_sql;

/* What a condition that runs may still use up (where.c). */
typedef struct reco_where_guard {
    reco_ctx *ctx;
    struct reco_where_text *text; /* the condition (where_text.h) */
    char refused[200];            /* why it was stopped */
    char missing[200];            /* a column that the table does not have; "": none */
    reco_status stopped;
    uint64_t steps, most_steps;
    double deadline, asked;
    int most_bytes; /* of a value */
} reco_where_guard;

struct reco_catalog {
    sqlite3 *db;
    char *file;       /* for messages */
    char *place;      /* of the file as it was asked for: a link on the way may come to lead elsewhere, */
    uint64_t node[2]; /* than to this device and inode */
    int format;       /* of the database, 1..RECO_CATALOG_FORMAT */
    bool has_indexed; /* staged rows have indexes */
    bool is_indexed;  /* the bank has those for writers */
    char *base;       /* of source number source, which was asked for last; NULL: none yet */
    int64_t source;
    bool has_where;          /* the connection has the functions of where_functions.c */
    reco_where_guard *guard; /* of the condition that runs; NULL: none */
    uint64_t said;           /* hash of the condition whose doubts were told last; 0: none */
    sqlite3_stmt *statements[RECO_SQL_COUNT];
    pthread_mutex_t turn; /* of who reads a row or runs a condition */
    /* Of one opened for reading: a connection without a transaction, and what it said when ours began. NULL: nobody writes there. */
    sqlite3 *watch;
    sqlite3_stmt *version;
    int64_t seen;
};

/* Ending of the key under which an unfinished job remembers the id of its first row. */
#define RECO_JOB_FIRST ":first"

/* schema.c */
#define RECO_SQLITE_APPLICATION 0x5245434f /* "RECO" */
typedef struct reco_sql_text {
    int first, last; /* formats that have it */
    const char *sql; /* NULL: the end */
} reco_sql_text;
extern const reco_sql_text reco_catalog_schema[];
/* What takes the place of statement `first` where the bank is older than format 3. */
extern const reco_sql_text reco_catalog_old_sql[];
extern const char *const reco_catalog_sql[RECO_SQL_COUNT];

/* open.c */
reco_status reco_catalog_new(reco_ctx *ctx, reco_catalog **out);
reco_status reco_catalog_connect(reco_ctx *ctx, reco_catalog *c, const char *name, int flags);
void reco_catalog_disconnect(reco_catalog *c);
/* RECO_E_FORMAT for a link or anything else that is no file of its own. */
reco_status reco_catalog_check_file(reco_ctx *ctx, const char *file, const char *ending, bool may_exist);
/* An empty bank's tables in c, which is connected to an empty file; indexes where asked for. In WAL mode afterwards. */
reco_status reco_catalog_fill(reco_ctx *ctx, reco_catalog *c, const reco_bank_spec *spec, const char *job,
                              bool indexes);
/* Remove DIR/bank.sqlite.tmp and what SQLite puts beside it; *file: its path, to be freed. */
reco_status reco_catalog_clear(reco_ctx *ctx, const char *folder, char **file);
reco_status reco_catalog_prepare_to_write(reco_ctx *ctx, reco_catalog *c);

/* write.c */
#define RECO_PAIR_VALUES 8 /* that a statement which writes a pair is given */
#define RECO_PUT_PAIRS 32  /* in one statement, whose begin and end cost more than a row */

/* statement.c */
/* The connection's last error, as ours, with the file's name. */
reco_status reco_catalog_fail(reco_ctx *ctx, reco_catalog *c);
/* Statement `which`, prepared at its first use, reset and with nothing bound. */
reco_status reco_catalog_prepare(reco_ctx *ctx, reco_catalog *c, reco_sql which, sqlite3_stmt **out);
/* Run to the next row: *row tells whether there is one. A statement without a next row has been reset. */
reco_status reco_catalog_step(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, bool *row);
/* Run a statement that gives no rows. */
reco_status reco_catalog_run(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s);
reco_status reco_catalog_exec(reco_ctx *ctx, reco_catalog *c, const char *sql);
/* Column of the current row, refused when it is no integer of lo..hi. `what` names it, as in "bank.d". */
reco_status reco_catalog_int(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int column, const char *what,
                             int64_t lo, int64_t hi, int64_t *out);
/* Text without NUL inside, of less than `room` bytes, copied to out. */
reco_status reco_catalog_text(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int column, const char *what,
                              size_t room, char *out);

/* where_functions.c */
/* Its time is up, or the user wants it to stop: g->refused or g->stopped says so. */
bool reco_where_late(reco_where_guard *g);
/* Give the connection reco_guard and reco_note, which look at c->guard. */
reco_status reco_where_functions(reco_ctx *ctx, reco_catalog *c);

/* delete.c */
/* Integers of a statement that takes `from` and `max`. */
reco_status reco_catalog_list(reco_ctx *ctx, reco_catalog *c, reco_sql which, int64_t from, size_t max,
                              int64_t *ids, size_t *n);

/* indexes.c */
/* Does this statement make an index that only writers use? A bank may lack it until a writer needs it. */
bool reco_catalog_is_for_writers(const char *sql);
/* Does the schema have this statement, letter by letter? */
reco_status reco_catalog_has(reco_ctx *ctx, reco_catalog *c, const char *sql, bool *has);
/* Make the index of pairs of this name, unless it is there. */
reco_status reco_catalog_index(reco_ctx *ctx, reco_catalog *c, const char *name);
/* Make those for writers, unless they are there: a merged bank gets them when they are needed first. */
reco_status reco_catalog_index_for_writers(reco_ctx *ctx, reco_catalog *c);
/* Within a transaction: add what is staged to a bank that then has so many rows. */
reco_status reco_catalog_publish_pairs(reco_ctx *ctx, reco_catalog *c, int64_t rows);

/* read.c */
/* Caption, uri, meta, base, place and content, the first six columns of the current row; free with reco_pair_free. */
reco_status reco_catalog_copy_pair(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, reco_pair *pair);
/* The same of a live or a deleted pair, if columns 7 and 8, sum and source, say that its bytes are those that were written. */
reco_status reco_catalog_copy_checked(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, bool deleted,
                                      reco_pair *pair);

/* merge_read.c */
/* Live pairs of a catalog that nobody else uses meanwhile, in order of id, their checksums verified; a thread reads ahead. */
typedef struct reco_pair_reader reco_pair_reader;
reco_status reco_pair_reader_open(reco_ctx *ctx, reco_pair_reader **out, reco_catalog *from);
/* Some more; none after the last. The pairs are the reader's, until the next call; their ids may be changed. */
reco_status reco_pair_reader_next(reco_ctx *ctx, reco_pair_reader *r, reco_pair **pairs, size_t *n);
void reco_pair_reader_close(reco_pair_reader *r);

/* seal.c */
/* End a transaction: commit when all went well, else take everything back; returns the first error. What changes the
 * bank's own tables gets a new seal here, so every change must end here. */
reco_status reco_catalog_end(reco_ctx *ctx, reco_catalog *c, reco_status status);
/* Make the checksum of bank, segment and job that of their rows as they are now, within the caller's transaction. */
reco_status reco_catalog_reseal(reco_ctx *ctx, reco_catalog *c);
reco_status reco_catalog_upgrade(reco_ctx *ctx, reco_catalog *c);

/* Checksum of a live pair; a deleted one stores its complement. source: of the row; -1: none. */
int64_t reco_catalog_sum(const reco_pair *pair, int64_t source);

#endif
