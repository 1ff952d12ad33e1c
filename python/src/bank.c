#include "core.h"

/* path, partial, recall */
static PyObject *bank_open(PyObject *module, PyObject *args)
{
    PyObject *path, *capsule = NULL;
    reco_bank *bank = NULL;
    reco_bank_open_opts opts = {0};
    reco_status status;
    if (!PyArg_ParseTuple(args, "O&pd", PyUnicode_FSConverter, &path, &opts.partial, &opts.recall))
        return NULL;
    call *c = call_begin(module, NULL);
    if (c) {
        WORK(c, status, reco_bank_open_with(c->ctx, &bank, PyBytes_AsString(path), &opts));
        if (call_end(c, status) == 0)
            capsule = wrap(bank, bank_name, NULL);
        else
            reco_bank_close(bank);
    }
    Py_DECREF(path);
    return capsule;
}

/* bank -> a newer one, or None where nothing was committed */
static PyObject *bank_refresh(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    const reco_bank *bank;
    reco_bank *newer = NULL;
    reco_status status;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(bank = unwrap(capsule, bank_name))) return NULL;
    call *c = call_begin(module, NULL);
    if (!c) return NULL;
    WORK(c, status, reco_bank_refresh(c->ctx, bank, &newer));
    if (call_end(c, status) != 0) {
        reco_bank_close(newer);
        return NULL;
    }
    return newer ? wrap(newer, bank_name, NULL) : Py_NewRef(Py_None);
}

static const field info_fields[] = {FIELD(reco_bank_info, format),
                                    FIELD(reco_bank_info, d),
                                    FIELD(reco_bank_info, rows),
                                    FIELD(reco_bank_info, deleted),
                                    FIELD(reco_bank_info, next_id),
                                    FIELD(reco_bank_info, segments),
                                    FIELD(reco_bank_info, scan_rows),
                                    FIELD(reco_bank_info, vector_bytes),
                                    FIELD(reco_bank_info, database_bytes),
                                    FIELD(reco_bank_info, complete),
                                    FIELD(reco_bank_info, logit_scale),
                                    FIELD(reco_bank_info, encoder),
                                    FIELD(reco_bank_info, fingerprint),
                                    FIELD(reco_bank_info, shards),
                                    FIELDS_END};

static PyObject *bank_info(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const reco_bank *bank;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(bank = unwrap(capsule, bank_name))) return NULL;
    reco_bank_info info = *reco_bank_get_info(bank);
    return fields_get(&info, info_fields);
}

/* bank -> the names of servers whose rows are missing from what is found at present */
static PyObject *bank_missing(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule, *names;
    const reco_bank *bank;
    const char *name;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(bank = unwrap(capsule, bank_name)) ||
        !(names = PyList_New(0)))
        return NULL;
    for (size_t i = 0; names && (name = reco_bank_missing_shard(bank, i)) != NULL; i++) {
        PyObject *text = text_from(name);
        if (!text || PyList_Append(names, text) != 0) Py_CLEAR(names);
        Py_XDECREF(text);
    }
    return names;
}

/* bank, recall -> what searches of either side can be expected to reach */
static PyObject *bank_recall(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const reco_bank *bank;
    reco_search_opts opts = {0};
    if (!PyArg_ParseTuple(args, "Of", &capsule, &opts.recall) || !(bank = unwrap(capsule, bank_name)))
        return NULL;
    float of_images = reco_bank_expected_recall(bank, RECO_IMAGE, &opts),
          of_texts = reco_bank_expected_recall(bank, RECO_TEXT, &opts);
    return PyFloat_FromDouble((double)(of_images < of_texts ? of_images : of_texts));
}

static bool to_search_opts(reco_search_opts *opts, PyObject *k, PyObject *least, PyObject *filter)
{
    float min;
    opts->k = PyLong_AsSize_t(k);
    if (PyErr_Occurred() || !to_float_or_nan(least, &min)) return false;
    opts->min_similarity = least == Py_None ? -1 : min;
    return unwrap_or_none(&opts->filter, filter, filter_name);
}

/* (places, size) of hits [nq][k] and queries [nq][d], checked; false with an exception. */
static bool sizes(const reco_bank *bank, Py_ssize_t nq, size_t k, size_t *places, size_t *numbers)
{
    size_t d = reco_bank_get_info(bank)->d;
    if (nq < 0 || k > RECO_BANK_MAX_K || (size_t)nq > (size_t)PY_SSIZE_T_MAX / 8 / (d + RECO_BANK_MAX_K)) {
        PyErr_Format(PyExc_ValueError, "%zd queries, k = %zu, want k of 1..%d", nq, k, RECO_BANK_MAX_K);
        return false;
    }
    *places = (size_t)nq * k;
    *numbers = (size_t)nq * d;
    return true;
}

/* bank, side, queries [nq][d], nq, k, least, filter, distinct, recall, ids [nq][k], scores [nq][k], hook */
static PyObject *bank_search(PyObject *module, PyObject *args)
{
    PyObject *capsule, *x, *k, *least, *filter, *to_ids, *to_scores, *hook;
    reco_side side;
    Py_ssize_t nq;
    int distinct, done = -1;
    const reco_bank *bank;
    reco_search_opts opts = {0};
    size_t places, numbers;
    if (!PyArg_ParseTuple(args, "OO&OnOOOpfOOO", &capsule, to_side, &side, &x, &nq, &k, &least, &filter,
                          &distinct, &opts.recall, &to_ids, &to_scores, &hook) ||
        !(bank = unwrap(capsule, bank_name)) || !to_search_opts(&opts, k, least, filter) ||
        !sizes(bank, nq, opts.k, &places, &numbers))
        return NULL;
    array queries = {0}, ids = {0}, scores = {0};
    reco_status status;
    reco_hits hits = {0};
    const float *q = array_take(&queries, x, 'f', numbers, false, "queries");
    if (q) hits.ids = array_take(&ids, to_ids, 'q', places, true, "ids");
    if (hits.ids) hits.scores = array_take(&scores, to_scores, 'f', places, true, "scores");
    call *c = hits.scores ? call_begin(module, hook) : NULL;
    if (!c) goto out;
    WORK(c, status,
         distinct ? reco_search_distinct(c->ctx, bank, side, q, (size_t)nq, &opts, &hits)
                  : reco_bank_search(c->ctx, bank, side, q, (size_t)nq, &opts, &hits));
    done = call_end(c, status);
out:
    array_drop(&queries);
    array_drop(&ids);
    array_drop(&scores);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* bank, own, side, queries, nq, k, least, filter, distinct, recall, fusion, sides, mixture (None: the layer's), ids, scores, plain, refined, hook */
static PyObject *bank_ask(PyObject *module, PyObject *args)
{
    PyObject *capsule, *k, *least, *filter, *layer, *mix, *x, *o[4], *hook;
    Py_ssize_t nq;
    int done = -1;
    reco_memory memory = RECO_MEMORY_INIT;
    reco_question question = {0};
    reco_search_opts search = {0};
    reco_find_opts find = {0};
    reco_mixture mixture;
    size_t places, numbers;
    if (!PyArg_ParseTuple(args, "OO&O&OnOOOpfOO&OOOOOO", &capsule, to_side, &question.side, to_side,
                          &find.in, &x, &nq, &k, &least, &filter, &find.distinct, &memory.recall, &layer,
                          to_sides, &memory.sides, &mix, &o[0], &o[1], &o[2], &o[3], &hook) ||
        !(memory.bank = unwrap(capsule, bank_name)) || !to_search_opts(&search, k, least, filter) ||
        !unwrap_or_none(&memory.fusion, layer, fusion_name) || !to_mixture(&mixture, mix) ||
        !sizes(memory.bank, nq, search.k, &places, &numbers))
        return NULL;
    memory.filter = search.filter;
    if (mix != Py_None) memory.mixture = &mixture;
    find.k = search.k;
    find.min_similarity = search.min_similarity;
    array queries = {0}, ids = {0}, scores = {0}, plain = {0}, refined = {0};
    reco_answer answer = {0};
    reco_status status;
    question.n = (size_t)nq;
    question.x = array_take(&queries, x, 'f', numbers, false, "queries");
    call *c = NULL;
    if (question.x && (answer.ids = array_take(&ids, o[0], 'q', places, true, "ids")) &&
        (answer.scores = array_take(&scores, o[1], 'f', places, true, "scores")) &&
        array_maybe(&plain, &answer.plain, o[2], 'f', places, true, "plain") &&
        array_maybe(&refined, &answer.refined, o[3], 'f', places, true, "refined"))
        c = call_begin(module, hook);
    if (!c) goto out;
    WORK(c, status, reco_ask(c->ctx, &memory, &question, &find, &answer));
    done = call_end(c, status);
out:
    array_drop(&queries);
    array_drop(&ids);
    array_drop(&scores);
    array_drop(&plain);
    array_drop(&refined);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* bank, side, ids [n], n, out [n][d] */
static PyObject *bank_gather(PyObject *module, PyObject *args)
{
    PyObject *capsule, *list, *rows;
    reco_side side;
    Py_ssize_t n;
    int done = -1;
    const reco_bank *bank;
    size_t places, numbers;
    if (!PyArg_ParseTuple(args, "OO&OnO", &capsule, to_side, &side, &list, &n, &rows) ||
        !(bank = unwrap(capsule, bank_name)) || !sizes(bank, n, 1, &places, &numbers))
        return NULL;
    array ids = {0}, out = {0};
    reco_status status;
    const int64_t *from = array_take(&ids, list, 'q', places, false, "ids");
    float *to = from ? array_take(&out, rows, 'f', numbers, true, "out") : NULL;
    call *c = to ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status, reco_bank_gather(c->ctx, bank, side, from, places, to));
    done = call_end(c, status);
out:
    array_drop(&ids);
    array_drop(&out);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* bank, where or None, from, max, ids [max], deleted -> n */
static PyObject *bank_select(PyObject *module, PyObject *args)
{
    PyObject *capsule, *list;
    const char *where;
    long long from;
    Py_ssize_t max;
    int deleted, done = -1;
    size_t n = 0;
    const reco_bank *bank;
    if (!PyArg_ParseTuple(args, "OzLnOp", &capsule, &where, &from, &max, &list, &deleted) ||
        !(bank = unwrap(capsule, bank_name)))
        return NULL;
    array ids = {0};
    reco_status status;
    int64_t *to = array_take(&ids, list, 'q', (size_t)max, true, "ids");
    call *c = to ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status,
         deleted ? reco_bank_select_deleted(c->ctx, bank, where, from, (size_t)max, to, &n)
                 : reco_bank_select(c->ctx, bank, where, from, (size_t)max, to, &n));
    done = call_end(c, status);
out:
    array_drop(&ids);
    return done == 0 ? PyLong_FromSize_t(n) : NULL;
}

static PyObject *row_from(const reco_pair *pair)
{
    return Py_BuildValue("LNNNN", (long long)pair->id, text_from(pair->caption), text_from(pair->uri),
                         text_from(pair->meta), text_from(pair->base));
}

/* bank, id -> (id, caption, uri, meta, base) */
static PyObject *bank_get(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    long long id;
    const reco_bank *bank;
    reco_pair pair = {0};
    reco_status status;
    if (!PyArg_ParseTuple(args, "OL", &capsule, &id) || !(bank = unwrap(capsule, bank_name))) return NULL;
    call *c = call_begin(module, NULL);
    if (!c) return NULL;
    WORK(c, status, reco_bank_get(c->ctx, bank, id, &pair));
    if (call_end(c, status) != 0) return NULL;
    PyObject *row = row_from(&pair);
    reco_pair_free(&pair);
    return row;
}

/* bank, ids (buffer), n -> [(id, caption, uri, meta, base), ...] */
static PyObject *bank_get_many(PyObject *module, PyObject *args)
{
    PyObject *capsule, *what, *rows = NULL;
    Py_ssize_t n;
    const reco_bank *bank;
    if (!PyArg_ParseTuple(args, "OOn", &capsule, &what, &n) || !(bank = unwrap(capsule, bank_name)))
        return NULL;
    array ids = {0};
    reco_status status;
    const int64_t *list = array_take(&ids, what, 'q', (size_t)n, false, "ids");
    reco_pair *pairs = list ? PyMem_Calloc((size_t)(n ? n : 1), sizeof *pairs) : NULL;
    if (list && !pairs) PyErr_NoMemory();
    call *c = pairs ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status, reco_bank_get_many(c->ctx, bank, list, (size_t)n, pairs));
    if (call_end(c, status) != 0) goto out;
    rows = PyList_New(n);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *row = rows ? row_from(&pairs[i]) : NULL;
        if (rows && (!row || PyList_SetItem(rows, i, row) != 0)) Py_CLEAR(rows);
        reco_pair_free(&pairs[i]);
    }
out:
    PyMem_Free(pairs);
    array_drop(&ids);
    return rows;
}

/* bank, where (str), or ids (buffer), n -> filter */
static PyObject *bank_filter(PyObject *module, PyObject *args)
{
    PyObject *capsule, *what;
    Py_ssize_t n;
    int done = -1;
    const reco_bank *bank;
    if (!PyArg_ParseTuple(args, "OOn", &capsule, &what, &n) || !(bank = unwrap(capsule, bank_name)))
        return NULL;
    array ids = {0};
    strings where = {0};
    reco_bank_filter *filter = NULL;
    reco_status status;
    const int64_t *list = NULL;
    call *c = NULL;
    if (PyUnicode_Check(what)) {
        PyObject *one = PyTuple_Pack(1, what);
        if (one && strings_take(&where, one, false, "where")) c = call_begin(module, NULL);
        Py_XDECREF(one);
    } else if ((list = array_take(&ids, what, 'q', (size_t)n, false, "ids"))) {
        c = call_begin(module, NULL);
    }
    if (!c) goto out;
    WORK(c, status,
         list ? reco_bank_filter_ids(c->ctx, &filter, bank, list, (size_t)n)
              : reco_bank_filter_where(c->ctx, &filter, bank, where.items[0]));
    done = call_end(c, status);
out:
    array_drop(&ids);
    strings_drop(&where);
    if (done == 0) return wrap(filter, filter_name, capsule);
    reco_bank_filter_free(filter);
    return NULL;
}

static PyObject *bank_filter_count(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const reco_bank_filter *filter;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(filter = unwrap(capsule, filter_name))) return NULL;
    return PyLong_FromSize_t(reco_bank_filter_count(filter));
}

PyMethodDef bank_methods[] = {{"bank_open", bank_open, METH_VARARGS, NULL},
                              {"bank_refresh", bank_refresh, METH_VARARGS, NULL},
                              {"bank_info", bank_info, METH_VARARGS, NULL},
                              {"bank_missing", bank_missing, METH_VARARGS, NULL},
                              {"bank_recall", bank_recall, METH_VARARGS, NULL},
                              {"bank_search", bank_search, METH_VARARGS, NULL},
                              {"bank_ask", bank_ask, METH_VARARGS, NULL},
                              {"bank_gather", bank_gather, METH_VARARGS, NULL},
                              {"bank_select", bank_select, METH_VARARGS, NULL},
                              {"bank_get", bank_get, METH_VARARGS, NULL},
                              {"bank_get_many", bank_get_many, METH_VARARGS, NULL},
                              {"bank_filter", bank_filter, METH_VARARGS, NULL},
                              {"bank_filter_count", bank_filter_count, METH_VARARGS, NULL},
                              {NULL, NULL, 0, NULL}};
