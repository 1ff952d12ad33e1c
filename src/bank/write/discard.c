#include "bank/bank_internal.h"
#include "bank/write/writer.h"

#include <errno.h>
#include <unistd.h>

int64_t reco_bank_writer_added(const reco_bank_writer *w) { return w->next_id - w->first; }
int64_t reco_bank_writer_rows(const reco_bank_writer *w) { return w->ops ? 0 : w->committed; }

/* The database goes last but for the lock: until then the folder is a bank, which the next writer may go on with. */
reco_status reco_bank_writer_discard(reco_ctx *ctx, reco_bank_writer *w)
{
    static const char *const names[] = {"failures.jsonl",  "vectors",     "bank.sqlite-wal",
                                        "bank.sqlite-shm", "bank.sqlite", "writer.lock"};
    reco_status status = RECO_OK;
    if (w->next_id > 0) status = reco_fail(ctx, RECO_E_ARG, "%s: has rows and cannot be discarded", w->dir);
    if (w->ops) {
        if (status == RECO_OK) status = w->ops->discard(ctx, w);
        reco_bank_writer_close(w);
        return status;
    }
    reco_catalog_close(w->catalog); /* else its log would be left */
    w->catalog = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && status == RECO_OK; i++) {
        char *path = reco_path_join(ctx, w->dir, names[i]);
        if (!path)
            status = RECO_E_NOMEM;
        else if (unlink(path) != 0 && rmdir(path) != 0 && errno != ENOENT && errno != ENOTDIR)
            status = reco_fail_errno(ctx, RECO_E_IO, "%s", path);
        reco_free(path);
    }
    if (status == RECO_OK && rmdir(w->dir) != 0 && errno != ENOTEMPTY && errno != EEXIST && errno != EBUSY)
        status = reco_fail_errno(ctx, RECO_E_IO, "%s", w->dir);
    reco_bank_writer_close(w);
    return status;
}
