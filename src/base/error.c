#include "base/context.h"

#include <errno.h>
#include <stdio.h>

static void record(reco_ctx *ctx, const char *format, va_list args)
{
    char text[4 *
              RECO_ERROR_BYTES]; /* args may point into ctx->error; what is to be hidden is not to be cut */
    vsnprintf(text, sizeof text, format, args);
    reco_text_clean(text); /* one line for a person, whatever a hostile file is called */
    text[sizeof ctx->error - 1] = 0;
    strcpy(ctx->error, text);
}

reco_status reco_fail(reco_ctx *ctx, reco_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (ctx) record(ctx, format, args);
    va_end(args);
    return status;
}

reco_status reco_fail_prefix(reco_ctx *ctx, reco_status status, const char *prefix)
{
    return reco_fail(ctx, status, "%s: %s", prefix, ctx->error);
}

reco_status reco_fail_errno(reco_ctx *ctx, reco_status status, const char *format, ...)
{
    int error = errno;
    char text[4 * RECO_ERROR_BYTES], reason[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return reco_fail(ctx, status, "%s: %s", text, strerror_r(error, reason, sizeof reason));
}

reco_status reco_fail_nomem(reco_ctx *ctx, size_t bytes, const char *what)
{
    return reco_fail(ctx, RECO_E_NOMEM, "%s: out of memory (%zu bytes)", what, bytes);
}

void reco_log(reco_ctx *ctx, reco_log_level level, const char *format, ...)
{
    if (!ctx->opts.log) return;
    char text[4 * RECO_ERROR_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reco_text_clean(text);
    ctx->opts.log(ctx->opts.user, level, text);
}

const char *reco_status_name(reco_status status)
{
    switch (status) {
    case RECO_OK:
        return "RECO_OK";
    case RECO_E_ARG:
        return "RECO_E_ARG";
    case RECO_E_NOMEM:
        return "RECO_E_NOMEM";
    case RECO_E_IO:
        return "RECO_E_IO";
    case RECO_E_FORMAT:
        return "RECO_E_FORMAT";
    case RECO_E_MISMATCH:
        return "RECO_E_MISMATCH";
    case RECO_E_UNSUPPORTED:
        return "RECO_E_UNSUPPORTED";
    case RECO_E_NOTFOUND:
        return "RECO_E_NOTFOUND";
    case RECO_E_EXISTS:
        return "RECO_E_EXISTS";
    case RECO_E_BUSY:
        return "RECO_E_BUSY";
    case RECO_E_CANCELLED:
        return "RECO_E_CANCELLED";
    case RECO_E_INTERNAL:
        return "RECO_E_INTERNAL";
    }
    return "RECO_E_UNKNOWN";
}

reco_status reco_reserved_of(reco_ctx *ctx, const char *what, const uint64_t *reserved, size_t n)
{
    for (size_t i = 0; reserved && i < n; i++)
        if (reserved[i])
            return reco_fail(ctx, RECO_E_ARG,
                             "%s: options have reserved[%zu] = %llu, want 0: initialise options with {0}; "
                             "or were they made for a reco newer than " RECO_VERSION "?",
                             what, i, (unsigned long long)reserved[i]);
    return RECO_OK;
}
