/* The faults that hook.c makes. */
#ifndef RECO_CRASH_HOOK_H
#define RECO_CRASH_HOOK_H

#include <stddef.h>

typedef enum hook_call {
    HOOK_WRITE,
    HOOK_READ,
    HOOK_SYNC,
    HOOK_RENAME,
    HOOK_MMAP,
    HOOK_OPEN,
    HOOK_TRUNCATE,
    HOOK_UNLINK,
    HOOK_MKDIR,
    HOOK_MALLOC,
    HOOK_CALLS
} hook_call;

extern const char *const hook_names[HOOK_CALLS];

/* What happens at the n-th call of a kind, counted from 0: it fails with `error`; so do all after it; the process dies,
 * half-way through if it is a write. */
typedef enum hook_action { HOOK_NONE, HOOK_FAIL, HOOK_FAIL_ON, HOOK_KILL } hook_action;

/* Count calls from now on, of this thread and all others. */
void hook_arm(hook_call call, long n, hook_action action, int error);
void hook_disarm(void);
long hook_count(hook_call call); /* since hook_arm */
int hook_fired(void);

/* Record, until hook_disarm, one line for each write, sync, rename, truncate and unlink: "write PATH", "rename OLD NEW". */
void hook_record(void);
const char *hook_log(void);

#endif
