#include "core.h"

static PyObject *list_of(const char *const *items, size_t n)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *text = text_from(items[i]);
        if (!text || PyList_Append(list, text) != 0) Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

/* names, model, merge -> (classes, names [count], the class of each name given) */
static PyObject *classes_open(PyObject *module, PyObject *args)
{
    PyObject *sequence, *m, *answer = NULL, *of = NULL;
    int merge;
    const reco_model *model;
    if (!PyArg_ParseTuple(args, "OOp", &sequence, &m, &merge) || !(model = unwrap(m, model_name)))
        return NULL;
    strings names = {0};
    reco_class_list *list = NULL;
    reco_status status;
    call *c = strings_take(&names, sequence, false, "class") ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status, reco_class_list_from(c->ctx, &list, names.items, names.n, "classes"));
    if (status == RECO_OK) WORK(c, status, reco_class_list_settle(c->ctx, list, model, merge));
    if (call_end(c, status) != 0) goto out;
    size_t n = reco_class_list_count(list), all = n + reco_class_list_merged(list);
    of = PyList_New(0);
    for (size_t i = 0; of && i < all; i++) {
        PyObject *number = PyLong_FromUnsignedLong(reco_class_list_of(list)[i]);
        if (!number || PyList_Append(of, number) != 0) Py_CLEAR(of);
        Py_XDECREF(number);
    }
    PyObject *shown = list_of(reco_class_list_names(list), n), *capsule = wrap(list, classes_name, NULL);
    list = NULL;
    if (of && shown && capsule) answer = PyTuple_Pack(3, capsule, shown, of);
    Py_XDECREF(shown);
    Py_XDECREF(capsule);
out:
    Py_XDECREF(of);
    reco_class_list_free(list);
    strings_drop(&names);
    return answer;
}

/* classes, model, bank or None, fusion or None, templates [m], k, least, filter, plain [n][d], refined [n][d] or None, hook -> truncated */
static PyObject *classes_embed(PyObject *module, PyObject *args)
{
    PyObject *l, *m, *b, *f, *sequence, *k, *least, *filter, *o[2], *hook;
    const reco_model *model;
    const reco_bank *bank;
    const reco_fusion *fusion;
    reco_memory memory;
    int done = -1;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOOO", &l, &m, &b, &f, &sequence, &k, &least, &filter, &o[0], &o[1],
                          &hook))
        return NULL;
    reco_class_list *list = (reco_class_list *)(uintptr_t)unwrap(l, classes_name);
    if (!list || !(model = unwrap(m, model_name)) || !unwrap_or_none(&bank, b, bank_name) ||
        !unwrap_or_none(&fusion, f, fusion_name) || !to_memory(&memory, k, least, filter))
        return NULL;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.sides = fusion ? RECO_SIDES_TEXT : RECO_SIDES_NONE;
    strings templates = {0};
    array plain = {0}, refined = {0};
    uint64_t truncated = 0;
    size_t cells = reco_class_list_count(list) * reco_model_get_info(model).d;
    reco_status status;
    float *x, *y;
    call *c = NULL;
    if (strings_take(&templates, sequence, false, "template") &&
        (x = array_take(&plain, o[0], 'f', cells, true, "plain")) &&
        array_maybe(&refined, &y, o[1], 'f', cells, true, "refined"))
        c = call_begin(module, hook);
    if (!c) goto out;
    WORK(c, status,
         reco_class_list_embed(c->ctx, list, model, &memory, templates.items, templates.n, x, y,
                               &truncated));
    done = call_end(c, status);
out:
    strings_drop(&templates);
    array_drop(&plain);
    array_drop(&refined);
    return done == 0 ? PyLong_FromUnsignedLongLong(truncated) : NULL;
}

/* classes, model, bank, ids [n], n, out uint32 [n] */
static PyObject *classes_votes(PyObject *module, PyObject *args)
{
    PyObject *l, *m, *b, *rows, *to;
    Py_ssize_t n;
    const reco_class_list *list;
    const reco_model *model;
    const reco_bank *bank;
    int done = -1;
    if (!PyArg_ParseTuple(args, "OOOOnO", &l, &m, &b, &rows, &n, &to) ||
        !(list = unwrap(l, classes_name)) || !(model = unwrap(m, model_name)) ||
        !(bank = unwrap(b, bank_name)))
        return NULL;
    array ids = {0}, of = {0};
    reco_status status;
    const int64_t *which = array_take(&ids, rows, 'q', (size_t)n, false, "ids");
    uint32_t *out = which ? array_take(&of, to, 'I', (size_t)n, true, "of") : NULL;
    call *c = out ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status, reco_class_list_votes(c->ctx, list, model, bank, which, (size_t)n, out));
    done = call_end(c, status);
out:
    array_drop(&ids);
    array_drop(&of);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* classes, index, model, bank, fusion, templates, k, filter, ids [k], scores [k], weights [k+1] -> count */
static PyObject *classes_weigh(PyObject *module, PyObject *args)
{
    PyObject *l, *m, *b, *f, *sequence, *k, *filter, *o[3];
    Py_ssize_t at;
    const reco_class_list *list;
    const reco_model *model;
    const reco_bank *bank;
    const reco_fusion *fusion;
    reco_memory memory;
    int done = -1;
    if (!PyArg_ParseTuple(args, "OnOOOOOOOOO", &l, &at, &m, &b, &f, &sequence, &k, &filter, &o[0], &o[1],
                          &o[2]) ||
        !(list = unwrap(l, classes_name)) || !(model = unwrap(m, model_name)) ||
        !(bank = unwrap(b, bank_name)) || !(fusion = unwrap(f, fusion_name)) ||
        !to_memory(&memory, k, Py_None, filter))
        return NULL;
    if (at < 0 || (size_t)at >= reco_class_list_count(list)) {
        PyErr_Format(PyExc_IndexError, "class %zd of %zu", at, reco_class_list_count(list));
        return NULL;
    }
    memory.bank = bank;
    memory.fusion = fusion;
    memory.sides = RECO_SIDES_TEXT;
    size_t reach = memory.k ? memory.k : reco_fusion_get_config(fusion).k, count = 0;
    strings templates = {0};
    array ids = {0}, scores = {0}, weights = {0};
    reco_refined out = {.hits.counts = &count};
    reco_status status;
    call *c = NULL;
    if (strings_take(&templates, sequence, false, "template") &&
        (out.hits.ids = array_take(&ids, o[0], 'q', reach, true, "ids")) &&
        (out.hits.scores = array_take(&scores, o[1], 'f', reach, true, "scores")))
        out.weights = array_take(&weights, o[2], 'f', reach + 1, true, "weights");
    if (out.weights) c = call_begin(module, NULL);
    if (!c) goto out;
    WORK(c, status,
         reco_class_neighbours(c->ctx, model, &memory, reco_class_list_texts(list)[at], templates.items,
                               templates.n, &out));
    done = call_end(c, status);
out:
    strings_drop(&templates);
    array_drop(&ids);
    array_drop(&scores);
    array_drop(&weights);
    return done == 0 ? PyLong_FromSize_t(count) : NULL;
}

PyMethodDef class_methods[] = {{"classes_open", classes_open, METH_VARARGS, NULL},
                               {"classes_embed", classes_embed, METH_VARARGS, NULL},
                               {"classes_votes", classes_votes, METH_VARARGS, NULL},
                               {"classes_weigh", classes_weigh, METH_VARARGS, NULL},
                               {NULL, NULL, 0, NULL}};
