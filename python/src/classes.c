#include "core.h"

#include <string.h>

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

/* A classifier, and what it borrows that no other object keeps. */
typedef struct naming {
    reco_classifier *classifier;
    strings templates;
    reco_mixture mixture;
    size_t n, d, k, reach; /* classes, width; neighbours that are fused, that are listed */
} naming;

void naming_free(void *object)
{
    naming *n = object;
    if (!n) return;
    reco_classifier_free(n->classifier);
    strings_drop(&n->templates);
    PyMem_Free(n);
}

/* classes, model, bank or None, fusion or None, templates [m], sides, mixture or None, k, filter, hook -> (classifier, truncated, reach) */
static PyObject *classifier_make(PyObject *module, PyObject *args)
{
    PyObject *l, *m, *b, *f, *sequence, *mixture, *k, *filter, *hook, *keep = NULL;
    const reco_model *model;
    const reco_bank *bank;
    const reco_fusion *fusion;
    const reco_class_list *list;
    reco_memory memory;
    reco_sides sides;
    reco_settings settings;
    uint64_t truncated = 0;
    reco_status status;
    int done = -1;
    if (!PyArg_ParseTuple(args, "OOOOOO&OOOO", &l, &m, &b, &f, &sequence, to_sides, &sides, &mixture, &k,
                          &filter, &hook) ||
        !(list = unwrap(l, classes_name)) || !(model = unwrap(m, model_name)) ||
        !unwrap_or_none(&bank, b, bank_name) || !unwrap_or_none(&fusion, f, fusion_name) ||
        !to_memory(&memory, k, Py_None, filter))
        return NULL;
    naming *n = PyMem_Calloc(1, sizeof *n);
    if (!n) return PyErr_NoMemory();
    memory.bank = bank;
    memory.fusion = fusion;
    memory.sides = sides;
    memory.mixture = &n->mixture;
    call *c = NULL;
    if (to_mixture(&n->mixture, mixture) && strings_take(&n->templates, sequence, false, "template") &&
        (keep = PyTuple_Pack(5, l, m, b, f, filter)))
        c = call_begin(module, hook);
    if (c) {
        n->n = reco_class_list_count(list);
        n->d = reco_model_get_info(model).d;
        reco_candidates among = {.n = n->n,
                                 .d = n->d,
                                 .list = list,
                                 .model = model,
                                 .templates = n->templates.items,
                                 .m = n->templates.n};
        WORK(c, status,
             reco_classifier_create(c->ctx, &n->classifier, bank ? &memory : NULL, &among, &truncated));
        done = call_end(c, status);
    }
    if (done != 0) {
        naming_free(n);
        Py_XDECREF(keep);
        return NULL;
    }
    reco_classifier_settings(n->classifier, &settings);
    n->k = settings.k;
    if (settings.refines || settings.voters)
        n->reach = settings.voters > settings.k ? settings.voters : settings.k;
    size_t reach = n->reach;
    PyObject *capsule = wrap(n, classifier_name, keep);
    Py_XDECREF(keep);
    return capsule ? Py_BuildValue("(NKn)", capsule, (unsigned long long)truncated, (Py_ssize_t)reach)
                   : NULL;
}

/* classifier, plain [c][d], refined [c][d] */
static PyObject *classifier_rows(PyObject *module, PyObject *args)
{
    PyObject *o, *to[2];
    const naming *n;
    array out[2] = {0};
    bool good = true;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOO", &o, &to[0], &to[1]) || !(n = unwrap(o, classifier_name)))
        return NULL;
    for (int i = 0; i < 2 && good; i++) {
        float *rows = array_take(&out[i], to[i], 'f', n->n * n->d, true, "rows");
        const float *from =
            i ? reco_classifier_refined(n->classifier) : reco_classifier_plain(n->classifier);
        good = rows != NULL;
        if (good) memcpy(rows, from, n->n * n->d * sizeof *rows);
    }
    array_drop(&out[0]);
    array_drop(&out[1]);
    return good ? Py_NewRef(Py_None) : NULL;
}

static reco_status ask(reco_ctx *ctx, const naming *n, const reco_question *question, float *all,
                       float *refined, reco_hits hits)
{
    reco_findings found;
    reco_status status = reco_classifier_ask(ctx, n->classifier, question, NULL, &found);
    if (status != RECO_OK) return status;
    status = reco_classifier_rank(ctx, n->classifier, &found, NULL, &(reco_ranking){.all = all});
    memcpy(refined, found.refined, found.n * n->d * sizeof *refined);
    memcpy(hits.ids, found.ids, found.n * found.reach * sizeof *hits.ids);
    memcpy(hits.scores, found.scores, found.n * found.reach * sizeof *hits.scores);
    memcpy(hits.counts, found.counts, found.n * sizeof *hits.counts);
    reco_findings_free(&found);
    return status;
}

/* classifier, pictures [n][d], n, probabilities [n][c], refined [n][d], ids [n][reach], scores [n][reach], counts [n], hook */
static PyObject *classifier_ask(PyObject *module, PyObject *args)
{
    PyObject *o, *x, *to[5], *hook;
    Py_ssize_t count;
    const naming *n;
    int done = -1;
    if (!PyArg_ParseTuple(args, "OOnOOOOOO", &o, &x, &count, &to[0], &to[1], &to[2], &to[3], &to[4],
                          &hook) ||
        !(n = unwrap(o, classifier_name)))
        return NULL;
    size_t rows = (size_t)count;
    array in = {0}, out[5] = {0};
    reco_question question = {.side = RECO_IMAGE, .n = rows};
    float *all = NULL, *refined = NULL;
    reco_hits hits = {0};
    reco_status status;
    call *c = NULL;
    if ((question.x = array_take(&in, x, 'f', rows * n->d, false, "pictures")) &&
        (all = array_take(&out[0], to[0], 'f', rows * n->n, true, "probabilities")) &&
        (refined = array_take(&out[1], to[1], 'f', rows * n->d, true, "refined")) &&
        (hits.ids = array_take(&out[2], to[2], 'q', rows * n->reach, true, "ids")) &&
        (hits.scores = array_take(&out[3], to[3], 'f', rows * n->reach, true, "scores")) &&
        (hits.counts = array_take(&out[4], to[4], 'q', rows, true, "counts")))
        c = call_begin(module, hook);
    if (c) {
        WORK(c, status, ask(c->ctx, n, &question, all, refined, hits));
        done = call_end(c, status);
    }
    array_drop(&in);
    for (int i = 0; i < 5; i++) array_drop(&out[i]);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* classifier, index, ids [k], scores [k], weights [k+1] -> count */
static PyObject *classifier_weigh(PyObject *module, PyObject *args)
{
    PyObject *object, *o[3];
    Py_ssize_t at;
    const naming *n;
    int done = -1;
    if (!PyArg_ParseTuple(args, "OnOOO", &object, &at, &o[0], &o[1], &o[2]) ||
        !(n = unwrap(object, classifier_name)))
        return NULL;
    if (at < 0 || (size_t)at >= n->n) {
        PyErr_Format(PyExc_IndexError, "class %zd of %zu", at, n->n);
        return NULL;
    }
    size_t count = 0;
    array ids = {0}, scores = {0}, weights = {0};
    reco_refined out = {.hits.counts = &count};
    reco_status status;
    call *c = NULL;
    if ((out.hits.ids = array_take(&ids, o[0], 'q', n->k, true, "ids")) &&
        (out.hits.scores = array_take(&scores, o[1], 'f', n->k, true, "scores")) &&
        (out.weights = array_take(&weights, o[2], 'f', n->k + 1, true, "weights")))
        c = call_begin(module, NULL);
    if (c) {
        WORK(c, status, reco_classifier_neighbours(c->ctx, n->classifier, (size_t)at, &out));
        done = call_end(c, status);
    }
    array_drop(&ids);
    array_drop(&scores);
    array_drop(&weights);
    return done == 0 ? PyLong_FromSize_t(count) : NULL;
}

PyMethodDef class_methods[] = {{"classes_open", classes_open, METH_VARARGS, NULL},
                               {"classifier_make", classifier_make, METH_VARARGS, NULL},
                               {"classifier_rows", classifier_rows, METH_VARARGS, NULL},
                               {"classifier_ask", classifier_ask, METH_VARARGS, NULL},
                               {"classifier_weigh", classifier_weigh, METH_VARARGS, NULL},
                               {NULL, NULL, 0, NULL}};
