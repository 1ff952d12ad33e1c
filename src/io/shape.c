#include "io/internal.h"

void reco_io_shape_text(char out[RECO_IO_SHAPE_TEXT], size_t rank, const size_t *shape, bool any)
{
    char *end = out;
    *end++ = '[';
    for (size_t i = 0; i < rank; i++) {
        if (i) *end++ = ',';
        if (any && shape[i] == 0)
            *end++ = '*';
        else
            end += snprintf(end, 21, "%zu", shape[i]);
    }
    memcpy(end, "]", 2);
}

bool reco_io_shape_count(size_t rank, const size_t *shape, size_t *count)
{
    *count = 1;
    for (size_t i = 0; i < rank; i++)
        if (!reco_mul(*count, shape[i], count)) return false;
    return true;
}
