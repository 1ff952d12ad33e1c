/* io/internal.h: what the files of io/ share. */
#ifndef RECO_SRC_IO_INTERNAL_H
#define RECO_SRC_IO_INTERNAL_H

#include "io/io.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are little-endian and read in place");

/* open.c */
/* Open for reading. Directories are refused, and with `regular` whatever else is not a plain file; bytes may
 * be NULL. */
reco_status reco_io_open(reco_ctx *ctx, int *fd, size_t *bytes, const char *path, bool regular);
/* One read that survives signals: *got 0 is the end. */
reco_status reco_io_read(reco_ctx *ctx, int fd, void *out, size_t bytes, size_t *got, const char *path);

/* atomic.c: make commit refuse a file of another length. */
void reco_io_file_expect(reco_file *file, uint64_t bytes);

/* json.c: RECO_E_FORMAT or RECO_E_NOMEM with the reason, and the line and byte where it was met. */
typedef struct reco_io_json_error {
    size_t line, byte;
    char reason[200];
} reco_io_json_error;
reco_status reco_io_json_parse(json_t **out, const char *text, size_t bytes, reco_io_json_error *error);
/* Why jansson gave no string for this text: false, it is not UTF-8; true, there was no memory. */
bool reco_io_is_utf8(const char *text, size_t bytes);

/* convert.c: n elements of F32, F16, BF16 or F64 from any alignment. */
void reco_io_to_f32(float *out, reco_dtype dtype, const void *data, size_t n);

/* safetensors: limits of the reference implementation and of reco_tensor */
#define RECO_IO_MAX_HEADER 100000000u
#define RECO_IO_MAX_RANK 8

/* shape.c */
#define RECO_IO_SHAPE_TEXT 192
/* "[3,4]"; with `any`, 0 is written as "*". rank is at most RECO_IO_MAX_RANK. */
void reco_io_shape_text(char out[RECO_IO_SHAPE_TEXT], size_t rank, const size_t *shape, bool any);
bool reco_io_shape_count(size_t rank, const size_t *shape, size_t *count); /* false: overflow */

/* csv.c: the fields of one record, quotes undone. */
typedef struct reco_io_dialect {
    char separator;
    bool quotes;  /* a field that begins with a quote ends with one, and "" inside stands for one */
    bool escapes; /* a backslash takes its meaning from a quote, a separator or a backslash behind it */
    bool trims;   /* blanks before a field are not of it */
    size_t max_lines;
} reco_io_dialect;

typedef struct reco_io_field {
    size_t start, bytes;
    bool quoted;
} reco_io_field;

typedef struct reco_io_csv {
    reco_io_dialect dialect;
    size_t most; /* fields of a good record of several lines; 0: any number */
    char *text;  /* of all fields, each followed by a NUL */
    size_t used, room;
    reco_io_field *fields; /* [n] */
    size_t n, field_room;
    uint64_t line, lines; /* where the record began, how many it has */
    size_t bytes;         /* of the file, behind blank lines */
    bool gap;             /* blank lines stood before a record, ever */
    bool odd;             /* text follows a closing quote; it is taken as pandas takes it */
    bool escaped;         /* a backslash stood before a quote or a separator, ever */
    char bad[160];
} reco_io_csv;
#define RECO_IO_MAX_RECORD ((size_t)16 << 20)
struct reco_window;
/* The next record; lines of nothing but blanks and NULs are passed over. n is 0 at the end. *bad is NULL for a good record,
 * else a reason, and no more than the record's first line was taken. */
reco_status reco_io_csv_next(reco_ctx *ctx, struct reco_window *w, reco_io_csv *csv, const char **bad);
/* The same, but the window stays at the record. */
reco_status reco_io_csv_look(reco_ctx *ctx, struct reco_window *w, reco_io_csv *csv, const char **bad);
/* Fields of the record, but for empty ones at the end that are more than csv->most. */
size_t reco_io_csv_filled(const reco_io_csv *csv);
const char *reco_io_csv_field(const reco_io_csv *csv, size_t i, size_t *bytes);
void reco_io_csv_free(reco_io_csv *csv);
/* Pass over one line; *bytes says how long it was with its end. */
reco_status reco_io_skip_line(reco_ctx *ctx, struct reco_window *w, size_t *bytes);

/* number.c: the number that a text is, as JSON writes numbers; NULL where it is none, or has more digits than an int64 or a
 * double keep. With `any` also what people write: 007, +5, .5, and digits that get lost. RECO_E_NOMEM alone is an error. */
json_t *reco_io_number(const char *text, size_t bytes, bool any);

/* json_record.c: the text of one JSON object of many, whether they stand one a line, over several, or in an array. */
typedef struct reco_io_json_text {
    bool begun, array; /* the file is one array of objects */
    bool gap;          /* blank lines stood before a record, ever */
    uint64_t line;     /* where it began */
    const char *text;  /* valid until the next; NULL: the end */
    size_t bytes;
    size_t max_lines;
    bool broken; /* not an object, or never closed: text is its first line, and no more was taken */
} reco_io_json_text;
reco_status reco_io_json_next(reco_ctx *ctx, struct reco_window *w, reco_io_json_text *json);

/* json_repair.c: an object of the user's, read as it can be. */
typedef struct reco_io_json_losses {
    uint64_t dropped;  /* keys whose values no JSON has (NaN), or that were there twice */
    uint64_t repaired; /* strings that got U+FFFD for a lone surrogate or a NUL */
    bool not_utf8;     /* bytes that are not UTF-8 became U+FFFD, too */
} reco_io_json_losses;
reco_status reco_io_json_read(json_t **out, const char *text, size_t bytes, reco_io_json_losses *losses,
                              reco_io_json_error *error);

/* table.c: a CSV, its header read. */
typedef enum reco_io_type {
    RECO_IO_TEXT,
    RECO_IO_NUMBER, /* every value is one, or there is none */
    RECO_IO_TOLD,   /* --types says so: what is none stays text */
    RECO_IO_SCALAR  /* its name alone is in quotes: a value in quotes is text, others are JSON */
} reco_io_type;
typedef struct reco_io_column {
    char *name;
    bool skipped; /* has no name, and no value or the row's number */
    bool means;   /* of images, captions or labels: a value that can't be text costs the row */
    bool text;    /* the best of its kind: always text */
    bool marked;  /* its name is in quotes, without need, and others are not */
    reco_io_type type;
} reco_io_column;
typedef struct reco_io_table {
    const char *path;
    const reco_table_opts *opts;
    struct reco_window *window; /* behind the header */
    reco_io_csv csv;
    char own;                /* the separator that the name's ending suggests */
    reco_io_column *columns; /* [n] */
    size_t n, quoted_names;
} reco_io_table;
/* Reads the header, and the whole file once (scan.c) for what the options leave to it. Close it whatever this returns. */
reco_status reco_io_table_open(reco_ctx *ctx, reco_io_table *t, const char *path, char own,
                               const reco_table_opts *opts);
/* To the first row again. */
reco_status reco_io_table_rewind(reco_ctx *ctx, reco_io_table *t);
/* Every row has a field more than there are names: its first is the row's own name, as R writes it. */
reco_status reco_io_table_name_rows(reco_ctx *ctx, reco_io_table *t);
void reco_io_table_close(reco_io_table *t);
/* scan.c: quotes, escapes and types, as the rows show them. */
reco_status reco_io_table_scan(reco_ctx *ctx, reco_io_table *t);

#endif
