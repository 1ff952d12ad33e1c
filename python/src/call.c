#include "core.h"

/* The hooks are called from the thread of the call, which has released the GIL. An exception stays with the thread until the call
 * ends. */
static int progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    call *c = user;
    PyEval_RestoreThread(c->thread);
    int stop = PyErr_Occurred() != NULL || PyErr_CheckSignals() != 0;
    if (!stop && c->progress) {
        PyObject *result = PyObject_CallFunction(c->progress, "sKK", what, (unsigned long long)done,
                                                 (unsigned long long)total);
        stop = result == NULL;
        Py_XDECREF(result);
    }
    c->thread = PyEval_SaveThread();
    return stop;
}

static void tell(void *user, reco_log_level level, const char *message)
{
    call *c = user;
    PyObject *type, *value, *trace;
    PyEval_RestoreThread(c->thread);
    PyErr_Fetch(&type, &value, &trace);
    PyObject *text = text_from(message),
             *result = text ? PyObject_CallFunction(c->state->log, "iO", (int)level, text) : NULL;
    if (!result) PyErr_WriteUnraisable(c->state->log);
    Py_XDECREF(text);
    Py_XDECREF(result);
    PyErr_Restore(type, value, trace);
    c->thread = PyEval_SaveThread();
}

void call_failure(void *user, uint64_t row, const char *item, const char *reason)
{
    call *c = user;
    PyObject *type, *value, *trace;
    PyEval_RestoreThread(c->thread);
    PyErr_Fetch(&type, &value, &trace);
    PyObject *name = path_from(item), *why = text_from(reason),
             *entry = name && why ? Py_BuildValue("KOO", (unsigned long long)row, name, why) : NULL;
    if (entry && c->failures) PyList_Append(c->failures, entry);
    Py_XDECREF(name);
    Py_XDECREF(why);
    Py_XDECREF(entry);
    if (type) PyErr_Restore(type, value, trace); /* the first one counts */
    c->thread = PyEval_SaveThread();
}

static void call_free(call *c)
{
    reco_ctx_free(c->ctx);
    PyMem_Free(c);
}

call *call_begin(PyObject *module, PyObject *hook)
{
    state *s = PyModule_GetState(module);
    call *c = s->idle;
    if (c) {
        s->idle = c->next;
    } else {
        c = PyMem_Malloc(sizeof *c);
        if (!c) {
            PyErr_NoMemory();
            return NULL;
        }
        *c = (call){.state = s, .generation = s->generation};
        reco_ctx_opts opts = {.threads = s->threads, .log = tell, .progress = progress, .user = c};
        reco_status status = reco_ctx_create(&c->ctx, &opts);
        if (status != RECO_OK) {
            PyErr_Format(s->errors[status], "no context of %d threads: %s", s->threads,
                         reco_status_name(status));
            PyMem_Free(c);
            return NULL;
        }
    }
    c->progress = hook == Py_None ? NULL : hook;
    c->failures = NULL;
    return c;
}

int call_end(call *c, reco_status status)
{
    state *s = c->state;
    bool good = status == RECO_OK && !PyErr_Occurred();
    if (status != RECO_OK && !PyErr_Occurred()) {
        const char *text = reco_ctx_error(c->ctx);
        PyObject *message = text_from(*text ? text : reco_status_name(status));
        if (message)
            PyErr_SetObject(s->errors[(unsigned)status < STATUSES ? status : RECO_E_INTERNAL], message);
        Py_XDECREF(message);
    }
    if (c->generation == s->generation) {
        c->next = s->idle;
        s->idle = c;
    } else {
        call_free(c);
    }
    return good ? 0 : -1;
}

/* ---- the module ---- */

static PyObject *setup(PyObject *module, PyObject *args)
{
    state *s = PyModule_GetState(module);
    PyObject *errors, *log;
    if (!PyArg_ParseTuple(args, "O!O", &PyTuple_Type, &errors, &log)) return NULL;
    if (PyTuple_Size(errors) != STATUSES) {
        PyErr_Format(PyExc_ValueError, "%zd classes of errors, want %d", PyTuple_Size(errors), STATUSES);
        return NULL;
    }
    for (int i = 0; i < STATUSES; i++) {
        PyObject *old = s->errors[i];
        s->errors[i] = Py_NewRef(PyTuple_GetItem(errors, i));
        Py_XDECREF(old);
    }
    PyObject *old = s->log;
    s->log = Py_NewRef(log);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static void forget_idle(state *s)
{
    s->generation++;
    while (s->idle) {
        call *c = s->idle;
        s->idle = c->next;
        call_free(c);
    }
}

static PyObject *set_threads(PyObject *module, PyObject *args)
{
    state *s = PyModule_GetState(module);
    int threads;
    if (!PyArg_ParseTuple(args, "i", &threads)) return NULL;
    if (threads < 0 || threads > 1024) {
        PyErr_Format(s->errors[RECO_E_ARG], "threads = %d, want 0 (all) or 1..1024", threads);
        return NULL;
    }
    s->threads = threads;
    forget_idle(s);
    Py_RETURN_NONE;
}

static PyObject *get_threads(PyObject *module, PyObject *args)
{
    (void)args;
    call *c = call_begin(module, NULL);
    if (!c) return NULL;
    int threads = reco_ctx_threads(c->ctx);
    return call_end(c, RECO_OK) == 0 ? PyLong_FromLong(threads) : NULL;
}

/* The threads of OpenMP don't survive a fork, and GNU's runtime waits for them for ever: the child works with one. */
static PyObject *after_fork(PyObject *module, PyObject *args)
{
    (void)args;
    state *s = PyModule_GetState(module);
    s->threads = 1;
    s->generation++;
    s->idle = NULL; /* theirs; never freed here */
    Py_RETURN_NONE;
}

static PyObject *version(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    return text_from(reco_version());
}

static PyObject *image_formats(PyObject *module, PyObject *args)
{
    (void)module, (void)args;
    PyObject *list = PyList_New(0);
    const char *name;
    for (size_t i = 0; list && (name = reco_image_reads(i)); i++) {
        PyObject *text = text_from(name);
        if (!text || PyList_Append(list, text) != 0) Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

static PyMethodDef module_methods[] = {{"setup", setup, METH_VARARGS, NULL},
                                       {"set_threads", set_threads, METH_VARARGS, NULL},
                                       {"get_threads", get_threads, METH_NOARGS, NULL},
                                       {"after_fork", after_fork, METH_NOARGS, NULL},
                                       {"version", version, METH_NOARGS, NULL},
                                       {"image_formats", image_formats, METH_NOARGS, NULL},
                                       {NULL, NULL, 0, NULL}};

static int fill(PyObject *module)
{
    PyMethodDef *const all[] = {model_methods, bank_methods, write_methods, fusion_methods, class_methods};
    state *s = PyModule_GetState(module);
    for (int i = 0; i < STATUSES; i++) s->errors[i] = Py_NewRef(PyExc_RuntimeError);
    s->log = Py_NewRef(Py_None);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (PyModule_AddFunctions(module, all[i]) != 0) return -1;
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    state *s = PyModule_GetState(module);
    for (int i = 0; s && i < STATUSES; i++) Py_VISIT(s->errors[i]);
    if (s) Py_VISIT(s->log);
    return 0;
}

static int clear(PyObject *module)
{
    state *s = PyModule_GetState(module);
    for (int i = 0; s && i < STATUSES; i++) Py_CLEAR(s->errors[i]);
    if (s) Py_CLEAR(s->log);
    return 0;
}

static void free_module(void *module)
{
    state *s = PyModule_GetState(module);
    if (s) forget_idle(s);
    clear(module);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "_core",
                                        NULL,
                                        sizeof(state),
                                        module_methods,
                                        slots,
                                        traverse,
                                        clear,
                                        free_module};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
