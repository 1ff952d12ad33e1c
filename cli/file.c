/* Files that a command writes: whole, or not at all. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

reco_status cli_file_begin(cli_file *f, const char *path)
{
    struct stat info;
    *f = (cli_file){.path = path};
    f->device = stat(path, &info) == 0 && !S_ISREG(info.st_mode);
    f->target = f->device ? NULL : realpath(path, NULL);
    if (asprintf(&f->temp, "%s.tmp-%ld", f->target ? f->target : path, (long)getpid()) < 0) f->temp = NULL;
    if (!f->temp) return RECO_E_NOMEM;
    f->out = fopen(f->device ? path : f->temp, "we");
    if (!f->out) cli_error("%s: %s", path, strerror(errno));
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
