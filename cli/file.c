/* Files that a command writes: whole, or not at all. */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A writer locks its temporary file until it dies; its process must be gone too, since the lock comes a moment later. */
static bool is_stale(const char *path, long pid)
{
    if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool stale = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) close(fd);
    return stale;
}

/* What killed commands left of the same file. Only cleaning: no failure here matters. */
static void remove_stale(const char *target)
{
    char *copy = strdup(target), *base = strdup(target), *prefix = NULL, *path = NULL, *end;
    const char *dir = copy ? dirname(copy) : NULL;
    DIR *folder = dir && base ? opendir(dir) : NULL;
    const struct dirent *entry;
    int n = folder ? asprintf(&prefix, "%s.tmp-", basename(base)) : -1;
    while (n > 0 && (entry = readdir(folder))) {
        if (strncmp(entry->d_name, prefix, (size_t)n) != 0) continue;
        long pid = strtol(entry->d_name + n, &end, 10);
        if (*end || asprintf(&path, "%s/%s", dir, entry->d_name) < 0) continue;
        if (is_stale(path, pid)) unlink(path);
        free(path);
    }
    if (n > 0) free(prefix);
    if (folder) closedir(folder);
    free(copy), free(base);
}

reco_status cli_file_begin(cli_file *f, const char *path)
{
    struct stat info;
    *f = (cli_file){.path = path};
    f->device = stat(path, &info) == 0 && !S_ISREG(info.st_mode);
    f->target = f->device ? NULL : realpath(path, NULL);
    if (asprintf(&f->temp, "%s.tmp-%ld", f->target ? f->target : path, (long)getpid()) < 0) f->temp = NULL;
    if (!f->temp) return RECO_E_NOMEM;
    if (!f->device) remove_stale(f->target ? f->target : path);
    f->out = fopen(f->device ? path : f->temp, "we");
    if (!f->out) cli_error("%s: %s", path, strerror(errno));
    if (f->out && !f->device) flock(fileno(f->out), LOCK_EX | LOCK_NB);
    return f->out ? RECO_OK : RECO_E_IO;
}

reco_status cli_file_end(cli_file *f, reco_status status)
{
    bool bad =
        f->out && (fflush(f->out) != 0 || ferror(f->out) || (!f->device && fsync(fileno(f->out)) != 0));
    int error = errno;
    if (f->out) fclose(f->out);
    if (status == RECO_OK && !bad && !f->device && rename(f->temp, f->target ? f->target : f->path) != 0)
        bad = true, error = errno;
    if (f->out && !f->device && (bad || status != RECO_OK)) unlink(f->temp);
    if (bad) {
        cli_error("%s: %s", f->path, strerror(error));
        status = RECO_E_IO;
    }
    free(f->temp);
    free(f->target);
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

void cli_remove_folder(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
