#include "base/base.h"
#include "reco/text.h"

char *reco_text_repair(const char *text, size_t bytes, size_t *errors)
{
    size_t bad = reco_utf8_errors(text, bytes), room;
    if (errors) *errors = bad;
    /* Each of the bad takes a byte at least and becomes three. */
    if (!reco_mul(bad, 2, &room) || !reco_add(room, bytes, &room) || !reco_add(room, 1, &room)) return NULL;
    char *out = reco_alloc(NULL, room, 1, "text"), *to = out;
    if (!out) return NULL;
    for (size_t i = 0, n; i < bytes; i += n) {
        bool good = reco_utf8_next((const uint8_t *)text + i, bytes - i, &n) >= 0;
        memcpy(to, good ? text + i : "\xef\xbf\xbd", good ? n : 3);
        to += good ? n : 3;
    }
    *to = 0;
    return out;
}
