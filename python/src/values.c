#include "core.h"

#include <math.h>
#include <string.h>

/* ---- arrays ---- */

static bool is_of(const char *format, char type)
{
    static const char *const same[] = {"ff", "qlq", "iil", "IIL", "BB"};
    if (!format) return type == 'B';
    if (*format == '@' || *format == '=' || *format == '<') format++;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (same[i][0] == type) return *format && !format[1] && strchr(same[i] + 1, *format);
    return false;
}

void *array_take(array *a, PyObject *object, char type, size_t count, bool writable, const char *what)
{
    static const struct {
        char type;
        size_t size;
        const char *name;
    } types[] = {
        {'f', 4, "float32"}, {'q', 8, "int64"}, {'i', 4, "int32"}, {'I', 4, "uint32"}, {'B', 1, "uint8"}};
    size_t t = 0;
    while (types[t].type != type) t++;
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &a->view, flags) != 0) return NULL;
    a->held = true;
    size_t size = types[t].size, bytes = (size_t)a->view.len;
    if ((size_t)a->view.itemsize == size && is_of(a->view.format, type) && bytes % size == 0 &&
        bytes / size == count)
        return a->view.buf ? a->view.buf : (void *)&types; /* never read: it has no items */
    PyErr_Format(PyExc_ValueError, "%s: %zu bytes of format %s, want %zu numbers of type %s", what, bytes,
                 a->view.format ? a->view.format : "B", count, types[t].name);
    return NULL;
}

bool array_maybe(array *a, void *data, PyObject *object, char type, size_t count, bool writable,
                 const char *what)
{
    void *memory = object == Py_None ? NULL : array_take(a, object, type, count, writable, what);
    memcpy(data, &memory, sizeof memory);
    return memory || object == Py_None;
}

void array_drop(array *a)
{
    if (a->held) PyBuffer_Release(&a->view);
    a->held = false;
}

/* ---- strings ---- */

static const char *utf8(strings *s, PyObject *object, size_t i, const char *what)
{
    Py_ssize_t n;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s %zu is not a str", what, i);
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(object, &n);
    if (!text && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        /* Half a surrogate pair, as bad JSON leaves it: U+FFFD, as for anything else that is no character; pairs become one. */
        PyErr_Clear();
        PyObject *bytes = PyUnicode_AsEncodedString(object, "utf-16-le", "surrogatepass"),
                 *mended = bytes ? PyUnicode_Decode(PyBytes_AsString(bytes), PyBytes_Size(bytes),
                                                    "utf-16-le", "replace")
                                 : NULL;
        if (!s->kept) s->kept = PyList_New(0);
        if (mended && s->kept && PyList_Append(s->kept, mended) == 0)
            text = PyUnicode_AsUTF8AndSize(mended, &n);
        Py_XDECREF(bytes);
        Py_XDECREF(mended);
    }
    if (text && strlen(text) != (size_t)n) {
        PyErr_Format(PyExc_ValueError, "%s %zu holds a NUL", what, i);
        return NULL;
    }
    return text;
}

bool strings_take(strings *s, PyObject *sequence, bool optional, const char *what)
{
    if (PyUnicode_Check(sequence)) {
        PyErr_Format(PyExc_TypeError, "%s: want a list of str, not one", what);
        return false;
    }
    s->list = PySequence_List(sequence);
    if (!s->list) return false;
    s->n = (size_t)PyList_Size(s->list);
    s->items = PyMem_Calloc(s->n + 1, sizeof *s->items);
    if (!s->items) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; i < s->n; i++) {
        PyObject *item = PyList_GetItem(s->list, (Py_ssize_t)i);
        if (optional && item == Py_None) continue;
        if (!(s->items[i] = utf8(s, item, i, what))) return false;
    }
    return true;
}

void strings_drop(strings *s)
{
    PyMem_Free(s->items);
    Py_CLEAR(s->list);
    Py_CLEAR(s->kept);
    s->items = NULL;
}

PyObject *text_from(const char *text)
{
    if (!text) Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

PyObject *path_from(const char *path)
{
    if (!path) Py_RETURN_NONE;
    return PyUnicode_DecodeFSDefault(path);
}

/* ---- enums ---- */

const char *const side_names[] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text", NULL};
const char *const sides_names[] = {
    [RECO_SIDES_NONE] = "none", [RECO_SIDES_IMAGE] = "image",  [RECO_SIDES_TEXT] = "text",
    [RECO_SIDES_BOTH] = "both", [RECO_SIDES_DEFAULT] = "auto", NULL};
const char *const modality_names[] = {
    [RECO_MODALITY_DEFAULT] = "auto", [RECO_UNI] = "uni", [RECO_CROSS] = "cross", NULL};
static const char *const dtype_names[] = {[RECO_DTYPE_F32] = "float32",   [RECO_DTYPE_F16] = "float16",
                                          [RECO_DTYPE_BF16] = "bfloat16", [RECO_DTYPE_I64] = "int64",
                                          [RECO_DTYPE_I32] = "int32",     [RECO_DTYPE_U8] = "uint8",
                                          [RECO_DTYPE_F64] = "float64",   NULL};
static const char *const precision_names[] = {[RECO_PRECISION_AUTO] = "auto",
                                              [RECO_PRECISION_F32] = "f32",
                                              [RECO_PRECISION_BF16] = "bf16",
                                              [RECO_PRECISION_INT8] = "int8",
                                              NULL};
static const char *const layer_names[] = {"none",       "vote",        "mean", "weighted",
                                          "relational", "transformer", "mlp",  NULL};

static const char *const *names_of(field_kind kind)
{
    return kind == FIELD_SIDES       ? sides_names
           : kind == FIELD_LAYER     ? layer_names
           : kind == FIELD_MODALITY  ? modality_names
           : kind == FIELD_DTYPE     ? dtype_names
           : kind == FIELD_PRECISION ? precision_names
                                     : NULL;
}

int enum_value(PyObject *name, const char *const *names, const char *what)
{
    PyObject *list = NULL;
    for (int i = 0; PyUnicode_Check(name) && names[i]; i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) return i;
    list = PyUnicode_FromString(names[0]);
    for (int i = 1; list && names[i]; i++) {
        PyObject *longer = PyUnicode_FromFormat(names[i + 1] ? "%U, %s" : "%U or %s", list, names[i]);
        Py_DECREF(list);
        list = longer;
    }
    if (list) PyErr_Format(PyExc_ValueError, "%s = %R, want %U", what, name, list);
    Py_XDECREF(list);
    return -1;
}

int to_side(PyObject *object, void *side)
{
    int value = enum_value(object, side_names, "side");
    if (value >= 0) *(reco_side *)side = (reco_side)value;
    return value >= 0;
}

int to_sides(PyObject *object, void *sides)
{
    int value = enum_value(object, sides_names, "sides");
    if (value >= 0) *(reco_sides *)sides = (reco_sides)value;
    return value >= 0;
}

int to_float_or_nan(PyObject *object, void *number)
{
    double value = object == Py_None ? NAN : PyFloat_AsDouble(object);
    if (PyErr_Occurred()) return 0;
    *(float *)number = (float)value;
    return 1;
}

/* ---- structs ---- */

PyObject *fields_get(const void *object, const field *fields)
{
    PyObject *dict = PyDict_New();
    for (const field *f = fields; dict && f->name; f++) {
        const void *at = (const char *)object + f->offset;
        PyObject *value = NULL;
        switch (f->kind) {
        case FIELD_INT:
            value = PyLong_FromLong(*(const int *)at);
            break;
        case FIELD_BOOL:
            value = PyBool_FromLong(*(const bool *)at);
            break;
        case FIELD_UINT:
            value = PyLong_FromUnsignedLong(*(const unsigned *)at);
            break;
        case FIELD_SIZE:
            value = PyLong_FromSize_t(*(const size_t *)at);
            break;
        case FIELD_LONG:
            value = PyLong_FromLongLong(*(const int64_t *)at);
            break;
        case FIELD_FLOAT:
            value = PyFloat_FromDouble((double)*(const float *)at);
            break;
        case FIELD_DOUBLE:
            value = PyFloat_FromDouble(*(const double *)at);
            break;
        case FIELD_TEXT:
            value = text_from(at);
            break;
        default:
            value = text_from(names_of(f->kind)[*(const unsigned *)at]);
            break;
        }
        if (!value || PyDict_SetItemString(dict, f->name, value) != 0) Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static bool field_set(void *object, const field *f, PyObject *value)
{
    void *at = (char *)object + f->offset;
    int chosen;
    switch (f->kind) {
    case FIELD_INT: {
        long number = PyLong_AsLong(value);
        if (!PyErr_Occurred() && (number > INT32_MAX || number < INT32_MIN))
            PyErr_Format(PyExc_OverflowError, "%s = %ld", f->name, number);
        *(int *)at = (int)number;
        break;
    }
    case FIELD_BOOL:
        *(bool *)at = PyObject_IsTrue(value) == 1;
        break;
    case FIELD_UINT:
        *(unsigned *)at = (unsigned)PyLong_AsUnsignedLong(value);
        break;
    case FIELD_SIZE:
        *(size_t *)at = PyLong_AsSize_t(value);
        break;
    case FIELD_LONG:
        *(int64_t *)at = PyLong_AsLongLong(value);
        break;
    case FIELD_FLOAT:
        *(float *)at = (float)PyFloat_AsDouble(value);
        break;
    case FIELD_DOUBLE:
        *(double *)at = PyFloat_AsDouble(value);
        break;
    case FIELD_TEXT:
        PyErr_Format(PyExc_TypeError, "%s can't be set", f->name);
        break;
    default:
        if (f->kind == FIELD_LAYER && PyUnicode_Check(value) &&
            PyUnicode_CompareWithASCIIString(value, "auto") == 0) {
            *(int *)at = RECO_LAYER_AUTO;
            break;
        }
        chosen = enum_value(value, names_of(f->kind), f->name);
        if (chosen >= 0) *(unsigned *)at = (unsigned)chosen;
    }
    return !PyErr_Occurred();
}

bool fields_set(void *object, const field *fields, PyObject *dict, const char *what)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (dict == Py_None) return true;
    while (PyDict_Next(dict, &at, &key, &value)) {
        const field *f = fields;
        while (f->name && PyUnicode_CompareWithASCIIString(key, f->name) != 0) f++;
        if (!f->name) {
            PyErr_Format(PyExc_TypeError, "%s has no option %R", what, key);
            return false;
        }
        if (!field_set(object, f, value)) return false;
    }
    return true;
}

/* ---- capsules ---- */

const char model_name[] = "reco.model", bank_name[] = "reco.bank", fusion_name[] = "reco.fusion",
           filter_name[] = "reco.filter", classes_name[] = "reco.classes",
           classifier_name[] = "reco.classifier", writer_name[] = "reco.writer";

static void release(void *object, const char *name)
{
    if (name == model_name) reco_model_close(object);
    if (name == bank_name) reco_bank_close(object);
    if (name == fusion_name) reco_fusion_free(object);
    if (name == filter_name) reco_bank_filter_free(object);
    if (name == classes_name) reco_class_list_free(object);
    if (name == classifier_name) classifier_drop(object);
    if (name == writer_name) reco_bank_writer_close(object);
}

static void destroy(PyObject *capsule)
{
    const char *name = PyCapsule_GetName(capsule);
    PyObject *keep = PyCapsule_GetContext(capsule);
    release(PyCapsule_GetPointer(capsule, name), name);
    Py_XDECREF(keep);
}

PyObject *wrap(void *object, const char *name, PyObject *keep)
{
    PyObject *capsule = PyCapsule_New(object, name, destroy);
    if (!capsule)
        release(object, name);
    else if (keep)
        PyCapsule_SetContext(capsule, Py_NewRef(keep));
    return capsule;
}

const void *unwrap(PyObject *capsule, const char *name)
{
    if (PyCapsule_IsValid(capsule, name)) return PyCapsule_GetPointer(capsule, name);
    PyErr_Format(PyExc_ValueError, "want an open %s", name);
    return NULL;
}

bool unwrap_or_none(void *target, PyObject *capsule, const char *name)
{
    const void *object = capsule == Py_None ? NULL : unwrap(capsule, name);
    memcpy(target, &object, sizeof object);
    return object || capsule == Py_None;
}

/* ---- options that several calls take ---- */

bool to_memory(reco_memory *memory, PyObject *k, PyObject *least, PyObject *filter, float recall)
{
    float min;
    *memory = (reco_memory)RECO_MEMORY_INIT;
    memory->recall = recall;
    memory->k = PyLong_AsSize_t(k);
    if (PyErr_Occurred() || !to_float_or_nan(least, &min)) return false;
    if (least != Py_None) memory->min_similarity = min;
    return unwrap_or_none(&memory->filter, filter, filter_name);
}

bool to_mixture(reco_mixture *m, PyObject *object)
{
    *m = (reco_mixture){0};
    if (object == Py_None) return true;
    return PyArg_ParseTuple(object, "fffffI", &m->clip, &m->refined, &m->scale[0], &m->scale[1],
                            &m->scale[2], &m->voters) != 0;
}

PyObject *mixture_from(const reco_mixture *m)
{
    if (!(m->scale[0] > 0)) Py_RETURN_NONE;
    return Py_BuildValue("fffffI", m->clip, m->refined, m->scale[0], m->scale[1], m->scale[2], m->voters);
}
