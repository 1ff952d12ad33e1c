#include "train/train_internal.h"
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

/* Neighbours that were found lie in a file, mapped, where the options name one: a search of days is not lost with the process, and
 * the next layer that is trained on these pairs begins where it ended. */

#define SYNC_SECONDS 10.0
static const char magic[16] = "reco-neighbours1";

typedef struct header {
    char magic[16];
    char key[40]; /* of all that decides what is found */
    uint64_t n, reach[RECO_LISTS];
    uint64_t done;    /* pairs whose neighbours are here, list after list */
    uint8_t rest[32]; /* lists follow: ids [n][reach] i64, then cosines [n][reach] f32 */
} header;

/* The bank's vectors and which of them are live; the pairs' vectors; what is barred. */
static reco_status make_key(const reco_job *job, char hex[40])
{
    reco_ctx *ctx = job->ctx;
    const reco_bank_info *info = reco_bank_get_info(job->bank);
    const uint64_t counts[] = {
        job->n, job->d, job->lists, job->own, (uint64_t)job->o.search, (uint64_t)info->rows};
    int64_t ids[1024], from = 0;
    size_t got;
    reco_hash *h;
    memset(hex, 0, 40);
    if (info->segments == 0)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "train: neighbours can be cached only for banks that are folders");
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_hash_update(h, counts, sizeof counts);
    reco_hash_update(h, job->reach, sizeof job->reach);
    reco_hash_update(h, &job->o.max_similarity, sizeof job->o.max_similarity);
    for (reco_side side = 0; side < 2;
         side++) { /* exact ones keep the key that they had before there were lists */
        const reco_search_opts opts = {.recall = job->o.recall};
        float recall = reco_bank_expected_recall(job->bank, side, &opts);
        if (recall < 1) reco_hash_update(h, &recall, sizeof recall);
    }
    for (size_t i = 0; i < info->segments; i++) {
        const reco_segment_info *s = reco_bank_get_segment(job->bank, i);
        reco_hash_update(h, &s->first, sizeof s->first);
        reco_hash_update(h, s->xxh3, sizeof s->xxh3);
    }
    reco_status status;
    do {
        status = reco_bank_select(ctx, job->bank, NULL, from, 1024, ids, &got);
        if (status == RECO_OK && got) reco_hash_update(h, ids, got * sizeof *ids);
        if (status == RECO_OK && got) from = ids[got - 1] + 1;
    } while (status == RECO_OK && got);
    for (int side = 0; side < 2; side++)
        reco_hash_update(h, job->rows[side], job->n * job->d * sizeof(float));
    if (job->own) reco_hash_update(h, job->same.picture, job->n * sizeof *job->same.picture);
    reco_hash_hex(h, hex);
    return status;
}

static reco_status measure_file(const reco_job *job, size_t *bytes)
{
    *bytes = sizeof(header);
    for (size_t list = 0; list < job->lists; list++) {
        size_t places, more;
        if (!reco_mul(job->n, job->reach[list], &places) ||
            !reco_mul(places + places % 2, sizeof(int64_t) + sizeof(float), &more) ||
            more > SIZE_MAX / 2 - *bytes)
            return reco_fail_nomem(job->ctx, SIZE_MAX, "neighbours");
        *bytes += more; /* even, so that ids stay aligned */
    }
    return RECO_OK;
}

/* Is the file's content that of this job? done counts whole blocks of a list, and is checked to lie within it. */
static bool fits(const header *h, const header *want, size_t lists)
{
    return memcmp(h->magic, want->magic, sizeof h->magic) == 0 &&
           memcmp(h->key, want->key, sizeof h->key) == 0 && h->n == want->n &&
           memcmp(h->reach, want->reach, sizeof h->reach) == 0 && h->done <= lists * want->n;
}

static reco_status map_file(reco_job *job, const char *path, size_t bytes)
{
    reco_neighbours *k = &job->kept;
    reco_ctx *ctx = job->ctx;
    if ((k->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666)) < 0)
        return reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    k->open = true;
    if (flock(k->fd, LOCK_EX | LOCK_NB) != 0)
        return reco_fail(ctx, RECO_E_BUSY, "%s: another training is using it", path);
    off_t size = lseek(k->fd, 0, SEEK_END);
    char start[sizeof magic];
    if (size > 0 &&
        (pread(k->fd, start, sizeof start, 0) != sizeof start || memcmp(start, magic, sizeof magic) != 0))
        return reco_fail(ctx, RECO_E_EXISTS, "%s: is not a file of neighbours", path);
    if (size != (off_t)bytes && ftruncate(k->fd, 0) != 0)
        return reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    /* A page that finds no room when it is written ends the process; so room is made before. */
    if ((errno = posix_fallocate(k->fd, 0, (off_t)bytes)) != 0)
        return reco_fail_errno(ctx, RECO_E_IO, "%s: %zu bytes", path, bytes);
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
    if (map == MAP_FAILED) return reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    k->map = map;
    k->bytes = bytes;
    return RECO_OK;
}

reco_status reco_neighbours_open(reco_job *job)
{
    reco_neighbours *k = &job->kept;
    header want = {.n = job->n};
    size_t bytes;
    if (!job->o.neighbours) return RECO_OK;
    memcpy(want.magic, magic, sizeof want.magic);
    for (size_t list = 0; list < job->lists; list++) want.reach[list] = job->reach[list];
    RECO_TRY(measure_file(job, &bytes));
    RECO_TRY(make_key(job, want.key));
    RECO_TRY(map_file(job, job->o.neighbours, bytes));
    if (!fits(k->map, &want, job->lists)) memcpy(k->map, &want, sizeof want);
    k->done = (size_t)((header *)k->map)->done;
    k->synced = reco_now();
    uint8_t *at = (uint8_t *)k->map + sizeof(header);
    for (size_t list = 0; list < job->lists; list++) {
        size_t places = job->n * job->reach[list];
        job->found[list] = (int64_t *)(void *)at;
        at += places * sizeof(int64_t);
        job->scores[list] = (float *)(void *)at;
        at += (places + places % 2) * sizeof(float);
    }
    return RECO_OK;
}

/* What is counted as done must be on the disk before the count is: a power cut takes the rest. */
reco_status reco_neighbours_done(reco_job *job, size_t done)
{
    reco_neighbours *k = &job->kept;
    if (!k->map) return RECO_OK;
    bool last = done == job->lists * job->n;
    if (!last && reco_now() - k->synced < SYNC_SECONDS) return RECO_OK;
    if (msync(k->map, k->bytes, MS_SYNC) != 0)
        return reco_fail_errno(job->ctx, RECO_E_IO, "%s", job->o.neighbours);
    ((header *)k->map)->done = done;
    k->synced = reco_now();
    return RECO_OK;
}

/* What an earlier run found is believed as far as it can be true. Ids that are no row's are found out when pairs of others look
 * them up. */
reco_status reco_neighbours_check(const reco_job *job)
{
    for (size_t list = 0; list < job->lists && job->kept.done; list++)
        for (size_t i = 0; i < job->n * job->reach[list]; i++) {
            int64_t id = job->found[list][i];
            float score = job->scores[list][i];
            bool good = score >= -1.01f && score <= 1.01f && id >= -1 &&
                        (id == -1 || !job->own || reco_job_index(job, id) != RECO_NOTHING);
            if (!good)
                return reco_fail(job->ctx, RECO_E_FORMAT, "%s: is damaged; remove it", job->o.neighbours);
        }
    return RECO_OK;
}

void reco_neighbours_close(reco_job *job)
{
    reco_neighbours *k = &job->kept;
    const uint8_t *begin = k->map, *end = begin + k->bytes;
    for (size_t list = 0; list < RECO_LISTS && k->map; list++) {
        const uint8_t *found = (const uint8_t *)job->found[list],
                      *scores = (const uint8_t *)job->scores[list];
        if (found >= begin && found < end) job->found[list] = NULL;
        if (scores >= begin && scores < end) job->scores[list] = NULL;
    }
    if (k->map) munmap(k->map, k->bytes);
    if (k->open) close(k->fd);
    *k = (reco_neighbours){0};
}
