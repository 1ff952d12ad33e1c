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

/* lines.c: lines of up to max bytes; *line NULL at the end; *end is the length of the "\n" or "\r\n" that follows the line in memory,
 * 0 at the end of a file that lacks it. */
reco_status reco_io_lines_open(reco_ctx *ctx, reco_lines **out, const char *path, size_t max);
reco_status reco_io_lines_raw(reco_ctx *ctx, reco_lines *lines, char **line, size_t *bytes, size_t *end);
/* The same for the next line that is not empty; with `trims`, after leading spaces and tabs. *gap is set where empty ones
 * stood before it, else left. */
reco_status reco_io_lines_filled(reco_ctx *ctx, reco_lines *lines, bool trims, char **line, size_t *bytes,
                                 size_t *end, bool *gap);
uint64_t reco_io_lines_number(const reco_lines *lines); /* of the last line, from 1 */
const char *reco_io_lines_path(const reco_lines *lines);

/* csv.c: the fields of one record, quotes undone; zero but for the separator to begin with. */
typedef struct reco_io_csv {
    char separator;
    char *text; /* each field followed by a NUL */
    size_t used, room;
    size_t *start; /* [n] offsets into text */
    size_t n, start_room;
    uint64_t line; /* where the record began */
    bool gap;      /* blank lines stood before a record */
} reco_io_csv;
#define RECO_IO_MAX_RECORD ((size_t)16 << 20)
/* Blank lines are passed over. n is 0 at the end; *bad is a static text, NULL for a good record. */
reco_status reco_io_csv_next(reco_ctx *ctx, reco_lines *lines, reco_io_csv *csv, const char **bad);
const char *reco_io_csv_field(const reco_io_csv *csv, size_t i, size_t *bytes);
void reco_io_csv_free(reco_io_csv *csv);

#endif
