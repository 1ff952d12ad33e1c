/* fixture.h: a context and an empty folder for each group of tests. */
#ifndef RECO_TEST_IO_FIXTURE_H
#define RECO_TEST_IO_FIXTURE_H

#include "io/internal.h"

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static reco_ctx *ctx;
static char root[4096], logged[2048];

static void keep_log(void *user, reco_log_level level, const char *message)
{
    (void)user;
    (void)level;
    snprintf(logged, sizeof logged, "%s", message);
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/reco-io-XXXXXX", base ? base : "/tmp");
    reco_ctx_opts opts = {.threads = 1, .log = keep_log};
    return !mkdtemp(root) || reco_ctx_create(&ctx, &opts) != RECO_OK;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    reco_ctx_free(ctx);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Path of name in the folder; good for eight calls. */
static const char *at(const char *name)
{
    static char paths[8][8192];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static const char *put(const char *name, const void *data, size_t bytes)
{
    const char *path = at(name);
    unlink(path); /* some file systems flush what is truncated and written again */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline const char *put_text(const char *name, const char *text)
{
    return put(name, text, strlen(text));
}

#define OK(expr)                                                                                           \
    do {                                                                                                   \
        reco_status met = (expr);                                                                          \
        if (met != RECO_OK) fail_msg("%s: %s: %s", #expr, reco_status_name(met), reco_ctx_error(ctx));     \
    } while (0)

/* The call failed so, and its message holds text. */
static void failed(reco_status met, reco_status want, const char *text)
{
    if (met != want || !strstr(reco_ctx_error(ctx), text))
        fail_msg("%s \"%s\", want %s \"...%s...\"", reco_status_name(met), reco_ctx_error(ctx),
                 reco_status_name(want), text);
}

static inline void holds(const char *path, const char *want)
{
    char *text;
    size_t bytes;
    OK(reco_read_file(ctx, &text, &bytes, path, 1 << 20));
    assert_string_equal(text, want);
    assert_int_equal(bytes, strlen(want));
    reco_free(text);
}

/* Entries of a folder, dot files included. */
static inline size_t entries(const char *dir)
{
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    size_t n = 0;
    while (readdir(stream)) n++;
    closedir(stream);
    return n - 2;
}

#endif
