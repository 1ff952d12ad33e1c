/* python/src/core.h: reco._core, the C library as Python's functions, thin on purpose: what is convenient is written in
 * Python (python/reco/), what the C headers say is bound here and nowhere else, so that a change of a header is a compile error in
 * one place.
 *
 * Limited API of CPython 3.11: one binary serves 3.11 and later. Arguments come by position; arrays come as buffers of the
 * very type and size that is wanted, which is checked; objects of the library are capsules, and live for as long as somebody
 * refers to them. */
#ifndef RECO_PYTHON_CORE_H
#define RECO_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>

#include "reco/reco.h"

/* ---- call.c: contexts, errors, hooks ---- */

enum { STATUSES = RECO_E_INTERNAL + 1 };

/* One call of the library: a context, which belongs to one thread at a time, and what its hooks need. Idle ones are kept
 * for the next call. */
typedef struct call {
    struct state *state;
    reco_ctx *ctx;
    unsigned generation;
    PyObject *progress;    /* borrowed; NULL: none is wanted */
    PyObject *failures;    /* borrowed list of (row, item, reason); NULL: not wanted */
    PyThreadState *thread; /* while the GIL is released */
    struct call *next;
} call;

typedef struct state {
    PyObject *errors[STATUSES]; /* exception class of each status */
    PyObject *log;              /* called with (level, message) */
    call *idle;
    int threads;         /* of a context; 0: all */
    unsigned generation; /* contexts of an earlier one are not used again */
} state;

/* NULL with an exception. progress: a callable (what, done, total), or NULL or None. */
call *call_begin(PyObject *module, PyObject *progress);
/* 0, or -1 with the exception that status, a hook or a signal asks for. */
int call_end(call *c, reco_status status);
/* The hook of reco_embed_opts whose user is the call. */
void call_failure(void *user, uint64_t row, const char *item, const char *reason);

/* Evaluate without the GIL. */
#define WORK(c, status, expr)                                                                              \
    do {                                                                                                   \
        (c)->thread = PyEval_SaveThread();                                                                 \
        (status) = (expr);                                                                                 \
        PyEval_RestoreThread((c)->thread);                                                                 \
    } while (0)

/* ---- values.c: values in and out ---- */

/* A contiguous buffer. */
typedef struct array {
    Py_buffer view;
    bool held;
} array;
/* Its memory; NULL with an exception. type: f float32, q int64, i int32, I uint32, B uint8. Zeroed before, dropped after. */
void *array_take(array *a, PyObject *object, char type, size_t count, bool writable, const char *what);
/* The same, and true with *data NULL for None. */
bool array_maybe(array *a, void *data, PyObject *object, char type, size_t count, bool writable,
                 const char *what);
void array_drop(array *a);

/* A sequence of str as UTF-8. */
typedef struct strings {
    PyObject *list, *kept; /* owners of the memory */
    const char **items;
    size_t n;
} strings;
/* optional: None may stand for an item, which is NULL then. */
bool strings_take(strings *s, PyObject *sequence, bool optional, const char *what);
void strings_drop(strings *s);

/* Names of the values of an enum, from 0. */
extern const char *const side_names[], *const sides_names[], *const modality_names[];
/* -1 with an exception that lists what is wanted. */
int enum_value(PyObject *name, const char *const *names, const char *what);
/* For "O&": str to reco_side, reco_sides. */
int to_side(PyObject *object, void *side);
int to_sides(PyObject *object, void *sides);
/* For "O&": None, or a number; target float with NAN for None. */
int to_float_or_nan(PyObject *object, void *number);

typedef enum field_kind {
    FIELD_INT,
    FIELD_BOOL,
    FIELD_UINT,
    FIELD_SIZE,
    FIELD_LONG,
    FIELD_FLOAT,
    FIELD_DOUBLE,
    FIELD_TEXT, /* char[]; out only */
    FIELD_SIDES,
    FIELD_LAYER,
    FIELD_MODALITY,
    FIELD_DTYPE,
    FIELD_PRECISION
} field_kind;
/* A member of a struct, by its own name and type. */
typedef struct field {
    const char *name;
    field_kind kind;
    size_t offset;
} field;
#define FIELD(type, member)                                                                                \
    {                                                                                                      \
#member,                                                                                           \
            _Generic(((type *)0)->member, int                                                              \
                     : FIELD_INT, bool                                                                     \
                     : FIELD_BOOL, unsigned                                                                \
                     : FIELD_UINT, size_t                                                                  \
                     : FIELD_SIZE, int64_t                                                                 \
                     : FIELD_LONG, float                                                                   \
                     : FIELD_FLOAT, double                                                                 \
                     : FIELD_DOUBLE, char *                                                                \
                     : FIELD_TEXT),                                                                        \
            offsetof(type, member)       \
    }
#define FIELD_OF(type, member, kind)                                                                       \
    {                                                                                                      \
#member, kind, offsetof(type, member)                                                              \
    }
#define FIELDS_END                                                                                         \
    {                                                                                                      \
        NULL, FIELD_INT, 0                                                                                 \
    }
/* A new dict; NULL with an exception. */
PyObject *fields_get(const void *object, const field *fields);
/* Set what the dict (or None) has; false with an exception for a key that is no field, or a value that does not fit. */
bool fields_set(void *object, const field *fields, PyObject *dict, const char *what);

PyObject *text_from(const char *text); /* str, or None of NULL */
PyObject *path_from(const char *path);

/* ---- capsules ---- */

extern const char model_name[], bank_name[], fusion_name[], filter_name[], classes_name[],
    classifier_name[], writer_name[];
struct classifier;
void classifier_drop(struct classifier *self);
/* The object, or NULL with an exception; *_or_none: NULL of None without one, false with an exception. */
const void *unwrap(PyObject *capsule, const char *name);
bool unwrap_or_none(void *target, PyObject *capsule, const char *name);
/* A capsule that frees the object; where keep is not NULL, that stays alive as long. On failure the object is freed. */
PyObject *wrap(void *object, const char *name, PyObject *keep);

/* What is asked: neighbours that are fused (0: the layer's own number), of which cosine at least (or None), of which rows (or
 * None), at which recall (0: the bank's own). */
bool to_memory(reco_memory *memory, PyObject *k, PyObject *least, PyObject *filter, float recall);
/* (clip, refined, scale, scale, scale, voters) or None, which is all zero. */
bool to_mixture(reco_mixture *mixture, PyObject *object);
PyObject *mixture_from(const reco_mixture *mixture);

extern PyMethodDef model_methods[], bank_methods[], write_methods[], fusion_methods[], class_methods[];

#endif
