/* Downloads from a URL that an unknown client gave. */
#include "fetch/internal.h"

#include <stdlib.h>

enum { MOST_URL = 2048, SECONDS = 10, MOST_BYTES = 32 << 20 };

reco_status reco_download_near(reco_ctx *ctx, const char *url, const reco_download_opts *opts, bool nearby,
                               unsigned char **data, size_t *bytes)
{
    size_t scheme = strcspn(url, ":"), most = opts->max_bytes ? opts->max_bytes : MOST_BYTES;
    double seconds = opts->seconds > 0 ? opts->seconds : SECONDS;
    reco_fetch *f = NULL;
    reco_fetch_answer answer;
    char *text = NULL, *endpoint = NULL;
    *data = NULL;
    *bytes = 0;
    RECO_TRY(reco_reserved(ctx, "download", opts->reserved));
    if (strlen(url) > MOST_URL || strncmp(url + scheme, "://", 3) != 0)
        return reco_fail(ctx, RECO_E_ARG, "\"%.60s\" is not a URL of at most %d bytes", url, MOST_URL);
    endpoint = reco_format(ctx, "%.*s", (int)(scheme + 3 + strcspn(url + scheme + 3, "/?#")), url);
    if (!endpoint) return RECO_E_NOMEM;
    reco_fetch_opts fetch = {.endpoint = endpoint,
                             .stall = (unsigned)seconds + 1,
                             .guard = {.hosts = opts->hosts,
                                       .nhosts = opts->nhosts,
                                       .on = true,
                                       .nearby = nearby,
                                       .until = reco_now() + seconds}};
    reco_status status = reco_fetch_open(ctx, &f, &fetch);
    if (status == RECO_OK) status = reco_fetch_text(ctx, f, url, &text, bytes, most, &answer);
    if (status == RECO_OK && !text)
        status = reco_fail(ctx, RECO_E_NOTFOUND, "%.200s: HTTP %ld", url, answer.http);
    reco_fetch_close(f);
    reco_free(endpoint);
    *data = (unsigned char *)text;
    return status;
}

reco_status reco_download(reco_ctx *ctx, const char *url, const reco_download_opts *opts,
                          unsigned char **data, size_t *bytes)
{
    return reco_download_near(ctx, url, opts, false, data, bytes);
}
