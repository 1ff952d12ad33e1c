#include "pipeline/provenance.h"

#include <errno.h>
#include <unistd.h>

#define CHECKPOINT_RECORDS 1024
#define CHECKPOINT_SECONDS 10.0
#define STATE_MAX ((size_t)1 << 16)

static const char *const layout[2][2] = {{"img_emb", "img_emb_0.npy"}, {"text_emb", "text_emb_0.npy"}};

char *reco_layout_path(reco_ctx *ctx, const char *dir, reco_side side)
{
    return reco_format(ctx, "%s/%s/%s", dir, layout[side][0], layout[side][1]);
}

static reco_status made(reco_ctx *ctx, const char *dir, const char *name)
{
    char *path = reco_path_join(ctx, dir, name);
    reco_status status = path ? reco_mkdirs(ctx, path) : RECO_E_NOMEM;
    reco_free(path);
    return status;
}

/* ---- the state of an unfinished job: what its three parts hold, and which inputs that was ---- */

/* Everything but the input that decides what the rows are. */
static json_t *job_of(reco_ctx *ctx, const reco_output *o)
{
    char print[33];
    reco_model_info info = *reco_model_get_info(o->model);
    if (reco_model_fingerprint(ctx, o->model, print) != RECO_OK) return NULL;
    return json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:s}", "side", (int)o->side, "encoder", print,
                     "precision", (int)info.precision, "dtype", (int)o->dtype, "d", (int)info.d,
                     "image_size", (int)info.image_size, "exif", info.preprocess.upright, "part", o->part);
}

static uint64_t read_count(const json_t *state, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(state, key));
    return n > 0 ? (uint64_t)n : 0;
}

/* NULL where there is none, or it is of another job: then the work begins anew. */
static json_t *read_state(reco_ctx *ctx, const reco_output *o)
{
    char *text = NULL;
    size_t bytes;
    if (!reco_path_exists(o->state) || reco_read_file(ctx, &text, &bytes, o->state, STATE_MAX) != RECO_OK)
        return NULL;
    json_t *state = NULL, *job = NULL;
    bool ours = reco_json_parse_object(ctx, &state, text, bytes) == RECO_OK && (job = job_of(ctx, o)) &&
                json_equal(json_object_get(state, "job"), job);
    json_decref(job);
    reco_free(text);
    if (ours) return state;
    json_decref(state);
    return NULL;
}

static reco_status open_parts(reco_ctx *ctx, reco_output *o, const char *dir, uint64_t metadata_bytes,
                              uint64_t failures_bytes)
{
    reco_status status = RECO_OK;
    char *rows = reco_layout_path(ctx, dir, o->side),
         *metadata = reco_format(ctx, "%s/metadata/metadata_0.jsonl", dir);
    if (!rows || !metadata) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_npy_resume(ctx, &o->rows, rows, o->dtype, reco_model_get_info(o->model)->d, o->at.rows));
    RECO_GO(reco_file_resume(ctx, &o->metadata, metadata, metadata_bytes));
    RECO_GO(reco_file_resume(ctx, &o->failures.file, o->failures.path, failures_bytes));
out:
    reco_free(rows);
    reco_free(metadata);
    return status;
}

static void close_parts(reco_output *o)
{
    reco_npy_abort(o->rows);
    reco_file_abort(o->metadata);
    reco_file_abort(o->failures.file);
    o->rows = NULL;
    o->metadata = o->failures.file = NULL;
}

/* ---- reco.json ---- */

static bool side_is_there(reco_ctx *ctx, const reco_output *o, int side)
{
    char *path = reco_layout_path(ctx, o->dir, (reco_side)side);
    bool there = path && reco_path_exists(path);
    reco_free(path);
    return there;
}

/* The other side of a folder is of the same encoder, and the folder is no bank's export, whose records have ids. */
static reco_status check_folder(reco_ctx *ctx, const reco_output *o)
{
    char print[33];
    reco_provenance p;
    RECO_TRY(reco_provenance_read(ctx, o->dir, &p));
    int other = o->side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE;
    if (p.exported)
        return reco_fail(ctx, RECO_E_EXISTS, "%s: is the export of a bank, want another folder", o->dir);
    if (p.concat)
        return reco_fail(ctx, RECO_E_EXISTS, "%s: holds the output of refine --concat, want another folder",
                         o->dir);
    if (!p.found || !(p.sides >> other & 1) || !side_is_there(ctx, o, other)) return RECO_OK;
    reco_model_info info = *reco_model_get_info(o->model);
    RECO_TRY(reco_model_fingerprint(ctx, o->model, print));
    if (reco_encoder_matches(p.encoder, p.fingerprint, info.name, print)) return RECO_OK;
    return reco_fail(ctx, RECO_E_MISMATCH,
                     "%s: its %s embeddings were made with encoder %s (%s), not with %s (%s)", o->dir,
                     other == RECO_IMAGE ? "image" : "text", p.encoder, p.fingerprint, info.name, print);
}

/* `before` says nothing of this side, and holds as soon as the old rows are gone; `after` says whose the new ones are. */
static reco_status provenance(reco_ctx *ctx, const reco_output *o, reco_provenance *before,
                              reco_provenance *after)
{
    reco_provenance old;
    reco_model_info info = *reco_model_get_info(o->model);
    int other = o->side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE;
    RECO_TRY(reco_provenance_read(ctx, o->dir, &old));
    *after = (reco_provenance){
        .found = true, .logit_scale = info.logit_scale, .d = info.d, .sides = 1 << o->side};
    snprintf(after->encoder, sizeof after->encoder, "%s", info.name);
    RECO_TRY(reco_model_fingerprint(ctx, o->model, after->fingerprint));
    snprintf(after->precision[o->side], sizeof after->precision[0], "%s",
             reco_precision_name(info.precision));
    after->exif = o->side == RECO_IMAGE && info.preprocess.upright;
    *before = (reco_provenance){0};
    if (!old.found || !(old.sides >> other & 1) || !side_is_there(ctx, o, other)) return RECO_OK;
    *before = old;
    before->sides = 1 << other;
    after->sides |= 1 << other;
    after->refined = before->refined = old.refined & 1 << other;
    before->exif = old.exif && other == RECO_IMAGE;
    after->exif |= before->exif;
    memcpy(after->precision[other], old.precision[other], sizeof old.precision[0]);
    return RECO_OK;
}

reco_status reco_output_begin(reco_ctx *ctx, reco_output *o, const char *dir, reco_side side,
                              const reco_model *model, const reco_folder_opts *opts)
{
    *o = (reco_output){.model = model, .side = side, .dtype = opts->dtype};
    reco_part_key(o->part, opts->shard);
    if (!(o->dir = reco_strdup(ctx, dir)) || !(o->state = reco_path_join(ctx, dir, ".embed.json")))
        return RECO_E_NOMEM;
    RECO_TRY(check_folder(ctx, o));
    /* A folder with a state in it may have been made by the run that was killed. */
    o->was_there = reco_path_is_dir(dir) && !reco_path_exists(o->state);
    RECO_TRY(made(ctx, dir, layout[side][0]));
    RECO_TRY(made(ctx, dir, "metadata"));
    RECO_TRY(reco_failures_begin(ctx, &o->failures, dir, opts->embed.failure, opts->embed.user));
    o->saved = reco_now();
    json_t *state = read_state(ctx, o);
    if (state) {
        const char *hash = json_string_value(json_object_get(state, "hash"));
        o->at = (reco_output_place){read_count(state, "next"),     hash ? strtoull(hash, NULL, 16) : 0,
                                    read_count(state, "rows"),     read_count(state, "failures"),
                                    read_count(state, "repaired"), read_count(state, "truncated")};
        uint64_t metadata = read_count(state, "metadata_bytes"),
                 failures = read_count(state, "failures_bytes");
        json_decref(state);
        reco_status status = open_parts(ctx, o, dir, metadata, failures);
        o->failures.count = o->at.failures;
        if (status != RECO_E_FORMAT) return status;
        close_parts(o); /* a part is missing: it was put in place when the kill came */
    }
    return reco_output_restart(ctx, o);
}

reco_status reco_output_restart(reco_ctx *ctx, reco_output *o)
{
    close_parts(o);
    o->at = (reco_output_place){0};
    o->failures.count = 0;
    if (unlink(o->state) != 0 && errno != ENOENT) return reco_fail_errno(ctx, RECO_E_IO, "%s", o->state);
    return open_parts(ctx, o, o->dir, 0, 0);
}

uint64_t reco_output_hash(uint64_t hash, const char *item, size_t bytes)
{
    return reco_hash64(item, bytes, hash + 1);
}

reco_status reco_output_checkpoint(reco_ctx *ctx, reco_output *o, const reco_output_place *at)
{
    if (at->next - o->at.next < CHECKPOINT_RECORDS && reco_now() - o->saved < CHECKPOINT_SECONDS)
        return RECO_OK;
    uint64_t metadata, failures;
    RECO_TRY(reco_npy_checkpoint(ctx, o->rows));
    RECO_TRY(reco_file_checkpoint(ctx, o->metadata, &metadata));
    RECO_TRY(reco_file_checkpoint(ctx, o->failures.file, &failures));
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)at->hash);
    if (!o->job && !(o->job = job_of(ctx, o))) return reco_fail_nomem(ctx, 0, "state of the job");
    json_t *state = json_pack("{s:O, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "job", o->job, "next",
                              (json_int_t)at->next, "hash", hash, "rows", (json_int_t)at->rows,
                              "metadata_bytes", (json_int_t)metadata, "failures_bytes",
                              (json_int_t)failures, "failures", (json_int_t)at->failures, "repaired",
                              (json_int_t)at->repaired, "truncated", (json_int_t)at->truncated);
    char *text = state ? reco_json_dump(ctx, state) : NULL;
    json_decref(state);
    reco_status status = text ? reco_write_file(ctx, o->state, text, strlen(text))
                              : reco_fail_nomem(ctx, 0, "state of the job");
    reco_free(text);
    if (status == RECO_OK) {
        o->at = *at;
        o->saved = reco_now();
    }
    return status;
}

/* Line by line: what the new metadata lack, the old ones give. */
static reco_status join_lines(reco_ctx *ctx, const char *path, const char *old, reco_file *file)
{
    reco_status status = RECO_OK;
    reco_lines *ours = NULL, *theirs = NULL;
    json_t *a = NULL, *b = NULL;
    RECO_GO(reco_lines_open(ctx, &ours, path));
    RECO_GO(reco_lines_open(ctx, &theirs, old));
    for (;;) {
        const char *line;
        size_t bytes;
        RECO_GO(reco_lines_next(ctx, ours, &line, &bytes));
        if (!line) break;
        RECO_GO(reco_json_parse_object(ctx, &a, line, bytes));
        RECO_GO(reco_lines_next(ctx, theirs, &line, &bytes));
        if (line && reco_json_parse_object(ctx, &b, line, bytes) == RECO_OK)
            json_object_update_missing(a, b);
        json_decref(b);
        b = NULL;
        json_t *joined = a;
        a = NULL; /* the writer takes the reference, also when it fails */
        RECO_GO(reco_write_json_line(ctx, file, joined));
    }
out:
    json_decref(a);
    json_decref(b);
    reco_lines_close(ours);
    reco_lines_close(theirs);
    return status;
}

/* The other side is here already, row for row: the metadata tell of both. */
static reco_status join_metadata(reco_ctx *ctx, reco_output *o)
{
    reco_status status = RECO_OK;
    reco_npy other = {0};
    reco_file *joined = NULL;
    uint64_t bytes;
    char *rows = reco_layout_path(ctx, o->dir, o->side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE),
         *old = reco_format(ctx, "%s/metadata/metadata_0.jsonl", o->dir),
         *part = reco_format(ctx, "%s/metadata/.metadata_0.jsonl.part", o->dir);
    if (!rows || !old || !part) RECO_GO(RECO_E_NOMEM);
    if (!reco_path_exists(rows) || !reco_path_exists(old)) goto out;
    if (reco_npy_open(ctx, &other, rows) != RECO_OK || other.rows != o->at.rows) goto out;
    RECO_GO(reco_file_checkpoint(ctx, o->metadata, &bytes));
    RECO_GO(reco_file_begin(ctx, &joined, old));
    RECO_GO(join_lines(ctx, part, old, joined));
    reco_file_discard(o->metadata);
    o->metadata = joined;
    joined = NULL;
out:
    reco_file_abort(joined);
    reco_npy_close(&other);
    reco_free(rows);
    reco_free(old);
    reco_free(part);
    return status;
}

/* There is not one row: what was there before stays, and nothing of this run. */
static reco_status leave_nothing(reco_ctx *ctx, reco_output *o)
{
    const char *const made_here[] = {layout[o->side][0], "metadata", ""};
    size_t n = sizeof made_here / sizeof *made_here - (o->was_there ? 1 : 0);
    reco_npy_drop(o->rows);
    reco_file_discard(o->metadata);
    reco_file_discard(o->failures.file);
    o->rows = NULL;
    o->metadata = o->failures.file = NULL;
    if (unlink(o->state) != 0 && errno != ENOENT) return reco_fail_errno(ctx, RECO_E_IO, "%s", o->state);
    for (size_t i = 0; i < n; i++) {
        char *path = reco_path_join(ctx, o->dir, made_here[i]);
        if (path) rmdir(path); /* refused where something is in it */
        reco_free(path);
    }
    return RECO_OK;
}

reco_status reco_output_commit(reco_ctx *ctx, reco_output *o, const reco_output_place *at)
{
    reco_provenance before, after;
    o->at = *at;
    if (at->rows == 0) return leave_nothing(ctx, o);
    RECO_TRY(join_metadata(ctx, o));
    RECO_TRY(provenance(ctx, o, &before, &after));
    RECO_TRY(reco_provenance_write(ctx, o->dir, &before));
    reco_npy_writer *rows = o->rows;
    reco_file *metadata = o->metadata;
    o->rows = NULL;
    RECO_TRY(reco_npy_commit(ctx, rows));
    o->metadata = NULL;
    RECO_TRY(reco_file_commit(ctx, metadata));
    RECO_TRY(reco_provenance_write(ctx, o->dir, &after));
    if (o->failures.count == 0) {
        reco_file_discard(o->failures.file);
        o->failures.file = NULL;
    }
    RECO_TRY(reco_failures_commit(ctx, &o->failures));
    if (unlink(o->state) != 0 && errno != ENOENT) return reco_fail_errno(ctx, RECO_E_IO, "%s", o->state);
    return RECO_OK;
}

void reco_output_abort(reco_output *o)
{
    close_parts(o);
    reco_failures_abort(&o->failures);
    reco_free(o->dir);
    reco_free(o->state);
    json_decref(o->job);
    *o = (reco_output){0};
}
