#include "bank/postgres/pg.h"

#include <math.h>

#define INT8OID 20
#define NORM_TOLERANCE 1e-2

const char pg_side_names[2][6] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text"};

/* ---- as it is sent: big-endian ---- */

void pg_put16(unsigned char *to, uint16_t value)
{
    to[0] = (unsigned char)(value >> 8);
    to[1] = (unsigned char)value;
}

void pg_put32(unsigned char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(value >> (24 - 8 * i));
}

void pg_put64(unsigned char *to, uint64_t value)
{
    for (int i = 0; i < 8; i++) to[i] = (unsigned char)(value >> (56 - 8 * i));
}

static uint64_t get(const char *from, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | (unsigned char)from[i];
    return value;
}

static void put_float(unsigned char *to, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    pg_put32(to, bits);
}

size_t pg_put_vector(unsigned char *to, const float *x, bool half, size_t d)
{
    pg_put16(to, (uint16_t)d);
    pg_put16(to + 2, 0);
    for (size_t i = 0; i < d; i++)
        if (half)
            pg_put16(to + 4 + 2 * i, reco_f32_to_f16(x[i]));
        else
            put_float(to + 4 + 4 * i, x[i]);
    return 4 + (half ? 2 : 4) * d;
}

size_t pg_put_halves(unsigned char *to, const uint16_t *x, bool half, size_t d)
{
    pg_put16(to, (uint16_t)d);
    pg_put16(to + 2, 0);
    for (size_t i = 0; i < d; i++)
        if (half)
            pg_put16(to + 4 + 2 * i, x[i]);
        else
            put_float(to + 4 + 4 * i, reco_f16_to_f32(x[i]));
    return 4 + (half ? 2 : 4) * d;
}

size_t pg_put_ids(unsigned char *to, const int64_t *ids, size_t n)
{
    pg_put32(to, n ? 1 : 0); /* dimensions */
    pg_put32(to + 4, 0);     /* no NULLs */
    pg_put32(to + 8, INT8OID);
    if (n == 0) return 12;
    pg_put32(to + 12, (uint32_t)n);
    pg_put32(to + 16, 1);
    for (size_t i = 0; i < n; i++) {
        pg_put32(to + 20 + 12 * i, 8);
        pg_put64(to + 24 + 12 * i, (uint64_t)ids[i]);
    }
    return pg_ids_bytes(n);
}

void pg_text(pg_call *call, const char *text)
{
    call->values[call->n] = text;
    call->formats[call->n++] = 0;
}

void pg_bytes(pg_call *call, const void *bytes, size_t n)
{
    call->values[call->n] = bytes;
    call->lengths[call->n] = (int)n;
    call->formats[call->n++] = 1;
}

void pg_int(pg_call *call, int64_t *to, int64_t value)
{
    pg_put64((unsigned char *)to, (uint64_t)value);
    pg_bytes(call, to, sizeof *to);
}

/* ---- as it comes ---- */

int64_t pg_get_int(const PGresult *rows, int row, int column)
{
    if (PQgetisnull(rows, row, column)) return 0;
    int bytes = PQgetlength(rows, row, column);
    const char *at = PQgetvalue(rows, row, column);
    return bytes == 8   ? (int64_t)get(at, 8)
           : bytes == 4 ? (int32_t)(uint32_t)get(at, 4)
           : bytes == 2 ? (int16_t)(uint16_t)get(at, 2)
                        : 0;
}

bool pg_get_bool(const PGresult *rows, int row, int column)
{
    return PQgetlength(rows, row, column) == 1 && *PQgetvalue(rows, row, column) == 1;
}

const char *pg_get_text(const PGresult *rows, int row, int column)
{
    return PQgetisnull(rows, row, column) ? NULL : PQgetvalue(rows, row, column);
}

reco_status pg_get_vector(reco_ctx *ctx, const pg_shard *s, const PGresult *rows, int row, int column,
                          bool half, size_t d, float *out)
{
    size_t each = half ? 2 : 4;
    const char *from = PQgetvalue(rows, row, column);
    if (PQgetisnull(rows, row, column) || (size_t)PQgetlength(rows, row, column) != 4 + each * d ||
        get(from, 2) != d)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: row %lld has a vector of %d bytes, want width %zu",
                         s->label, (long long)pg_get_int(rows, row, 0), PQgetlength(rows, row, column), d);
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        uint32_t bits = (uint32_t)get(from + 4 + each * i, (int)each);
        if (half)
            out[i] = reco_f16_to_f32((uint16_t)bits);
        else {
            float x;
            memcpy(&x, &bits, sizeof x);
            out[i] = reco_f16_to_f32(reco_f32_to_f16(x));
        }
        sum += (double)out[i] * (double)out[i];
    }
    if (fabs(sqrt(sum) - 1) <= NORM_TOLERANCE) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT,
                     "%s: row %lld has a vector of norm %g, want 1; a view can return l2_normalize() of it",
                     s->label, (long long)pg_get_int(rows, row, 0), sqrt(sum));
}
