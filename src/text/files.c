#include "text/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MOST ((off_t)128 << 20) /* XLM-V: 900,000 pieces */

reco_status reco_text_read(reco_ctx *ctx, char **out, size_t *bytes, const char *path)
{
    reco_status status = RECO_OK;
    struct stat st;
    char *data = NULL;
    size_t done = 0;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return RECO_OK;
    if (fd < 0) return reco_fail_errno(ctx, RECO_E_IO, "%s: cannot open", path);
    if (fstat(fd, &st) != 0) {
        status = reco_fail_errno(ctx, RECO_E_IO, "%s: cannot read", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = reco_fail(ctx, RECO_E_IO, "%s: is %s, want a file", path,
                           S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    } else if (st.st_size > FILE_MOST) {
        status = reco_fail(ctx, RECO_E_NOMEM, "%s: %jd bytes, want at most %jd", path, (intmax_t)st.st_size,
                           (intmax_t)FILE_MOST);
    }
    if (status != RECO_OK) goto out;
    data = reco_alloc_raw(ctx, (size_t)st.st_size + 1, 1, path);
    if (!data) {
        status = RECO_E_NOMEM;
        goto out;
    }
    while (done < (size_t)st.st_size) {
        ssize_t got = read(fd, data + done, (size_t)st.st_size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            status = reco_fail_errno(ctx, RECO_E_IO, "%s: cannot read", path);
            goto out;
        }
        if (got == 0) break;
        done += (size_t)got;
    }
    data[done] = 0;
    const char *excuse = done ? reco_content_excuse(data, done) : NULL; /* there may be no merges */
    if (excuse) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: %s", path, excuse);
        goto out;
    }
    *bytes = done;
    *out = data;
    data = NULL;
out:
    reco_free(data);
    close(fd);
    return status;
}

/* Where transformers knows no length it writes model_max_length 1000000000000000019884624838656, which is more than
 * jansson holds. Whole numbers of more than 18 digits become 18 nines, at the same place of the file. */
static void shorten_integers(char *data, size_t bytes)
{
    bool quoted = false;
    for (size_t i = 0, end; i < bytes; i = end) {
        end = i + 1;
        if (data[i] == '"') quoted = !quoted;
        if (quoted && data[i] == '\\') end++;
        if (quoted || !strchr("+-.0123456789eE", data[i]) || !data[i]) continue;
        bool whole = data[i] == '-' || reco_is_digit(data[i]);
        for (; end < bytes && data[end] && strchr("+-.0123456789eE", data[end]); end++)
            whole = whole && reco_is_digit(data[end]);
        size_t begin = i + (data[i] == '-');
        if (!whole || end - begin <= 18) continue;
        memset(data + begin, '9', 18);
        memset(data + begin + 18, ' ', end - begin - 18);
    }
}

reco_status reco_text_json(reco_ctx *ctx, json_t **out, const char *path)
{
    char *data;
    size_t bytes = 0;
    json_error_t error;
    *out = NULL;
    RECO_TRY(reco_text_read(ctx, &data, &bytes, path));
    if (!data) return RECO_OK;
    size_t line, byte;
    const char *excess = reco_json_excess(data, bytes, &line, &byte);
    if (bytes == 0) {
        reco_free(data);
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s", path, reco_content_excuse("", 0));
    }
    if (excess) {
        reco_free(data);
        return reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: %s", path, line, excess);
    }
    *out = json_loadb(data, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!*out && json_error_code(&error) == json_error_numeric_overflow) {
        shorten_integers(data, bytes);
        *out = json_loadb(data, bytes, JSON_REJECT_DUPLICATES, &error);
    }
    reco_free(data);
    if (!*out)
        return reco_fail(ctx, RECO_E_FORMAT, "%s:%d: damaged JSON: %s", path, error.line, error.text);
    if (json_is_object(*out)) return RECO_OK;
    json_decref(*out);
    *out = NULL;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: want a JSON object", path);
}
