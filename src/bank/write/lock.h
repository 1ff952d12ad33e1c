/* bank/write/lock.h: one writer at a time. */
#ifndef RECO_SRC_BANK_LOCK_H
#define RECO_SRC_BANK_LOCK_H

#include "io/io.h"

/* The advisory lock of a bank's one writer, DIR/writer.lock: RECO_E_BUSY says who holds it. */
reco_status reco_bank_lock(reco_ctx *ctx, int *fd, const char *dir);
void reco_bank_unlock(int fd); /* -1 is fine */

#endif
