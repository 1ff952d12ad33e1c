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

/* A classifier, and what it borrows. */
struct classifier {
    reco_classifier *classifier;
    reco_memory memory;
    reco_mixture mixture;
    reco_candidates candidates;
    strings templates;
    PyObject *owners; /* of the library's objects */
};

void classifier_drop(struct classifier *self)
{
    reco_classifier_free(self->classifier);
    strings_drop(&self->templates);
    Py_XDECREF(self->owners);
    PyMem_Free(self);
}

static const struct classifier *get(PyObject *capsule) { return unwrap(capsule, classifier_name); }

/* classes, model, templates, bank or None, fusion or None, k, least, filter, recall, sides, mixture (None: the layer's), hook
 * -> (classifier, truncated) */
static PyObject *classifier_create(PyObject *module, PyObject *args)
{
    PyObject *l, *m, *sequence, *b, *f, *k, *least, *filter, *mix, *hook, *capsule = NULL;
    reco_sides sides;
    uint64_t truncated = 0;
    float recall;
    reco_status status;
    if (!PyArg_ParseTuple(args, "OOOOOOOOfO&OO", &l, &m, &sequence, &b, &f, &k, &least, &filter, &recall,
                          to_sides, &sides, &mix, &hook))
        return NULL;
    struct classifier *self = PyMem_Calloc(1, sizeof *self);
    if (!self) return PyErr_NoMemory();
    reco_candidates *candidates = &self->candidates;
    call *c = NULL;
    if (to_memory(&self->memory, k, least, filter, recall) &&
        (candidates->list = unwrap(l, classes_name)) && (candidates->model = unwrap(m, model_name)) &&
        unwrap_or_none(&self->memory.bank, b, bank_name) &&
        unwrap_or_none(&self->memory.fusion, f, fusion_name) && to_mixture(&self->mixture, mix) &&
        strings_take(&self->templates, sequence, false, "template") &&
        (self->owners = PyTuple_Pack(5, l, m, b, f, filter)))
        c = call_begin(module, hook);
    if (c) {
        candidates->n = reco_class_list_count(candidates->list);
        candidates->d = reco_model_get_info(candidates->model)->d;
        candidates->templates = self->templates.items;
        candidates->m = self->templates.n;
        self->memory.sides = sides;
        if (mix != Py_None) self->memory.mixture = &self->mixture;
        WORK(c, status,
             reco_classifier_create(c->ctx, &self->classifier, self->memory.bank ? &self->memory : NULL,
                                    candidates, &truncated));
        if (call_end(c, status) == 0) {
            capsule = wrap(self, classifier_name, NULL);
            self = NULL;
        }
    }
    if (self) classifier_drop(self);
    return capsule ? Py_BuildValue("NK", capsule, (unsigned long long)truncated) : NULL;
}

/* -> {"sides", "k", "voters", "mixture"}, for pictures */
static PyObject *classifier_settings(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const struct classifier *self;
    reco_settings s;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(self = get(capsule))) return NULL;
    reco_classifier_settings(self->classifier, &s);
    return Py_BuildValue("{s:s,s:n,s:n,s:N}", "sides", sides_names[s.sides], "k", (Py_ssize_t)s.k, "voters",
                         (Py_ssize_t)s.voters, "mixture", mixture_from(&s.mixture));
}

/* [(id, cosine)] of picture i */
static PyObject *neighbours_of(const reco_findings *f, size_t i)
{
    PyObject *list = PyList_New(0);
    for (size_t j = 0; list && f->ids && j < f->counts[i]; j++) {
        PyObject *pair =
            Py_BuildValue("Ld", (long long)f->ids[i * f->reach + j], (double)f->scores[i * f->reach + j]);
        if (!pair || PyList_Append(list, pair) != 0) Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

/* classifier, x [n][d], n, by (a mixture, or None: the memory's), p [n][c] or None, order int64 [n][c] and cosines [n][c] or None, hook
 * -> neighbours of the first picture */
static PyObject *classifier_ask(PyObject *module, PyObject *args)
{
    PyObject *capsule, *rows, *mix, *o[3], *hook, *answer = NULL;
    Py_ssize_t n;
    reco_mixture by;
    const struct classifier *self;
    if (!PyArg_ParseTuple(args, "OOnOOOOO", &capsule, &rows, &n, &mix, &o[0], &o[1], &o[2], &hook) ||
        !(self = get(capsule)) || !to_mixture(&by, mix))
        return NULL;
    size_t c = self->candidates.n, d = self->candidates.d, count = (size_t)n;
    if (n < 0 || count > (size_t)PY_SSIZE_T_MAX / 16 / (c + d)) {
        PyErr_Format(PyExc_ValueError, "n = %zd", n);
        return NULL;
    }
    array x = {0}, p = {0}, order = {0}, cosines = {0};
    reco_question question = {.side = RECO_IMAGE, .n = count};
    reco_findings findings = {0};
    reco_ranking ranking = {.top = o[1] == Py_None ? 0 : c};
    reco_status status;
    call *call_ = NULL;
    if ((question.x = array_take(&x, rows, 'f', count * d, false, "embeddings")) &&
        array_maybe(&p, &ranking.all, o[0], 'f', count * c, true, "probabilities") &&
        array_maybe(&order, &ranking.of, o[1], 'q', count * c, true, "order") &&
        array_maybe(&cosines, &ranking.score, o[2], 'f', count * c, true, "cosines"))
        call_ = call_begin(module, hook);
    if (!call_) goto out;
    WORK(call_, status, reco_classifier_ask(call_->ctx, self->classifier, &question, NULL, &findings));
    if (status == RECO_OK)
        WORK(call_, status,
             reco_classifier_rank(call_->ctx, self->classifier, &findings, mix == Py_None ? NULL : &by,
                                  &ranking));
    if (call_end(call_, status) == 0) answer = count ? neighbours_of(&findings, 0) : PyList_New(0);
    reco_findings_free(&findings);
out:
    array_drop(&x);
    array_drop(&p);
    array_drop(&order);
    array_drop(&cosines);
    return answer;
}

/* classifier, class, k, ids [k], scores [k], weights [k+1] -> count */
static PyObject *classifier_neighbours(PyObject *module, PyObject *args)
{
    PyObject *capsule, *o[3];
    Py_ssize_t at, k;
    int done = -1;
    const struct classifier *self;
    if (!PyArg_ParseTuple(args, "OnnOOO", &capsule, &at, &k, &o[0], &o[1], &o[2]) || !(self = get(capsule)))
        return NULL;
    reco_settings settings;
    reco_classifier_settings(self->classifier, &settings);
    if (at < 0 || (size_t)at >= self->candidates.n || k < 0 || (size_t)k != settings.k) {
        PyErr_Format(PyExc_ValueError, "class %zd of %zu, k = %zd", at, self->candidates.n, k);
        return NULL;
    }
    size_t reach = (size_t)k, count = 0;
    array ids = {0}, scores = {0}, weights = {0};
    reco_refined out = {.hits.counts = &count};
    reco_status status;
    call *c = NULL;
    if ((out.hits.ids = array_take(&ids, o[0], 'q', reach, true, "ids")) &&
        (out.hits.scores = array_take(&scores, o[1], 'f', reach, true, "scores")) &&
        (out.weights = array_take(&weights, o[2], 'f', reach + 1, true, "weights")))
        c = call_begin(module, NULL);
    if (!c) goto out;
    WORK(c, status, reco_classifier_neighbours(c->ctx, self->classifier, (size_t)at, &out));
    done = call_end(c, status);
out:
    array_drop(&ids);
    array_drop(&scores);
    array_drop(&weights);
    return done == 0 ? PyLong_FromSize_t(count) : NULL;
}

PyMethodDef class_methods[] = {{"classes_open", classes_open, METH_VARARGS, NULL},
                               {"classifier_create", classifier_create, METH_VARARGS, NULL},
                               {"classifier_settings", classifier_settings, METH_VARARGS, NULL},
                               {"classifier_ask", classifier_ask, METH_VARARGS, NULL},
                               {"classifier_neighbours", classifier_neighbours, METH_VARARGS, NULL},
                               {NULL, NULL, 0, NULL}};
