#include "io/internal.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

reco_status reco_map_open(reco_ctx *ctx, reco_map *map, const char *path)
{
    *map = (reco_map){0};
    int fd;
    size_t bytes;
    RECO_TRY(reco_io_open(ctx, &fd, &bytes, path, true));
    reco_status status = RECO_OK;
    if (bytes) { /* an empty mapping is an error to the kernel, not to us */
        void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = reco_fail_errno(ctx, RECO_E_IO, "%s", path);
        else
            *map = (reco_map){data, bytes};
    }
    close(fd);
    return status;
}

void reco_map_pieces(const reco_map *map, bool pieces)
{
    if (map->data) madvise((void *)(uintptr_t)map->data, map->bytes, pieces ? MADV_RANDOM : MADV_NORMAL);
}

/* In pieces, since the kernel reads but the beginning of a large one. */
void reco_map_fetch(const void *data, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), piece = (uintptr_t)512 << 10,
                    end = (uintptr_t)data + bytes;
    for (uintptr_t at = (uintptr_t)data / page * page; at < end; at += piece)
        madvise((void *)at, reco_min(piece, end - at), MADV_WILLNEED);
}

uint64_t reco_map_faults(void)
{
#ifdef RUSAGE_THREAD
    const int who = RUSAGE_THREAD;
#else
    const int who = RUSAGE_SELF;
#endif
    struct rusage use;
    return getrusage(who, &use) == 0 ? (uint64_t)use.ru_majflt : 0;
}

void reco_map_close(reco_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (reco_map){0};
}
