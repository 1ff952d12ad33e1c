/* hook.c: system calls that fail or kill at a chosen moment. Linked into a test, or preloaded:
 *   LD_PRELOAD=libreco-crash.so RECO_CRASH=write:12:kill reco bank add ...
 *   LD_PRELOAD=libreco-crash.so RECO_CRASH=write:0:fail-on:28 reco bank add ...      (28: ENOSPC)
 * The C library's own calls among its functions (fopen, opendir) do not pass through here. */
#undef _FILE_OFFSET_BITS /* both names of each call are to be defined */
#include "hook.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const hook_names[HOOK_CALLS] = {"write", "read",     "sync",   "rename", "mmap",
                                            "open",  "truncate", "unlink", "mkdir",  "malloc"};

static atomic_long counts[HOOK_CALLS];
static hook_call armed_call;
static long armed_at;
static hook_action armed_action;
static int armed_error;
static atomic_int armed, fired, recording;
static char log_text[1 << 20];
static atomic_size_t log_used;

void hook_arm(hook_call call, long n, hook_action action, int error)
{
    for (int i = 0; i < HOOK_CALLS; i++) counts[i] = 0;
    armed_call = call;
    armed_at = n;
    armed_action = action;
    armed_error = error;
    fired = 0;
    armed = 1;
}

void hook_disarm(void) { armed = recording = 0; }
long hook_count(hook_call call) { return counts[call]; }
int hook_fired(void) { return fired; }

void hook_record(void)
{
    log_used = 0;
    log_text[0] = 0;
    recording = 1;
}

const char *hook_log(void) { return log_text; }

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

/* Is this the call that goes wrong? errno is set; a process that dies does so in the caller's hands. */
static hook_action meet(hook_call call)
{
    if (!armed) return HOOK_NONE;
    long n = counts[call]++;
    if (call != armed_call || n < armed_at || (n > armed_at && armed_action != HOOK_FAIL_ON))
        return HOOK_NONE;
    fired = 1;
    errno = armed_error;
    return armed_action;
}

static void note(const char *what, const char *a, const char *b)
{
    if (!recording) return;
    size_t room = sizeof log_text - log_used;
    int n = snprintf(log_text + log_used, room, "%s %s%s%s\n", what, a, *b ? " " : "", b);
    if (n > 0 && (size_t)n < room) log_used += (size_t)n;
}

static void note_fd(const char *what, int fd)
{
    char link[64], path[512];
    if (!recording) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    note(what, path, "");
}

#define REAL(type, name)                                                                                   \
    static __typeof__(type) real;                                                                          \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

#define FAULT(call)                                                                                        \
    switch (meet(call)) {                                                                                  \
    case HOOK_KILL:                                                                                        \
        die();                                                                                             \
        return -1;                                                                                         \
    case HOOK_FAIL:                                                                                        \
    case HOOK_FAIL_ON:                                                                                     \
        return -1;                                                                                         \
    default:                                                                                               \
        break;                                                                                             \
    }

/* ---- writing and reading ---- */

ssize_t write(int fd, const void *data, size_t bytes)
{
    REAL(ssize_t(*)(int, const void *, size_t), "write");
    hook_action action = meet(HOOK_WRITE);
    if (action == HOOK_KILL) {
        real(fd, data, bytes / 2);
        die();
    }
    if (action != HOOK_NONE) return -1;
    note_fd("write", fd);
    return real(fd, data, bytes);
}

#define PWRITE(name)                                                                                       \
    ssize_t name(int fd, const void *data, size_t bytes, off_t offset)                                     \
    {                                                                                                      \
        REAL(ssize_t (*)(int, const void *, size_t, off_t), #name);                                        \
        hook_action action = meet(HOOK_WRITE);                                                             \
        if (action == HOOK_KILL) {                                                                         \
            real(fd, data, bytes / 2, offset);                                                             \
            die();                                                                                         \
        }                                                                                                  \
        if (action != HOOK_NONE) return -1;                                                                \
        note_fd("write", fd);                                                                              \
        return real(fd, data, bytes, offset);                                                              \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PREAD(name)                                                                                        \
    ssize_t name(int fd, void *data, size_t bytes, off_t offset)                                           \
    {                                                                                                      \
        REAL(ssize_t (*)(int, void *, size_t, off_t), #name);                                              \
        FAULT(HOOK_READ)                                                                                   \
        return real(fd, data, bytes, offset);                                                              \
    }
PREAD(pread)
PREAD(pread64)

ssize_t read(int fd, void *data, size_t bytes)
{
    REAL(ssize_t(*)(int, void *, size_t), "read");
    FAULT(HOOK_READ)
    return real(fd, data, bytes);
}

#define SYNC(name)                                                                                         \
    int name(int fd)                                                                                       \
    {                                                                                                      \
        REAL(int (*)(int), #name);                                                                         \
        FAULT(HOOK_SYNC)                                                                                   \
        note_fd("sync", fd);                                                                               \
        return real(fd);                                                                                   \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name)                                                                                     \
    int name(int fd, off_t bytes)                                                                          \
    {                                                                                                      \
        REAL(int (*)(int, off_t), #name);                                                                  \
        FAULT(HOOK_TRUNCATE)                                                                               \
        note_fd("truncate", fd);                                                                           \
        return real(fd, bytes);                                                                            \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define MMAP(name)                                                                                         \
    void *name(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)                    \
    {                                                                                                      \
        REAL(void *(*)(void *, size_t, int, int, int, off_t), #name);                                      \
        hook_action action = fd >= 0 ? meet(HOOK_MMAP) : HOOK_NONE;                                        \
        if (action == HOOK_KILL) die();                                                                    \
        if (action != HOOK_NONE) return MAP_FAILED;                                                        \
        return real(at, bytes, protection, flags, fd, offset);                                             \
    }
MMAP(mmap)
MMAP(mmap64)

/* ---- names ---- */

int rename(const char *old, const char *new)
{
    REAL(int (*)(const char *, const char *), "rename");
    FAULT(HOOK_RENAME)
    note("rename", old, new);
    return real(old, new);
}

int unlink(const char *path)
{
    REAL(int (*)(const char *), "unlink");
    FAULT(HOOK_UNLINK)
    note("unlink", path, "");
    return real(path);
}

int unlinkat(int fd, const char *path, int flags)
{
    REAL(int (*)(int, const char *, int), "unlinkat");
    FAULT(HOOK_UNLINK)
    note("unlink", path, "");
    return real(fd, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int (*)(const char *, mode_t), "mkdir");
    FAULT(HOOK_MKDIR)
    return real(path, mode);
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(args, int) : 0;
}

#define OPEN(name)                                                                                         \
    int name(const char *path, int flags, ...)                                                             \
    {                                                                                                      \
        REAL(int (*)(const char *, int, ...), #name);                                                      \
        va_list args;                                                                                      \
        va_start(args, flags);                                                                             \
        mode_t mode = mode_of(flags, args);                                                                \
        va_end(args);                                                                                      \
        FAULT(HOOK_OPEN)                                                                                   \
        return real(path, flags, mode);                                                                    \
    }
OPEN(open)
OPEN(open64)

/* ---- memory: a sanitizer's allocator is its own ---- */

#ifndef HOOK_NO_MALLOC
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

#define ALLOCATE(call)                                                                                     \
    do {                                                                                                   \
        hook_action action = meet(HOOK_MALLOC);                                                            \
        if (action == HOOK_KILL) die();                                                                    \
        if (action != HOOK_NONE) return NULL;                                                              \
        return call;                                                                                       \
    } while (0)

void *malloc(size_t bytes) { ALLOCATE(__libc_malloc(bytes)); }
void *calloc(size_t n, size_t bytes) { ALLOCATE(__libc_calloc(n, bytes)); }
void *realloc(void *old, size_t bytes) { ALLOCATE(__libc_realloc(old, bytes)); }
void *aligned_alloc(size_t alignment, size_t bytes) { ALLOCATE(__libc_memalign(alignment, bytes)); }
#endif

/* ---- by environment, when preloaded ---- */

__attribute__((constructor)) static void arm_from_environment(void)
{
    const char *text = getenv("RECO_CRASH");
    char call[16], action[16];
    long n;
    int error = EIO;
    if (!text || sscanf(text, "%15[a-z]:%ld:%15[a-z-]:%d", call, &n, action, &error) < 3) return;
    for (int i = 0; i < HOOK_CALLS; i++)
        if (strcmp(call, hook_names[i]) == 0)
            hook_arm((hook_call)i, n,
                     strcmp(action, "kill") == 0      ? HOOK_KILL
                     : strcmp(action, "fail-on") == 0 ? HOOK_FAIL_ON
                                                      : HOOK_FAIL,
                     error);
}
