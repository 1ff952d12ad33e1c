#include "core.h"

#include <string.h>

/* A checkpoint or the name of a control, d, k -> fusion */
static PyObject *fusion_open(PyObject *module, PyObject *args)
{
    PyObject *path, *capsule = NULL;
    Py_ssize_t d, k;
    reco_fusion *fusion = NULL;
    reco_status status;
    if (!PyArg_ParseTuple(args, "O&nn", PyUnicode_FSConverter, &path, &d, &k)) return NULL;
    call *c = call_begin(module, NULL);
    if (c) {
        WORK(c, status, reco_fusion_open(c->ctx, &fusion, PyBytes_AsString(path), (size_t)d, (size_t)k));
        if (call_end(c, status) == 0)
            capsule = wrap(fusion, fusion_name, NULL);
        else
            reco_fusion_free(fusion);
    }
    Py_DECREF(path);
    return capsule;
}

static const field config_fields[] = {FIELD_OF(reco_fusion_config, layer, FIELD_LAYER),
                                      FIELD(reco_fusion_config, d),
                                      FIELD(reco_fusion_config, k),
                                      FIELD(reco_fusion_config, layers),
                                      FIELD(reco_fusion_config, heads),
                                      FIELD(reco_fusion_config, mlp),
                                      FIELD(reco_fusion_config, hidden),
                                      FIELD_OF(reco_fusion_config, search, FIELD_MODALITY),
                                      FIELD_OF(reco_fusion_config, fuse, FIELD_MODALITY),
                                      FIELD(reco_fusion_config, scores),
                                      FIELD(reco_fusion_config, min_similarity),
                                      FIELD_OF(reco_fusion_config, sides, FIELD_SIDES),
                                      FIELDS_END};

static PyObject *fusion_config(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const reco_fusion *fusion;
    if (!PyArg_ParseTuple(args, "O", &capsule) || !(fusion = unwrap(capsule, fusion_name))) return NULL;
    reco_fusion_config config = *reco_fusion_get_config(fusion);
    PyObject *dict = fields_get(&config, config_fields), *mixture = mixture_from(&config.mixture);
    if (!dict || !mixture || PyDict_SetItemString(dict, "mixture", mixture) != 0) Py_CLEAR(dict);
    Py_XDECREF(mixture);
    return dict;
}

static PyObject *fusion_meta(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *capsule;
    const char *key;
    const reco_fusion *fusion;
    if (!PyArg_ParseTuple(args, "Os", &capsule, &key) || !(fusion = unwrap(capsule, fusion_name)))
        return NULL;
    return text_from(reco_fusion_meta(fusion, key));
}

/* bank, fusion, side, x [n][d], n, k, least, filter, recall, out [n][d], ids [n][K], scores [n][K], counts [n], weights [n][K+1], of which
 * any may be None, hook; K is k, or the layer's own where it is 0. The side is refined whatever training chose. */
static PyObject *refine(PyObject *module, PyObject *args)
{
    PyObject *b, *f, *x, *k, *least, *filter, *o[5], *hook;
    Py_ssize_t n;
    int done = -1;
    float recall;
    reco_memory memory;
    reco_question question = {0};
    const reco_bank *bank;
    const reco_fusion *fusion;
    if (!PyArg_ParseTuple(args, "OOO&OnOOOfOOOOOO", &b, &f, to_side, &question.side, &x, &n, &k, &least,
                          &filter, &recall, &o[0], &o[1], &o[2], &o[3], &o[4], &hook) ||
        !(bank = unwrap(b, bank_name)) || !(fusion = unwrap(f, fusion_name)) ||
        !to_memory(&memory, k, least, filter, recall))
        return NULL;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.sides = question.side == RECO_IMAGE ? RECO_SIDES_IMAGE : RECO_SIDES_TEXT;
    size_t d = reco_bank_get_info(bank)->d, reach = memory.k ? memory.k : reco_fusion_get_config(fusion)->k;
    if (n < 0 || reach > RECO_BANK_MAX_K ||
        (size_t)n > (size_t)PY_SSIZE_T_MAX / 8 / (d + RECO_BANK_MAX_K)) {
        PyErr_Format(PyExc_ValueError, "n = %zd, k = %zu, want k of 1..%d", n, reach, RECO_BANK_MAX_K);
        return NULL;
    }
    size_t count = (size_t)n, places = count * reach;
    array in = {0}, out = {0}, ids = {0}, scores = {0}, counts = {0}, weights = {0};
    reco_refined refined = {0};
    reco_status status;
    call *c = NULL;
    question.n = count;
    question.x = array_take(&in, x, 'f', count * d, false, "embeddings");
    if (question.x && array_maybe(&out, &refined.rows, o[0], 'f', count * d, true, "out") &&
        array_maybe(&ids, &refined.hits.ids, o[1], 'q', places, true, "ids") &&
        array_maybe(&scores, &refined.hits.scores, o[2], 'f', places, true, "scores") &&
        array_maybe(&counts, &refined.hits.counts, o[3], 'q', count, true, "counts") &&
        array_maybe(&weights, &refined.weights, o[4], 'f', places + count, true, "weights"))
        c = call_begin(module, hook);
    if (!c) goto out;
    WORK(c, status, reco_refine(c->ctx, &memory, &question, &refined));
    done = call_end(c, status);
out:
    array_drop(&in);
    array_drop(&out);
    array_drop(&ids);
    array_drop(&scores);
    array_drop(&counts);
    array_drop(&weights);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

/* model, bank, fusion, of which any may be None */
static PyObject *check_encoder(PyObject *module, PyObject *args)
{
    PyObject *o[3];
    const reco_model *model;
    const reco_bank *bank;
    const reco_fusion *fusion;
    reco_status status;
    if (!PyArg_ParseTuple(args, "OOO", &o[0], &o[1], &o[2]) || !unwrap_or_none(&model, o[0], model_name) ||
        !unwrap_or_none(&bank, o[1], bank_name) || !unwrap_or_none(&fusion, o[2], fusion_name))
        return NULL;
    call *c = call_begin(module, NULL);
    if (!c) return NULL;
    WORK(c, status, reco_check_encoder(c->ctx, model, bank, fusion));
    return call_end(c, status) == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- training ---- */

static const field train_fields[] = {FIELD_OF(reco_train_opts, layer, FIELD_LAYER),
                                     FIELD(reco_train_opts, k),
                                     FIELD(reco_train_opts, batch),
                                     FIELD(reco_train_opts, steps),
                                     FIELD(reco_train_opts, lr),
                                     FIELD(reco_train_opts, weight_decay),
                                     FIELD(reco_train_opts, warmup),
                                     FIELD(reco_train_opts, clip),
                                     FIELD(reco_train_opts, neighbour_dropout),
                                     FIELD(reco_train_opts, max_similarity),
                                     FIELD(reco_train_opts, min_similarity),
                                     FIELD(reco_train_opts, no_scores),
                                     FIELD(reco_train_opts, rotate),
                                     FIELD(reco_train_opts, heads),
                                     FIELD(reco_train_opts, layers),
                                     FIELD(reco_train_opts, hidden),
                                     FIELD(reco_train_opts, mlp),
                                     FIELD_OF(reco_train_opts, search, FIELD_MODALITY),
                                     FIELD_OF(reco_train_opts, fuse, FIELD_MODALITY),
                                     FIELD(reco_train_opts, validation),
                                     FIELD(reco_train_opts, scale),
                                     FIELD(reco_train_opts, seed),
                                     FIELD_OF(reco_train_opts, sides, FIELD_SIDES),
                                     FIELD(reco_train_opts, fresh),
                                     FIELD(reco_train_opts, recall),
                                     FIELDS_END};
static const field trained_fields[] = {FIELD(reco_train_result, pairs),
                                       FIELD(reco_train_result, validation_pairs),
                                       FIELD(reco_train_result, steps),
                                       FIELD(reco_train_result, best_step),
                                       FIELD_OF(reco_train_result, layer, FIELD_LAYER),
                                       FIELD(reco_train_result, clip),
                                       FIELD(reco_train_result, image),
                                       FIELD(reco_train_result, text),
                                       FIELD(reco_train_result, both),
                                       FIELD_OF(reco_train_result, sides, FIELD_SIDES),
                                       FIELD(reco_train_result, concat),
                                       FIELD(reco_train_result, loss),
                                       FIELD(reco_train_result, seconds),
                                       FIELD(reco_train_result, resumed),
                                       FIELDS_END};

static const field compared_fields[] = {FIELD_OF(reco_train_layer, layer, FIELD_LAYER),
                                        FIELD_OF(reco_train_layer, sides, FIELD_SIDES),
                                        FIELD(reco_train_layer, pairs),
                                        FIELD(reco_train_layer, clip),
                                        FIELD(reco_train_layer, score),
                                        FIELD(reco_train_layer, gain),
                                        FIELD(reco_train_layer, error),
                                        FIELD(reco_train_layer, seconds),
                                        FIELDS_END};

/* A list of dicts; NULL with an exception. */
static PyObject *compared_of(const reco_train_result *result)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < result->layers; i++) {
        PyObject *one = fields_get(&result->compared[i], compared_fields);
        if (!one || PyList_Append(list, one) != 0) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

/* bank, pairs (a bank or folder of embeddings) or None, judged likewise, out, options, log or None, hook -> result */
static PyObject *train(PyObject *module, PyObject *args)
{
    PyObject *b, *path, *dict, *hook, *answer = NULL;
    const char *from[2];
    const reco_bank *bank;
    reco_train_opts opts = RECO_TRAIN_OPTS_INIT;
    if (!PyArg_ParseTuple(args, "OzzO&OzO", &b, &from[0], &from[1], PyUnicode_FSConverter, &path, &dict,
                          &opts.log, &hook))
        return NULL;
    reco_pair_set set[2] = {{0}, {0}};
    reco_train_result result = {0};
    reco_status status = RECO_OK;
    opts.command = "reco.train";
    call *c = (bank = unwrap(b, bank_name)) && fields_set(&opts, train_fields, dict, "training")
                  ? call_begin(module, hook)
                  : NULL;
    if (!c) goto out;
    for (int i = 0; i < 2 && status == RECO_OK; i++)
        if (from[i]) {
            WORK(c, status, reco_check_embeddings(c->ctx, from[i], NULL, bank, NULL));
            if (status == RECO_OK) WORK(c, status, reco_pair_set_load(c->ctx, &set[i], from[i]));
        }
    reco_train_pairs pairs[2];
    for (int i = 0; i < 2; i++)
        pairs[i] = (reco_train_pairs){.n = set[i].n,
                                      .image = set[i].image,
                                      .text = set[i].text,
                                      .captions = set[i].captions,
                                      .pictures = set[i].pictures};
    if (from[1]) opts.judged = &pairs[1];
    if (status == RECO_OK)
        WORK(c, status,
             reco_train(c->ctx, bank, from[0] ? &pairs[0] : NULL, PyBytes_AsString(path), &opts, &result));
    reco_pair_set_free(&set[0]);
    reco_pair_set_free(&set[1]);
    if (call_end(c, status) != 0) goto out;
    answer = fields_get(&result, trained_fields);
    PyObject *mixture = mixture_from(&result.mixture), *compared = compared_of(&result);
    if (!answer || !mixture || !compared || PyDict_SetItemString(answer, "mixture", mixture) != 0 ||
        PyDict_SetItemString(answer, "compared", compared) != 0)
        Py_CLEAR(answer);
    Py_XDECREF(mixture);
    Py_XDECREF(compared);
out:
    Py_DECREF(path);
    return answer;
}

PyMethodDef fusion_methods[] = {{"fusion_open", fusion_open, METH_VARARGS, NULL},
                                {"fusion_config", fusion_config, METH_VARARGS, NULL},
                                {"fusion_meta", fusion_meta, METH_VARARGS, NULL},
                                {"refine", refine, METH_VARARGS, NULL},
                                {"check_encoder", check_encoder, METH_VARARGS, NULL},
                                {"train", train, METH_VARARGS, NULL},
                                {NULL, NULL, 0, NULL}};
