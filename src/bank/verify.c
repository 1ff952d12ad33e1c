#include "bank/bank_internal.h"

#include <math.h>
#include <sys/stat.h>

#define NORM_TOLERANCE 4e-3 /* rounding to f16 moves a norm by less than 1e-3 */
#define DATABASE "bank.sqlite"
#define LOG "bank.sqlite-wal"

typedef struct verification {
    const char *dir;
    reco_problem_fn fn;
    void *user;
    reco_bank_health *health;
    reco_catalog *catalog;
    reco_bank_info info;
    int64_t next_segment;
    reco_directions directions;
    reco_segment_list list;
    uint64_t total;
    /* Rows next to each other that have the same fault are one problem: */
    reco_bank_problem held;
    char held_file[80];
    /* Where the walk over the pairs is among the vectors: */
    size_t at, row;
    reco_segment segment;
    bool opened, known; /* segment is open; its ids are known */
    int64_t deleted;
} verification;

/* ---- telling ---- */

static void report_problem(verification *v, const reco_bank_problem *problem)
{
    v->health->problems++;
    if (v->fn) v->fn(v->user, problem);
}

static void report_held(verification *v)
{
    if (v->held.rows) report_problem(v, &v->held);
    v->held.rows = 0;
}

/* what: a static text. */
static void tell_row(verification *v, const char *file, int64_t id, const char *what)
{
    reco_bank_problem *h = &v->held;
    if (h->rows && h->what == what && id == h->id + h->rows && strcmp(h->file, file) == 0) {
        h->rows++;
        return;
    }
    report_held(v);
    snprintf(v->held_file, sizeof v->held_file, "%s", file);
    *h = (reco_bank_problem){.file = v->held_file, .id = id, .rows = 1, .what = what};
}

static void tell_text(void *arg, const char *message)
{
    report_problem(arg, &(reco_bank_problem){.file = DATABASE, .what = message});
}

/* Damage is what we are here to find; anything else ends the search. The message without the file's name. */
static reco_status survive(reco_ctx *ctx, verification *v, reco_status status, const char *file, int64_t id,
                           int64_t rows)
{
    if (status != RECO_E_FORMAT && status != RECO_E_IO) return status;
    char text[600];
    snprintf(text, sizeof text, "%s", reco_ctx_error(ctx));
    const char *what = strstr(text, file);
    what = what && strncmp(what + strlen(file), ": ", 2) == 0 ? what + strlen(file) + 2 : text;
    report_held(v);
    report_problem(v, &(reco_bank_problem){.file = file, .id = id, .rows = rows, .what = what});
    return RECO_OK;
}

/* ---- vector files ---- */

typedef struct pass {
    verification *v;
    const reco_segment_entry *entry;
    const reco_segment *s; /* its structure; NULL where that is damaged */
    char file[64];         /* within the bank */
    reco_hash *hash;
    uint64_t *sums, bytes; /* [nsums] as recorded; bytes read */
    size_t nsums;
    unsigned char *bad; /* [nsums] blocks that differ */
    bool any_bad, unreadable;
    uint64_t data_at; /* offset of the first tensor */
    double square[2]; /* of the row that is being read, by side */
} pass;

static uint64_t offset_of(const pass *p, reco_side side)
{
    const uint8_t *first = reco_safetensors_at(p->s->file, 0)->data;
    return p->data_at + (uint64_t)((const uint8_t *)p->s->vectors[side] - first);
}

/* Rows that have bytes in [offset, offset + bytes) of the file; all, where that is not known. */
static void rows_of(const pass *p, uint64_t offset, uint64_t bytes, int64_t *id, int64_t *rows)
{
    size_t low = SIZE_MAX, high = 0;
    *id = p->entry->first;
    *rows = p->entry->rows;
    if (!p->s || offset < p->data_at) return;
    uint64_t row = 2 * (uint64_t)p->v->info.d;
    for (int side = 0; side < 2; side++) {
        uint64_t begin = offset_of(p, (reco_side)side), end = begin + row * p->s->rows;
        uint64_t from = offset > begin ? offset : begin, to = offset + bytes < end ? offset + bytes : end;
        if (from >= to) continue;
        low = reco_min(low, (size_t)((from - begin) / row));
        high = reco_max(high, (size_t)((to - 1 - begin) / row));
    }
    if (low > high) return; /* of the ids: any row may be another's */
    *id = reco_segment_id(p->s, low);
    *rows = reco_segment_id(p->s, high) - *id + 1;
}

static void tell_range(pass *p, uint64_t offset, uint64_t bytes, const char *what)
{
    reco_bank_problem problem = {
        .file = p->file, .offset = (int64_t)offset, .bytes = (int64_t)bytes, .what = what};
    rows_of(p, offset, bytes, &problem.id, &problem.rows);
    report_held(p->v);
    report_problem(p->v, &problem);
}

/* The norms of the rows of one side, whose elements pass by in pieces. */
static void add_norms(pass *p, reco_side side, uint64_t offset, const uint8_t *data, size_t bytes)
{
    size_t d = p->v->info.d;
    uint64_t begin = offset_of(p, side), end = begin + 2 * (uint64_t)d * p->s->rows;
    uint64_t from = offset > begin ? offset : begin, to = offset + bytes < end ? offset + bytes : end;
    while (from < to) {
        float x[1024];
        size_t element = (size_t)(from - begin) / 2, column = element % d;
        size_t n = reco_min(reco_min(1024, d - column), (size_t)(to - from) / 2);
        reco_f16_to_f32_n(x, (const uint16_t *)(const void *)(data + (from - offset)), n);
        for (size_t i = 0; i < n; i++) p->square[side] += (double)x[i] * (double)x[i];
        from += 2 * n;
        if (column + n < d) continue;
        if (!(fabs(sqrt(p->square[side]) - 1) <= NORM_TOLERANCE))
            tell_row(p->v, p->file, reco_segment_id(p->s, element / d),
                     side == RECO_IMAGE ? "the image vector does not have norm 1"
                                        : "the text vector does not have norm 1");
        p->square[side] = 0;
    }
}

static reco_status add_piece(reco_ctx *ctx, void *arg, uint64_t offset, const uint8_t *data, size_t bytes)
{
    pass *p = arg;
    size_t block = (size_t)(offset / RECO_SEGMENT_BLOCK);
    if (!data) {
        p->unreadable = true;
        tell_range(p, offset, bytes, reco_ctx_error(ctx));
        return RECO_OK;
    }
    reco_hash_update(p->hash, data, bytes);
    if (block < p->nsums && p->sums[block] != reco_hash64(data, bytes, 0))
        p->bad[block] = p->any_bad = true;
    if (p->s && !p->unreadable) {
        add_norms(p, RECO_IMAGE, offset, data, bytes);
        add_norms(p, RECO_TEXT, offset, data, bytes);
    }
    p->bytes = offset + bytes;
    p->v->health->bytes += bytes;
    return reco_progress(ctx, "verifying vectors", p->v->health->bytes, p->v->total);
}

static void tell_blocks(pass *p)
{
    for (size_t i = 0, n; i < p->nsums; i += n ? n : 1) {
        for (n = 0; i + n < p->nsums && p->bad[i + n]; n++) {
        }
        uint64_t from = i * RECO_SEGMENT_BLOCK, to = (i + n) * RECO_SEGMENT_BLOCK;
        if (n) tell_range(p, from, (to < p->bytes ? to : p->bytes) - from, "is damaged: checksum differs");
    }
}

static reco_status read_file(reco_ctx *ctx, pass *p, const char *path)
{
    char hex[33];
    reco_status status;
    RECO_GO(
        reco_catalog_blocks(ctx, p->v->catalog, p->entry->number, RECO_SEGMENT_BLOCK, &p->sums, &p->nsums));
    p->bad = reco_alloc(ctx, p->nsums, 1, "checksums");
    if (!p->bad) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_hash_new(ctx, &p->hash));
    status = reco_read_pieces(ctx, path, RECO_SEGMENT_BLOCK, add_piece, p);
    report_held(p->v);
    if (status != RECO_OK) goto out;
    reco_hash_hex(p->hash, hex);
    p->hash = NULL;
    bool same = strcmp(hex, p->entry->xxh3) == 0;
    bool recorded = p->nsums && p->nsums == (p->bytes + RECO_SEGMENT_BLOCK - 1) / RECO_SEGMENT_BLOCK;
    if (p->unreadable)
        ; /* told */
    else if (!same && p->any_bad)
        tell_blocks(p);
    else if (!same)
        tell_range(p, 0, p->bytes, "is damaged: checksum differs");
    else if (p->any_bad || (p->nsums && !recorded))
        tell_text(p->v, "table block is damaged: an undamaged segment has other checksums");
out:
    reco_free(p->hash);
    reco_free(p->sums);
    reco_free(p->bad);
    return status;
}

/* A segment that a compaction replaced while we were at work is no longer to be found, and need not be. */
static bool is_gone(reco_ctx *ctx, verification *v, const reco_segment_entry *entry, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0) return false;
    reco_catalog *now = NULL;
    reco_segment_list list = {0};
    bool named = true;
    if (reco_catalog_open(ctx, &now, v->dir, false) == RECO_OK &&
        reco_catalog_segments(ctx, now, &list) == RECO_OK) {
        named = false;
        for (size_t i = 0; i < list.n; i++) named |= list.items[i].number == entry->number;
    }
    reco_free(list.items);
    reco_catalog_close(now);
    return !named;
}

/* Its bounds must hold for the rows as they are: then it can't make a search wrong, whatever else it says. */
static reco_status check_scan(reco_ctx *ctx, verification *v, const reco_segment_entry *entry,
                              reco_segment *s)
{
    static const char *const what[] = {[RECO_IMAGE] = "image.bound is too small for the row's codes",
                                       [RECO_TEXT] = "text.bound is too small for the row's codes"};
    char file[80];
    bool is_there;
    snprintf(file, sizeof file, "vectors/segment-%06lld" RECO_SCAN_ENDING, (long long)entry->number);
    reco_status status = reco_scan_open(ctx, s, v->dir, entry, v->info.d, &v->directions, &is_there);
    if (status != RECO_OK) return survive(ctx, v, status, file, entry->first, entry->rows);
    for (int side = 0; side < 2 && is_there; side++) {
        size_t row;
        RECO_TRY(reco_scan_check(ctx, s, (reco_side)side, v->info.d, &row));
        if (row < s->rows) tell_row(v, file, reco_segment_id(s, row), what[side]);
    }
    return RECO_OK;
}

static reco_status check_directions(reco_ctx *ctx, verification *v)
{
    static const char file[] = "vectors/" RECO_DIRECTIONS_FILE;
    reco_status status = reco_directions_open(ctx, &v->directions, v->dir, v->info.d);
    if (status != RECO_OK) return survive(ctx, v, status, file, -1, 0);
    for (int side = 0; side < 2; side++) {
        const reco_directions_side *x = &v->directions.side[side];
        if (!x->rows || reco_directions_loose(ctx, x->rows, x->second, v->info.d) <= (double)x->loose)
            continue;
        report_problem(
            v, &(reco_bank_problem){.file = file, .id = -1, .what = "directions are not orthonormal"});
    }
    return RECO_OK;
}

static reco_status check_segment(reco_ctx *ctx, verification *v, const reco_segment_entry *entry)
{
    reco_segment s;
    pass p = {.v = v, .entry = entry};
    snprintf(p.file, sizeof p.file, "vectors/%s", entry->file);
    char *path = reco_format(ctx, "%s/%s", v->dir, p.file);
    if (!path) return RECO_E_NOMEM;
    uint64_t problems = v->health->problems;
    reco_status status = RECO_OK;
    if (is_gone(ctx, v, entry, path)) goto out;
    status = reco_segment_open(ctx, &s, v->dir, entry, v->info.d);
    if (status == RECO_OK) {
        p.s = &s;
        p.data_at = (uint64_t)entry->bytes;
        for (size_t i = 0; i < reco_safetensors_count(s.file); i++)
            p.data_at -= reco_safetensors_at(s.file, i)->bytes;
    } else
        RECO_GO(survive(ctx, v, status, p.file, entry->first, entry->rows));
    status = read_file(ctx, &p, path);
    if (status == RECO_E_IO) /* a missing file was told above */
        status = v->health->problems > problems ? RECO_OK : survive(ctx, v, status, p.file, 0, 0);
    if (status == RECO_OK && p.s) status = check_scan(ctx, v, entry, &s);
out:
    if (p.s) reco_segment_close(&s);
    reco_free(path);
    return status;
}

/* ---- pairs and vectors go together ---- */

static void name_vector_file(const verification *v, char file[64])
{
    snprintf(file, 64, "vectors/%s", v->list.items[v->at].file);
}

static int64_t bound_of(const verification *v)
{
    return v->at + 1 < v->list.n ? v->list.items[v->at + 1].first : INT64_MAX;
}

static reco_status open_ids(reco_ctx *ctx, verification *v)
{
    if (v->opened || v->at == v->list.n) return RECO_OK;
    reco_status status = reco_segment_open(ctx, &v->segment, v->dir, &v->list.items[v->at], v->info.d);
    v->known = status == RECO_OK;
    v->opened = true;
    v->row = 0;
    return status == RECO_E_FORMAT || status == RECO_E_IO ? RECO_OK : status; /* told when it was read */
}

/* Vectors of ids below `id` that have not been passed are those of no pair. */
static reco_status pass_vectors(reco_ctx *ctx, verification *v, int64_t id)
{
    char file[64];
    for (; v->at < v->list.n; v->at++) {
        RECO_TRY(open_ids(ctx, v));
        name_vector_file(v, file);
        for (; v->known && v->row < v->segment.rows; v->row++) {
            int64_t other = reco_segment_id(&v->segment, v->row);
            if (other >= id) break;
            tell_row(v, file, other, "has vectors but no pair in the database");
        }
        if (bound_of(v) > id) break;
        if (v->known) reco_segment_close(&v->segment);
        v->opened = v->known = false;
    }
    return RECO_OK;
}

static reco_status check_row_pair(reco_ctx *ctx, void *arg, int64_t id, int deleted, const char *bad)
{
    verification *v = arg;
    RECO_TRY(pass_vectors(ctx, v, id));
    if (v->at < v->list.n && v->known && v->row < v->segment.rows &&
        reco_segment_id(&v->segment, v->row) == id)
        v->row++;
    else if (v->at == v->list.n || v->known || id < v->list.items[v->at].first)
        tell_row(v, DATABASE, id, "has a pair but no vectors");
    if (bad) tell_row(v, DATABASE, id, bad);
    v->deleted += deleted;
    v->health->rows += !deleted;
    return reco_progress(ctx, "verifying captions", (uint64_t)(v->health->rows + v->deleted), 0);
}

static reco_status check_pairs(reco_ctx *ctx, verification *v)
{
    reco_status status = reco_catalog_pairs(ctx, v->catalog, check_row_pair, v);
    if (status == RECO_OK) status = pass_vectors(ctx, v, INT64_MAX);
    if (v->opened && v->known) reco_segment_close(&v->segment);
    v->opened = v->known = false;
    report_held(v);
    if (status != RECO_OK) return survive(ctx, v, status, DATABASE, 0, 0);
    v->health->deleted = v->deleted;
    if (v->deleted == v->info.deleted) return RECO_OK;
    char text[100];
    snprintf(text, sizeof text, "%lld pairs are deleted, bank.deleted = %lld", (long long)v->deleted,
             (long long)v->info.deleted);
    tell_text(v, text);
    return RECO_OK;
}

/* ---- the database ---- */

static reco_status check_log(reco_ctx *ctx, verification *v)
{
    reco_catalog_damage damage;
    RECO_TRY(survive(ctx, v, reco_catalog_log(ctx, v->catalog, &damage), LOG, 0, 0));
    if (damage.bytes)
        report_problem(
            v, &(reco_bank_problem){
                   .file = LOG, .offset = damage.offset, .bytes = damage.bytes, .what = damage.what});
    return RECO_OK;
}

static reco_status check_tables(reco_ctx *ctx, verification *v)
{
    RECO_TRY(check_log(ctx, v));
    RECO_TRY(reco_catalog_integrity(ctx, v->catalog, tell_text, v));
    RECO_TRY(survive(ctx, v, reco_catalog_check_seal(ctx, v->catalog), DATABASE, 0, 0));
    RECO_TRY(reco_catalog_info(ctx, v->catalog, &v->info, &v->next_segment));
    RECO_TRY(reco_catalog_segments(ctx, v->catalog, &v->list));
    for (size_t i = 0; i < v->list.n; i++) {
        v->total += (uint64_t)v->list.items[i].bytes;
        if (v->list.items[i].number >= v->next_segment)
            tell_text(v, "bank.next_segment is not above a segment's number");
    }
    v->health->segments = v->list.n;
    return RECO_OK;
}

static reco_status check_lists(reco_ctx *ctx, verification *v, reco_bank *bank)
{
    const char *problem = NULL, *file = "vectors/" RECO_LISTS_NAME;
    reco_lists_close(bank->lists);
    reco_status status = reco_lists_open(ctx, &bank->lists, v->dir, bank->entries, bank->segments,
                                         bank->nsegments, bank->info.d, bank->deleted);
    if (status == RECO_OK && bank->lists)
        status =
            reco_lists_check(ctx, bank->lists, bank->segments, bank->nsegments, bank->info.d, &problem);
    if (problem) report_problem(v, &(reco_bank_problem){.file = file, .what = problem});
    return survive(ctx, v, status, file, 0, 0);
}

static reco_status check_all(reco_ctx *ctx, verification *v)
{
    reco_status status = reco_catalog_open(ctx, &v->catalog, v->dir, false);
    if (status == RECO_OK) status = check_tables(ctx, v);
    if (status != RECO_OK) return survive(ctx, v, status, DATABASE, 0, 0);
    RECO_TRY(check_directions(ctx, v));
    for (size_t i = 0; i < v->list.n; i++) RECO_TRY(check_segment(ctx, v, &v->list.items[i]));
    RECO_TRY(check_pairs(ctx, v));
    status = reco_segment_orphans(ctx, v->dir, &v->list, &v->health->orphans);
    if (v->list.n)
        RECO_TRY(survive(ctx, v, status, DATABASE, 0, 0)); /* an empty bank may lack the folder */
    if (v->health->problems) return RECO_OK;
    /* Whatever opening looks at beyond this. */
    reco_bank *bank = NULL;
    status = reco_bank_open(ctx, &bank, v->dir);
    if (status == RECO_OK) status = check_lists(ctx, v, bank);
    reco_bank_close(bank);
    return survive(ctx, v, status, DATABASE, 0, 0);
}

reco_status reco_bank_verify(reco_ctx *ctx, const char *path, reco_problem_fn fn, void *user,
                             reco_bank_health *health)
{
    reco_bank_health unused;
    verification v = {.dir = path, .fn = fn, .user = user, .health = health ? health : &unused};
    *v.health = (reco_bank_health){0};
    RECO_TRY(reco_bank_check_folder(ctx, path,
                                    "a server checks its own files: see pg_amcheck and data checksums"));
    reco_status status = check_all(ctx, &v);
    report_held(&v);
    reco_directions_close(&v.directions);
    reco_free(v.list.items);
    reco_catalog_close(v.catalog);
    return status;
}
