#include "pipeline/pipeline_internal.h"

#include <time.h>

double reco_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Length of the UTF-8 sequence at s, 0 where there is none. */
static size_t sequence(const unsigned char *s, size_t left)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

json_t *reco_json_text(const char *text, size_t bytes)
{
    json_t *value = json_stringn(text, bytes);
    if (value) return value;
    char *clean = reco_alloc(NULL, bytes, 3, "string"), *to = clean;
    if (!clean) return NULL;
    for (size_t i = 0; i < bytes;) {
        size_t n = sequence((const unsigned char *)text + i, bytes - i);
        memcpy(to, n ? text + i : "\xef\xbf\xbd", n ? n : 3);
        to += n ? n : 3;
        i += n ? n : 1;
    }
    value = json_stringn(clean, (size_t)(to - clean));
    reco_free(clean);
    return value;
}

reco_status reco_write_json_line(reco_ctx *ctx, reco_file *file, json_t *value)
{
    char *line = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (!line) return reco_fail_nomem(ctx, 0, "JSON");
    reco_status status = reco_file_write(ctx, file, line, strlen(line));
    if (status == RECO_OK) status = reco_file_write(ctx, file, "\n", 1);
    reco_free(line);
    return status;
}
