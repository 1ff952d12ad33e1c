#include "bank/merge/merge.h"
#include "bank/write/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define MOST_BANKS 10000
_Static_assert(MOST_BANKS <= 1 << RECO_MERGE_CATALOG_BITS, "a catalog's number must fit");

/* ---- what is to be merged ---- */

/* What a bank is, but for what its rows say: with it, numbers of rows and places of vectors stay what they were. */
static uint64_t hash_bank_state(const reco_bank *bank)
{
    const reco_bank_info *i = &bank->info;
    const int64_t sizes[] = {(int64_t)i->d, i->rows, i->deleted, i->next_id};
    uint64_t h = reco_hash64(sizes, sizeof sizes, 0);
    for (size_t s = 0; s < bank->nsegments; s++) {
        const reco_segment_entry *e = &bank->entries[s];
        const int64_t numbers[] = {e->number, e->first, e->rows, e->bytes};
        h = reco_hash64(numbers, sizeof numbers, h);
        h = reco_hash64(e->xxh3, strlen(e->xxh3), h);
    }
    return bank->deleted ? reco_hash64(bank->deleted, (bank->positions + 63) / 64 * sizeof(uint64_t), h)
                         : h;
}

reco_status reco_merge_open_bank(reco_ctx *ctx, const reco_merge *m, size_t i, reco_bank **bank)
{
    RECO_TRY(reco_folder_open(ctx, bank, m->banks[i]));
    if (hash_bank_state(*bank) == m->keys[i]) return RECO_OK;
    reco_bank_close(*bank);
    *bank = NULL;
    return reco_fail(ctx, RECO_E_BUSY, "%s: was changed while it was merged; run it again", m->banks[i]);
}

/* Two encoders are the same when their fingerprints are, or where one has none, their names; one that is not known matches all. */
static bool is_same_encoder(const reco_merge *m, const reco_bank_info *i)
{
    if (*m->fingerprint && *i->fingerprint) return strcmp(m->fingerprint, i->fingerprint) == 0;
    return !*m->encoder || !*i->encoder || strcasecmp(m->encoder, i->encoder) == 0;
}

static reco_status check_encoder(reco_ctx *ctx, reco_merge *m, const char *path, const reco_bank_info *i)
{
    if (!m->named) m->spec.d = i->d;
    if (m->spec.d != i->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s has vectors of width %zu, %s of width %zu", m->named,
                         m->spec.d, path, i->d);
    if (!is_same_encoder(m, i))
        return reco_fail(ctx, RECO_E_MISMATCH, "%s was made with encoder %s (%s), %s with %s (%s)",
                         m->named, m->encoder, m->fingerprint, path, i->encoder, i->fingerprint);
    if (!m->named || (!*m->fingerprint && *i->fingerprint) || (!*m->encoder && *i->encoder)) {
        memcpy(m->encoder, i->encoder, sizeof m->encoder);
        memcpy(m->fingerprint, i->fingerprint, sizeof m->fingerprint);
        m->named = path;
    }
    if (m->spec.logit_scale == 0) m->spec.logit_scale = i->logit_scale;
    return RECO_OK;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Each bank once, and none of them the one to be made. */
static reco_status check_paths(reco_ctx *ctx, const reco_merge *m)
{
    reco_status status = RECO_OK;
    char *out = realpath(m->out, NULL); /* NULL: not there yet */
    char **paths = reco_alloc(ctx, m->n, sizeof *paths, "banks");
    if (!paths) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < m->n; i++) {
        if (!(paths[i] = realpath(m->banks[i], NULL)))
            RECO_GO(reco_fail_errno(ctx, errno == ENOENT ? RECO_E_NOTFOUND : RECO_E_IO, "%s: no bank there",
                                    m->banks[i]));
        if (out && strcmp(out, paths[i]) == 0)
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "merge: %s cannot be merged into itself", m->banks[i]));
    }
    qsort(paths, m->n, sizeof *paths, by_text);
    for (size_t i = 1; i < m->n; i++)
        if (strcmp(paths[i - 1], paths[i]) == 0)
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "merge: %s is named twice", paths[i]));
out:
    for (size_t i = 0; paths && i < m->n; i++) free(paths[i]);
    reco_free(paths);
    free(out);
    return status;
}

/* ---- the same input twice ---- */

typedef struct job {
    uint64_t hash;
    size_t bank;
} job;

typedef struct jobs {
    job *at; /* [n] */
    size_t n, room, bank;
} jobs;

static reco_status note_job(reco_ctx *ctx, void *arg, const char *name, int64_t next)
{
    jobs *j = arg;
    (void)next;
    if (!name || !*name) return RECO_OK;
    job *at = reco_grow(ctx, j->at, j->n, &j->room, 64, sizeof *at, "jobs");
    if (!at) return RECO_E_NOMEM;
    j->at = at;
    j->at[j->n++] = (job){reco_hash64(name, strlen(name), 0), j->bank};
    return RECO_OK;
}

static int by_hash(const void *a, const void *b)
{
    const job *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->bank > y->bank) - (x->bank < y->bank);
}

/* Pictures are known by their names: of rows without any, a second build of the same input would all come in again. */
static reco_status check_jobs(reco_ctx *ctx, const reco_merge *m, jobs *j)
{
    qsort(j->at, j->n, sizeof *j->at, by_hash);
    for (size_t i = 1; i < j->n; i++) {
        const job *one = &j->at[i - 1], *two = &j->at[i];
        reco_bank *bank;
        bool nameless;
        if (one->hash != two->hash || one->bank == two->bank) continue;
        RECO_TRY(reco_merge_open_bank(ctx, m, two->bank, &bank));
        reco_status status = reco_catalog_merge_nameless(ctx, bank->catalog, &nameless);
        reco_bank_close(bank);
        RECO_TRY(status);
        if (nameless)
            return reco_fail(ctx, RECO_E_EXISTS,
                             "merge: %s and %s were built from the same input, and have rows without a "
                             "picture's path, which would "
                             "be there twice; leave one of the two out, or these rows of it (reco bank "
                             "delete --where \"uri IS NULL\")",
                             m->banks[one->bank], m->banks[two->bank]);
    }
    return RECO_OK;
}

/* ---- looking at all ---- */

static reco_status inspect_banks(reco_ctx *ctx, reco_merge *m, jobs *found)
{
    uint64_t h = 0;
    bool lacks = false; /* a bank that is large enough for scan files, and had them taken away */
    if (m->n < 1 || m->n > MOST_BANKS)
        return reco_fail(ctx, RECO_E_ARG, "merge: %zu banks, want 1..%d", m->n, MOST_BANKS);
    RECO_TRY(check_paths(ctx, m));
    m->keys = reco_alloc(ctx, m->n, sizeof *m->keys, "banks");
    m->firsts = reco_alloc(ctx, m->n + 1, sizeof *m->firsts, "banks");
    if (!m->keys || !m->firsts) return RECO_E_NOMEM;
    for (size_t i = 0; i < m->n; i++) {
        reco_bank *bank;
        RECO_TRY(reco_folder_open(ctx, &bank, m->banks[i]));
        reco_bank_info info = bank->info;
        m->keys[i] = hash_bank_state(bank);
        found->bank = i;
        reco_status status = reco_catalog_merge_jobs(ctx, bank->catalog, note_job, found);
        reco_bank_close(bank);
        RECO_TRY(status);
        if (!info.complete)
            return reco_fail(ctx, RECO_E_ARG,
                             "%s: is not complete: its build was interrupted; run the build again",
                             m->banks[i]);
        RECO_TRY(check_encoder(ctx, m, m->banks[i], &info));
        m->firsts[i + 1] = m->firsts[i] + info.rows;
        m->deleted += info.deleted;
        lacks |= info.rows >= RECO_SCAN_DEFAULT_ROWS && info.scan_rows == 0;
        h = reco_hash64(&m->keys[i], sizeof m->keys[i], h);
    }
    RECO_TRY(check_jobs(ctx, m, found));
    if (m->firsts[m->n] == 0)
        return reco_fail(ctx, RECO_E_NOTFOUND, "merge: the banks have no rows; nothing was written");
    m->scans = !lacks && m->firsts[m->n] >= RECO_SCAN_DEFAULT_ROWS;
    m->spec.encoder = m->encoder;
    m->spec.fingerprint = m->fingerprint;
    snprintf(m->job, sizeof m->job, "merge:%016llx%s", (unsigned long long)h, m->several ? ":several" : "");
    return RECO_OK;
}

/* ---- where it goes ---- */

/* Is the folder one to begin in, or to go on? *there: it is a bank already. */
static reco_status check_out(reco_ctx *ctx, const reco_merge *m, bool *there)
{
    char *bank = reco_path_join(ctx, m->out, "bank.sqlite"),
         *begun = reco_path_join(ctx, m->out, "bank.sqlite.tmp");
    reco_status status = bank && begun ? RECO_OK : RECO_E_NOMEM;
    *there = status == RECO_OK && reco_path_exists(bank);
    if (status == RECO_OK && !*there && !reco_path_exists(begun))
        status = reco_bank_check_empty(ctx, m->out);
    reco_free(bank);
    reco_free(begun);
    return status;
}

static reco_status check_done(reco_ctx *ctx, reco_merge *m)
{
    reco_catalog *c;
    reco_catalog_job_state state;
    RECO_TRY(reco_catalog_open(ctx, &c, m->out, false));
    reco_status status = reco_catalog_job(ctx, c, m->job, &state);
    reco_catalog_close(c);
    RECO_TRY(status);
    if (!state.built)
        return reco_fail(ctx, RECO_E_EXISTS,
                         "%s: is already a bank, built from something else; want a new folder", m->out);
    m->result.already = 1;
    return RECO_OK;
}

/* ---- the merge ---- */

static reco_status write_merged_bank(reco_ctx *ctx, reco_merge *m)
{
    reco_segment_list files = {0};
    reco_status status;
    RECO_GO(reco_merge_pairs(ctx, m));
    RECO_GO(reco_merge_vectors(ctx, m, &files));
    RECO_GO(reco_merge_texts(ctx, m));
    const reco_catalog_change change = {.segments = &files,
                                        .next_id = m->result.rows,
                                        .next_segment = (int64_t)files.n,
                                        .job = m->job,
                                        .first = -1,
                                        .next = m->n,
                                        .done = true};
    status = reco_catalog_commit(ctx, m->catalog, &change);
out:
    reco_free(files.items);
    return status;
}

static reco_status make(reco_ctx *ctx, reco_merge *m)
{
    reco_catalog_job_state state;
    RECO_TRY(reco_bank_make_vectors(ctx, m->out));
    RECO_TRY(reco_catalog_merge_open(ctx, &m->catalog, m->out, &m->spec, m->job));
    RECO_TRY(reco_catalog_job(ctx, m->catalog, m->job, &state));
    if (!state.done) RECO_TRY(write_merged_bank(ctx, m));
    reco_catalog *c = m->catalog;
    m->catalog = NULL;
    return reco_catalog_merge_publish(ctx, c, m->out);
}

/* For files that were written anew, and banks that were too small for any. Scan files that came along have their own bank's
 * directions or none; coding all rows once more along those of the merged bank is left to `bank index`. */
static void add_scans(reco_ctx *ctx, const reco_merge *m)
{
    reco_bank_writer *w;
    uint64_t next;
    int done;
    size_t made = 0;
    reco_status status = reco_bank_writer_open(ctx, &w, m->out, NULL, "", &next, &done);
    if (status == RECO_OK)
        status = m->scanned ? reco_bank_index_missing(ctx, w, &made) : reco_bank_index_all(ctx, w, &made);
    if (status != RECO_OK)
        reco_log(ctx, RECO_LOG_WARN, "%s; the bank lacks scan files", reco_ctx_error(ctx));
    reco_bank_writer_close(w);
}

static reco_status fill_merge_result(reco_ctx *ctx, reco_merge *m)
{
    reco_bank *bank;
    RECO_TRY(reco_folder_open(ctx, &bank, m->out));
    m->result.rows = bank->info.rows;
    m->result.segments = bank->nsegments;
    m->result.bytes = bank->info.vector_bytes;
    m->result.deleted = m->deleted;
    reco_bank_close(bank);
    return RECO_OK;
}

reco_status reco_bank_merge(reco_ctx *ctx, const char *out, const char *const *banks, size_t n,
                            const reco_merge_opts *opts, reco_merge_result *result)
{
    reco_merge m = {.out = out, .banks = banks, .n = n, .several = opts && opts->several_captions};
    int lock = -1;
    bool there;
    jobs found = {0};
    reco_status status;
    RECO_GO(reco_reserved(ctx, "merge", opts ? opts->reserved : NULL));
    for (size_t i = 0; i <= n; i++)
        RECO_GO(reco_bank_check_folder(
            ctx, i < n ? banks[i] : out,
            "only folders can be merged; join servers into one bank by listing their URLs with commas"));
    status = inspect_banks(ctx, &m, &found);
    reco_free(found.at);
    if (status != RECO_OK) goto out;
    RECO_GO(reco_bank_make_folder(ctx, out));
    RECO_GO(reco_dir_lock(ctx, &lock, out));
    RECO_GO(check_out(ctx, &m, &there));
    RECO_GO(there ? check_done(ctx, &m) : make(ctx, &m));
    reco_dir_unlock(lock); /* the indexing takes its own */
    lock = -1;
    if (m.scans && !m.result.already) add_scans(ctx, &m);
    RECO_GO(fill_merge_result(ctx, &m));
    if (result) *result = m.result;
out:
    reco_catalog_close(m.catalog);
    reco_dir_unlock(lock);
    reco_free(m.keys);
    reco_free(m.firsts);
    return status;
}
