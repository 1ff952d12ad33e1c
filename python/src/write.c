#include "core.h"

#include <string.h>

/* ---- from files ---- */

static const field result_fields[] = {FIELD(reco_stream_result, rows),
                                      FIELD(reco_stream_result, failures),
                                      FIELD(reco_stream_result, embedded),
                                      FIELD(reco_stream_result, duplicates),
                                      FIELD(reco_stream_result, near_duplicates),
                                      FIELD(reco_stream_result, resumed),
                                      FIELD(reco_stream_result, repaired),
                                      FIELD(reco_stream_result, truncated),
                                      FIELD(reco_stream_result, dropped),
                                      FIELD(reco_stream_result, pictures),
                                      FIELD(reco_stream_result, texts),
                                      FIELD(reco_stream_result, changed),
                                      FIELD(reco_stream_result, seconds),
                                      FIELDS_END};
static const field ingest_fields[] = {{"batch", FIELD_SIZE, offsetof(reco_ingest_opts, embed.batch)},
                                      {"shard", FIELD_UINT, offsetof(reco_ingest_opts, shard.number)},
                                      {"shards", FIELD_UINT, offsetof(reco_ingest_opts, shard.of)},
                                      FIELD(reco_ingest_opts, dedup),
                                      FIELD(reco_ingest_opts, commit),
                                      FIELD(reco_ingest_opts, several_captions),
                                      FIELDS_END};

/* kind ("pairs", "tars", "embeddings", "update"), model or None, sources [n], bank, build, options, key, columns (image, text), hook
 * -> (result, failures) */
static PyObject *bank_ingest(PyObject *module, PyObject *args)
{
    static const char *const kinds[] = {"pairs", "tars", "embeddings", "update", NULL};
    PyObject *kind, *m, *sequence, *path, *dict, *hook, *failures = NULL, *answer = NULL;
    const char *key;
    reco_table_opts table = {0};
    reco_ingest_opts opts = {.embed = {.failure = call_failure}, .table = &table};
    reco_stream_result result = {0};
    int build, which;
    if (!PyArg_ParseTuple(args, "UOOO&pOz(zz)O", &kind, &m, &sequence, PyUnicode_FSConverter, &path, &build,
                          &dict, &key, &table.image_column, &table.text_column, &hook))
        return NULL;
    strings sources = {0};
    const reco_model *model;
    reco_status status;
    call *c = NULL;
    const char *bank = PyBytes_AsString(path);
    if ((which = enum_value(kind, kinds, "kind")) >= 0 && unwrap_or_none(&model, m, model_name) &&
        strings_take(&sources, sequence, false, "source") &&
        fields_set(&opts, ingest_fields, dict, "a bank") && (failures = PyList_New(0)))
        c = call_begin(module, hook);
    if (!c) goto out;
    c->failures = failures;
    opts.embed.user = c;
    const char *one = sources.n ? sources.items[0] : "";
    WORK(c, status,
         which == 0 ? reco_bank_ingest_pairs(c->ctx, model, one, bank, build, &opts, &result)
         : which == 1
             ? reco_bank_ingest_tars(c->ctx, model, sources.items, sources.n, bank, build, &opts, &result)
         : which == 2 ? reco_bank_ingest_embeddings(c->ctx, model, one, bank, build, &opts, &result)
                      : reco_bank_update_pairs(c->ctx, model, one, bank, key, &opts, &result));
    if (call_end(c, status) == 0)
        answer = Py_BuildValue("NO", fields_get(&result, result_fields), failures);
out:
    Py_XDECREF(failures);
    strings_drop(&sources);
    Py_DECREF(path);
    return answer;
}

/* ---- from memory ---- */

/* bank, spec (d, encoder, fingerprint, logit_scale) or None, job -> writer */
static PyObject *writer_open(PyObject *module, PyObject *args)
{
    PyObject *path, *s, *capsule = NULL;
    const char *job;
    reco_bank_spec spec = {0};
    reco_bank_writer *writer = NULL;
    reco_status status;
    uint64_t next;
    int done;
    if (!PyArg_ParseTuple(args, "O&Os", PyUnicode_FSConverter, &path, &s, &job)) return NULL;
    call *c = NULL;
    if (s == Py_None ||
        PyArg_ParseTuple(s, "kzzf", &spec.d, &spec.encoder, &spec.fingerprint, &spec.logit_scale))
        c = call_begin(module, NULL);
    if (c) {
        WORK(c, status,
             reco_bank_writer_open(c->ctx, &writer, PyBytes_AsString(path), s == Py_None ? NULL : &spec,
                                   job, &next, &done));
        if (call_end(c, status) == 0)
            capsule = wrap(writer, writer_name, NULL);
        else
            reco_bank_writer_close(writer);
    }
    Py_DECREF(path);
    return capsule;
}

/* writer, d, image [n][d], text [n][d], captions [n], uris [n] or None, metas [n] or None */
static PyObject *writer_append(PyObject *module, PyObject *args)
{
    PyObject *capsule, *x[2], *list[3];
    Py_ssize_t d;
    if (!PyArg_ParseTuple(args, "OnOOOOO", &capsule, &d, &x[0], &x[1], &list[0], &list[1], &list[2]))
        return NULL;
    reco_bank_writer *w = (reco_bank_writer *)(uintptr_t)unwrap(capsule, writer_name);
    if (!w) return NULL;
    strings captions = {0}, uris = {0}, metas = {0};
    array image = {0}, text = {0};
    reco_pair *pairs = NULL;
    int done = -1;
    reco_status status;
    if (!strings_take(&captions, list[0], false, "caption") || !strings_take(&uris, list[1], true, "uri") ||
        !strings_take(&metas, list[2], true, "meta"))
        goto out;
    size_t n = captions.n;
    if (uris.n != n || metas.n != n || d < 1 || d > RECO_BANK_MAX_WIDTH) {
        PyErr_Format(PyExc_ValueError, "%zu captions, %zu uris, %zu metas of width %zd", n, uris.n, metas.n,
                     d);
        goto out;
    }
    const float *v = array_take(&image, x[0], 'f', n * (size_t)d, false, "image embeddings"),
                *t = v ? array_take(&text, x[1], 'f', n * (size_t)d, false, "text embeddings") : NULL;
    if (!t) goto out;
    pairs = PyMem_Calloc(n + 1, sizeof *pairs);
    if (!pairs) {
        PyErr_NoMemory();
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        pairs[i] = (reco_pair){.caption = captions.items[i], .uri = uris.items[i], .meta = metas.items[i]};
    call *c = call_begin(module, NULL);
    if (!c) goto out;
    WORK(c, status, reco_bank_append(c->ctx, w, v, t, pairs, n));
    done = call_end(c, status);
out:
    PyMem_Free(pairs);
    array_drop(&image);
    array_drop(&text);
    strings_drop(&captions);
    strings_drop(&uris);
    strings_drop(&metas);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *writer_commit(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    unsigned long long next;
    int finished;
    if (!PyArg_ParseTuple(args, "OKp", &capsule, &next, &finished)) return NULL;
    reco_bank_writer *w = (reco_bank_writer *)(uintptr_t)unwrap(capsule, writer_name);
    call *c = w ? call_begin(module, NULL) : NULL;
    reco_status status;
    if (!c) return NULL;
    WORK(c, status, reco_bank_commit(c->ctx, w, next, finished));
    return call_end(c, status) == 0 ? Py_NewRef(Py_None) : NULL;
}

/* Take back a bank that the writer began and that never had a row; the writer is closed whatever happens. */
static PyObject *writer_discard(PyObject *module, PyObject *args)
{
    static const char closed[] = "reco.closed";
    PyObject *capsule;
    if (!PyArg_ParseTuple(args, "O", &capsule)) return NULL;
    reco_bank_writer *w = (reco_bank_writer *)(uintptr_t)unwrap(capsule, writer_name);
    call *c = w ? call_begin(module, NULL) : NULL;
    reco_status status;
    if (!c) return NULL;
    PyCapsule_SetName(capsule, closed); /* so that nothing frees it again */
    WORK(c, status, reco_bank_writer_discard(c->ctx, w));
    return call_end(c, status) == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- deletion ---- */

/* bank, restore, ids [n] or None, n, uris, where or None -> rows */
static PyObject *bank_delete(PyObject *module, PyObject *args)
{
    PyObject *path, *list, *names;
    const char *where;
    Py_ssize_t n;
    int restore, done = -1;
    if (!PyArg_ParseTuple(args, "O&pOnOz", PyUnicode_FSConverter, &path, &restore, &list, &n, &names,
                          &where))
        return NULL;
    array ids = {0};
    strings uris = {0};
    reco_delete_result result = {0};
    reco_status status;
    const int64_t *which;
    call *c = NULL;
    if (array_maybe(&ids, &which, list, 'q', (size_t)n, false, "ids") &&
        strings_take(&uris, names, false, "uri"))
        c = call_begin(module, NULL);
    if (!c) goto out;
    const reco_bank_rows rows = {
        .ids = which, .nids = which ? (size_t)n : 0, .uris = uris.items, .nuris = uris.n, .where = where};
    const reco_delete_opts opts = {.restore = restore, .sure = 1};
    WORK(c, status, reco_bank_delete(c->ctx, PyBytes_AsString(path), &rows, &opts, &result));
    done = call_end(c, status);
out:
    array_drop(&ids);
    strings_drop(&uris);
    Py_DECREF(path);
    return done == 0 ? PyLong_FromUnsignedLongLong(result.rows) : NULL;
}

/* ---- upkeep ---- */

static const field compact_fields[] = {
    FIELD(reco_compact_result, rows),     FIELD(reco_compact_result, removed),
    FIELD(reco_compact_result, copied),   FIELD(reco_compact_result, segments_before),
    FIELD(reco_compact_result, segments), FIELD(reco_compact_result, bytes_before),
    FIELD(reco_compact_result, bytes),    FIELDS_END};

static PyObject *bank_compact(PyObject *module, PyObject *args)
{
    PyObject *path, *hook, *answer = NULL;
    reco_compact_result result = {0};
    reco_status status;
    if (!PyArg_ParseTuple(args, "O&O", PyUnicode_FSConverter, &path, &hook)) return NULL;
    call *c = call_begin(module, hook);
    if (c) {
        WORK(c, status, reco_bank_compact(c->ctx, PyBytes_AsString(path), NULL, &result));
        if (call_end(c, status) == 0) answer = fields_get(&result, compact_fields);
    }
    Py_DECREF(path);
    return answer;
}

static const field merge_fields[] = {FIELD(reco_merge_result, rows),
                                     FIELD(reco_merge_result, deleted),
                                     FIELD(reco_merge_result, duplicates),
                                     FIELD(reco_merge_result, replaced),
                                     FIELD(reco_merge_result, refused),
                                     FIELD(reco_merge_result, segments),
                                     FIELD(reco_merge_result, linked),
                                     FIELD(reco_merge_result, copied),
                                     FIELD(reco_merge_result, rewritten),
                                     FIELD_OF(reco_merge_result, bytes, FIELD_LONG),
                                     FIELD_OF(reco_merge_result, already, FIELD_BOOL),
                                     FIELDS_END};

/* out, banks [n], several captions, hook -> result */
static PyObject *bank_merge(PyObject *module, PyObject *args)
{
    PyObject *out, *sequence, *hook, *answer = NULL;
    reco_merge_opts opts = {0};
    reco_merge_result result = {0};
    reco_status status;
    strings banks = {0};
    if (!PyArg_ParseTuple(args, "O&OpO", PyUnicode_FSConverter, &out, &sequence, &opts.several_captions,
                          &hook))
        return NULL;
    call *c = strings_take(&banks, sequence, false, "banks") ? call_begin(module, hook) : NULL;
    if (c) {
        WORK(c, status,
             reco_bank_merge(c->ctx, PyBytes_AsString(out), banks.items, banks.n, &opts, &result));
        if (call_end(c, status) == 0) answer = fields_get(&result, merge_fields);
    }
    strings_drop(&banks);
    Py_DECREF(out);
    return answer;
}

typedef struct problems {
    call *c;
    PyObject *list;
} problems;

static void note_problem(void *user, const reco_bank_problem *p)
{
    problems *all = user;
    PyEval_RestoreThread(all->c->thread);
    PyObject *entry = Py_BuildValue("NNLLLL", text_from(p->file), text_from(p->what), (long long)p->offset,
                                    (long long)p->bytes, (long long)p->id, (long long)p->rows);
    if (entry) PyList_Append(all->list, entry);
    Py_XDECREF(entry);
    all->c->thread = PyEval_SaveThread();
}

/* bank, hook -> [(file, what, offset, bytes, id, rows)] */
static PyObject *bank_verify(PyObject *module, PyObject *args)
{
    PyObject *path, *hook;
    reco_status status;
    int done = -1;
    if (!PyArg_ParseTuple(args, "O&O", PyUnicode_FSConverter, &path, &hook)) return NULL;
    problems all = {.list = PyList_New(0)};
    if (all.list && (all.c = call_begin(module, hook))) {
        WORK(all.c, status, reco_bank_verify(all.c->ctx, PyBytes_AsString(path), note_problem, &all, NULL));
        done = call_end(all.c, status);
    }
    Py_DECREF(path);
    if (done != 0) Py_CLEAR(all.list);
    return all.list;
}

/* bank, out, where or None, pairs, hook -> rows */
static PyObject *bank_export(PyObject *module, PyObject *args)
{
    PyObject *capsule, *path, *hook;
    const char *where;
    int pairs, done = -1;
    uint64_t rows = 0;
    reco_status status;
    if (!PyArg_ParseTuple(args, "OO&zpO", &capsule, PyUnicode_FSConverter, &path, &where, &pairs, &hook))
        return NULL;
    const reco_bank *bank = unwrap(capsule, bank_name);
    call *c = bank ? call_begin(module, hook) : NULL;
    if (c) {
        const char *out = PyBytes_AsString(path);
        WORK(c, status,
             pairs ? reco_bank_export_pairs(c->ctx, bank, out, where, &rows)
                   : reco_bank_export(c->ctx, bank, out, where, &rows));
        done = call_end(c, status);
    }
    Py_DECREF(path);
    return done == 0 ? PyLong_FromUnsignedLongLong(rows) : NULL;
}

PyMethodDef write_methods[] = {{"bank_ingest", bank_ingest, METH_VARARGS, NULL},
                               {"writer_open", writer_open, METH_VARARGS, NULL},
                               {"writer_append", writer_append, METH_VARARGS, NULL},
                               {"writer_commit", writer_commit, METH_VARARGS, NULL},
                               {"writer_discard", writer_discard, METH_VARARGS, NULL},
                               {"bank_delete", bank_delete, METH_VARARGS, NULL},
                               {"bank_compact", bank_compact, METH_VARARGS, NULL},
                               {"bank_merge", bank_merge, METH_VARARGS, NULL},
                               {"bank_verify", bank_verify, METH_VARARGS, NULL},
                               {"bank_export", bank_export, METH_VARARGS, NULL},
                               {NULL, NULL, 0, NULL}};
