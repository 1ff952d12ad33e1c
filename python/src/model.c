#include "core.h"

#include <string.h>

static PyObject *model_open(PyObject *module, PyObject *args)
{
    PyObject *path, *capsule = NULL;
    reco_model_opts opts = {0};
    const field fields[] = {FIELD_OF(reco_model_opts, precision, FIELD_PRECISION),
                            FIELD_OF(reco_model_opts, without, FIELD_SIDES), FIELD(reco_model_opts, exif),
                            FIELDS_END};
    PyObject *dict, *hook;
    if (!PyArg_ParseTuple(args, "O&OO", PyUnicode_FSConverter, &path, &dict, &hook)) return NULL;
    reco_model *model = NULL;
    reco_status status;
    call *c = fields_set(&opts, fields, dict, "a model") ? call_begin(module, hook) : NULL;
    if (c) {
        WORK(c, status, reco_model_open(c->ctx, &model, PyBytes_AsString(path), &opts));
        if (call_end(c, status) == 0)
            capsule = wrap(model, model_name, NULL);
        else
            reco_model_close(model);
    }
    Py_DECREF(path);
    return capsule;
}

static const field tower_fields[] = {FIELD(reco_tower_info, width),      FIELD(reco_tower_info, layers),
                                     FIELD(reco_tower_info, heads),      FIELD(reco_tower_info, mlp),
                                     FIELD(reco_tower_info, activation), FIELDS_END};
static const field model_fields[] = {FIELD(reco_model_info, family),
                                     FIELD(reco_model_info, name),
                                     FIELD(reco_model_info, d),
                                     FIELD(reco_model_info, has_image),
                                     FIELD(reco_model_info, has_text),
                                     FIELD(reco_model_info, image_size),
                                     FIELD(reco_model_info, patch),
                                     FIELD(reco_model_info, context),
                                     FIELD(reco_model_info, vocab),
                                     FIELD_OF(reco_model_info, weights, FIELD_DTYPE),
                                     FIELD_OF(reco_model_info, precision, FIELD_PRECISION),
                                     FIELD(reco_model_info, logit_scale),
                                     FIELD(reco_model_info, has_logit_bias),
                                     FIELD(reco_model_info, logit_bias),
                                     FIELD(reco_model_info, parameters),
                                     FIELDS_END};

static PyObject *model_info(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const reco_model *model;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(model = unwrap(capsule, model_name))) return NULL;
    reco_model_info info = *reco_model_get_info(model);
    PyObject *dict = fields_get(&info, model_fields), *image = fields_get(&info.image, tower_fields),
             *text = fields_get(&info.text, tower_fields), *guesses = PyList_New(0);
    bool good = dict && image && text && guesses;
    for (size_t i = 0; good && i < reco_model_guesses(model); i++) {
        PyObject *guess = text_from(reco_model_guess(model, i));
        good = guess && PyList_Append(guesses, guess) == 0;
        Py_XDECREF(guess);
    }
    good = good && PyDict_SetItemString(dict, "image", image) == 0 &&
           PyDict_SetItemString(dict, "text", text) == 0 &&
           PyDict_SetItemString(dict, "guesses", guesses) == 0;
    Py_XDECREF(image);
    Py_XDECREF(text);
    Py_XDECREF(guesses);
    if (!good) Py_CLEAR(dict);
    return dict;
}

static PyObject *model_fingerprint(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    const reco_model *model;
    char hex[33] = "";
    reco_status status;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(model = unwrap(capsule, model_name))) return NULL;
    call *c = call_begin(module, NULL);
    if (!c) return NULL;
    WORK(c, status, reco_model_fingerprint(c->ctx, model, hex));
    return call_end(c, status) == 0 ? text_from(hex) : NULL;
}

/* texts [n] -> out [n][d], cut [n] */
static PyObject *model_embed_texts(PyObject *module, PyObject *args)
{
    PyObject *capsule, *sequence, *rows, *flags;
    const reco_model *model;
    if (!PyArg_ParseTuple(args, "OOOO", &capsule, &sequence, &rows, &flags) ||
        !(model = unwrap(capsule, model_name)))
        return NULL;
    strings texts = {0};
    array out = {0}, cut = {0};
    int done = -1;
    reco_status status;
    size_t d = reco_model_get_info(model)->d;
    if (!strings_take(&texts, sequence, false, "text")) goto out;
    float *x = array_take(&out, rows, 'f', texts.n * d, true, "out");
    unsigned char *more = x ? array_take(&cut, flags, 'B', texts.n, true, "cut") : NULL;
    call *c = more ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status, reco_model_embed_texts(c->ctx, model, texts.items, texts.n, x, more));
    done = call_end(c, status);
out:
    array_drop(&out);
    array_drop(&cut);
    strings_drop(&texts);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ids [n][context] or pixels [n][3][R][R] -> out [n][d] */
static PyObject *embed_numbers(PyObject *module, PyObject *args, bool tokens)
{
    PyObject *capsule, *numbers, *rows;
    const reco_model *model;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "OOnO", &capsule, &numbers, &n, &rows) ||
        !(model = unwrap(capsule, model_name)))
        return NULL;
    reco_model_info info = *reco_model_get_info(model);
    size_t item = tokens ? info.context : 3 * info.image_size * info.image_size, count = (size_t)n;
    array in = {0}, out = {0};
    int done = -1;
    reco_status status;
    const void *x = NULL;
    float *y = NULL;
    if (n < 0 || count > (size_t)PY_SSIZE_T_MAX / (item + info.d + 1))
        PyErr_Format(PyExc_ValueError, "n = %zd", n);
    else if ((x = array_take(&in, numbers, tokens ? 'i' : 'f', count * item, false,
                             tokens ? "token ids" : "pixels")))
        y = array_take(&out, rows, 'f', count * info.d, true, "out");
    call *c = y ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    WORK(c, status,
         tokens ? reco_model_embed_tokens(c->ctx, model, x, count, y)
                : reco_model_embed_pixels(c->ctx, model, x, count, y));
    done = call_end(c, status);
out:
    array_drop(&in);
    array_drop(&out);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *model_embed_tokens(PyObject *module, PyObject *args)
{
    return embed_numbers(module, args, true);
}

static PyObject *model_embed_pixels(PyObject *module, PyObject *args)
{
    return embed_numbers(module, args, false);
}

/* ---- pictures ---- */

typedef struct pictures {
    PyObject *list;
    PyObject **paths; /* [n] owned bytes, or NULL */
    array *contents;  /* [n] */
    reco_picture_input *items;
    size_t n;
} pictures;

/* str: a path. A buffer of one dimension: the content of a file; [h][w][3] of uint8: pixels. */
static bool picture_take(pictures *p, size_t i)
{
    PyObject *item = PyList_GetItem(p->list, (Py_ssize_t)i);
    reco_picture_input *in = &p->items[i];
    array *a = &p->contents[i];
    if (PyUnicode_Check(item)) {
        if (!PyUnicode_FSConverter(item, &p->paths[i])) return false;
        in->name = PyBytes_AsString(p->paths[i]);
        return true;
    }
    if (PyObject_GetBuffer(item, &a->view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) return false;
    a->held = true;
    const Py_buffer *v = &a->view;
    if (v->itemsize == 1 && v->ndim == 1) {
        in->data = v->buf ? v->buf : "";
        in->bytes = (size_t)v->len;
        return true;
    }
    if (v->itemsize == 1 && v->ndim == 3 && v->shape[2] == 3) {
        in->pixels = v->len ? v->buf : (const uint8_t *)"";
        in->height = v->len ? (size_t)v->shape[0] : 0;
        in->width = (size_t)v->shape[1];
        return true;
    }
    PyErr_Format(PyExc_ValueError,
                 "picture %zu: %d dimensions of format %s, want bytes, or uint8 [height][width][3]", i,
                 v->ndim, v->format ? v->format : "B");
    return false;
}

static bool pictures_take(pictures *p, PyObject *sequence)
{
    p->list = PySequence_List(sequence);
    if (!p->list) return false;
    size_t n = (size_t)PyList_Size(p->list);
    p->paths = PyMem_Calloc(n + 1, sizeof *p->paths);
    p->contents = PyMem_Calloc(n + 1, sizeof *p->contents);
    p->items = PyMem_Calloc(n + 1, sizeof *p->items);
    if (!p->paths || !p->contents || !p->items) {
        PyErr_NoMemory();
        return false;
    }
    p->n = n;
    for (size_t i = 0; i < n; i++)
        if (!picture_take(p, i)) return false;
    return true;
}

static void pictures_drop(pictures *p)
{
    for (size_t i = 0; i < p->n; i++) {
        Py_XDECREF(p->paths[i]);
        array_drop(&p->contents[i]);
    }
    PyMem_Free(p->paths);
    PyMem_Free(p->contents);
    PyMem_Free(p->items);
    Py_CLEAR(p->list);
}

/* pictures [n], out [n][d], rows int64 [n], limits (bytes, pixels), hook -> (count, failures) */
static PyObject *model_embed_pictures(PyObject *module, PyObject *args)
{
    PyObject *capsule, *sequence, *rows, *index, *hook, *result = NULL;
    reco_embed_opts opts = {0};
    const reco_model *model;
    if (!PyArg_ParseTuple(args, "OOOO(kk)O", &capsule, &sequence, &rows, &index, &opts.limits.max_bytes,
                          &opts.limits.max_pixels, &hook) ||
        !(model = unwrap(capsule, model_name)))
        return NULL;
    pictures in = {0};
    array out = {0}, at = {0};
    reco_status status;
    size_t count = 0;
    PyObject *failures = NULL;
    if (!pictures_take(&in, sequence) || !(failures = PyList_New(0))) goto out;
    float *x = array_take(&out, rows, 'f', in.n * reco_model_get_info(model)->d, true, "out");
    size_t *place = x ? array_take(&at, index, 'q', in.n, true, "rows") : NULL;
    call *c = place ? call_begin(module, hook) : NULL;
    if (!c) goto out;
    c->failures = failures;
    opts.failure = call_failure;
    opts.user = c;
    WORK(c, status, reco_embed_pictures(c->ctx, model, in.items, in.n, &opts, x, place, &count));
    if (call_end(c, status) == 0) result = Py_BuildValue("nO", (Py_ssize_t)count, failures);
out:
    Py_XDECREF(failures);
    array_drop(&out);
    array_drop(&at);
    pictures_drop(&in);
    return result;
}

/* One picture -> out [3][R][R] */
static PyObject *model_pixels(PyObject *module, PyObject *args)
{
    PyObject *capsule, *item, *rows;
    const reco_model *model;
    if (!PyArg_ParseTuple(args, "OOO", &capsule, &item, &rows) || !(model = unwrap(capsule, model_name)))
        return NULL;
    size_t side = reco_model_get_info(model)->image_size;
    pictures in = {0};
    array out = {0};
    int done = -1;
    reco_status status;
    PyObject *one = PyTuple_Pack(1, item);
    float *x = NULL;
    if (one && pictures_take(&in, one)) x = array_take(&out, rows, 'f', 3 * side * side, true, "out");
    call *c = x ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    const reco_picture_input *p = in.items;
    const char *name = p->name ? p->name : "picture";
    WORK(c, status,
         p->pixels ? reco_model_pixels_rgb(c->ctx, model, name, p->pixels, p->height, p->width, NULL, x)
         : p->data ? reco_model_pixels_of(c->ctx, model, name, p->data, p->bytes, NULL, x)
                   : reco_model_pixels(c->ctx, model, name, NULL, x));
    done = call_end(c, status);
out:
    Py_XDECREF(one);
    array_drop(&out);
    pictures_drop(&in);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* texts [n] -> ids int32 [n][context], padded as the reference does it */
static PyObject *model_tokens(PyObject *module, PyObject *args)
{
    PyObject *capsule, *sequence, *numbers;
    const reco_model *model;
    if (!PyArg_ParseTuple(args, "OOO", &capsule, &sequence, &numbers) ||
        !(model = unwrap(capsule, model_name)))
        return NULL;
    size_t context = reco_model_get_info(model)->context, n = 0;
    strings texts = {0};
    array out = {0};
    int done = -1;
    reco_status status = RECO_OK;
    if (!strings_take(&texts, sequence, false, "text")) goto out;
    int32_t *ids = array_take(&out, numbers, 'i', texts.n * context, true, "token ids");
    call *c = ids ? call_begin(module, NULL) : NULL;
    if (!c) goto out;
    for (size_t i = 0; i < texts.n && status == RECO_OK; i++, ids += context) {
        WORK(c, status, reco_model_tokens(c->ctx, model, texts.items[i], strlen(texts.items[i]), ids, &n));
        for (; status == RECO_OK && n < context; n++) ids[n] = reco_model_pad(model);
    }
    done = call_end(c, status);
out:
    array_drop(&out);
    strings_drop(&texts);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

PyMethodDef model_methods[] = {{"model_open", model_open, METH_VARARGS, NULL},
                               {"model_info", model_info, METH_VARARGS, NULL},
                               {"model_fingerprint", model_fingerprint, METH_VARARGS, NULL},
                               {"model_embed_texts", model_embed_texts, METH_VARARGS, NULL},
                               {"model_embed_tokens", model_embed_tokens, METH_VARARGS, NULL},
                               {"model_embed_pixels", model_embed_pixels, METH_VARARGS, NULL},
                               {"model_embed_pictures", model_embed_pictures, METH_VARARGS, NULL},
                               {"model_pixels", model_pixels, METH_VARARGS, NULL},
                               {"model_tokens", model_tokens, METH_VARARGS, NULL},
                               {NULL, NULL, 0, NULL}};
