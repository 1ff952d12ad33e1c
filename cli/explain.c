#include "recall.h"
#include "explain.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_TEXT = 0x100, KEY_OUT, KEY_TOP };

typedef struct question {
    reco_side own;
    const char *text; /* or a file */
} question;

typedef struct args {
    cli *common;
    zero_shot z;
    const char *out;
    size_t top, n;
    question *questions;
} args;

static void add_question(args *a, reco_side own, const char *text)
{
    a->questions[a->n++] = (question){own, text};
}

static error_t parse_explain_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->z;
        for (int i = 1; i < 5; i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_TEXT:
        add_question(a, RECO_TEXT, arg);
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_TOP:
        a->top = cli_size(state, "--top", arg, 1, 50);
        return 0;
    case ARGP_KEY_ARG:
        add_question(a, RECO_IMAGE, arg);
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->n ? a : NULL, "IMAGE or --text");
        if (a->z.images)
            argp_error(state, "--images is not an option here: give the pictures as arguments");
        for (size_t i = 0; i < a->n && a->z.class_file; i++)
            if (a->questions[i].own == RECO_TEXT) argp_error(state, "--text cannot be used with --classes");
        if (!a->common->json) cli_need(state, a->out, "--out");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"text", KEY_TEXT, "TEXT", 0, "Explain what this text finds (may be given again)", 1},
    {"out", KEY_OUT, "PAGE", 0, "The page to write: PAGE.html, or PAGE.json for the same as data", 1},
    {"top", KEY_TOP, "N", 0, "Number of answers to show from each expert (default: 5)", 2},
    {0},
};
static const struct argp_child children[] = {
    {&zero_shot_options, 0, NULL, 0}, {&cli_model_options, 0, NULL, 0},  {&cli_strict_option, 0, NULL, 0},
    {&cli_common, 0, NULL, 0},        {&cli_recall_options, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_explain_option,
    "IMAGE...",
    "Explain an answer: what was retrieved on each side and with what weight, the answer of each expert, "
    "and the answers before and after. Pictures are classified among --classes or among the captions of "
    "the bank; texts search its pictures.\v"
    "Example:\n  reco explain --model clip/ --bank birds.bank --fusion fusion.safetensors --classes "
    "birds.txt photo.jpg --out why.html\n"
    "  reco explain --model clip/ --bank shop.bank --fusion fusion.safetensors --text \"red kettle\" --out "
    "why.html",
    children,
    NULL,
    NULL};

/* Can the page be written, and is it none of the inputs? */
static reco_status check_output(cli *c, const args *a)
{
    if (!a->out) return RECO_OK;
    const zero_shot *z = &a->z;
    const char *inputs[] = {z->bank_dir, z->fusion_name, z->class_file, z->template_file};
    reco_status status =
        cli_output(c, a->out, RECO_OUT_FILE, z->model_dir, inputs, sizeof inputs / sizeof *inputs);
    for (size_t i = 0; i < a->n && status == RECO_OK; i++)
        if (a->questions[i].own == RECO_IMAGE)
            status = reco_check_output(c->ctx, a->out, RECO_OUT_FILE | RECO_OUT_NO_PROBE,
                                       &a->questions[i].text, 1);
    return status;
}

/* Of what could be embedded, the embedding x [n][d], one after another. */
static reco_status embed_questions(cli *c, args *a, float *x, unsigned char *good, size_t *n)
{
    zero_shot *z = &a->z;
    reco_embed_opts embed = {.failure = cli_failure, .user = c};
    for (size_t i = 0; i < a->n; i++) {
        question *q = &a->questions[i];
        unsigned char cut = 0;
        float *row = x + *n * z->among.d;
        reco_status status = RECO_OK;
        if (q->own == RECO_TEXT) {
            status = reco_model_embed_texts(c->ctx, z->model, &q->text, 1, row, &cut);
            good[i] = 1;
            c->truncated += cut;
        } else
            status = reco_embed_files(c->ctx, z->model, &q->text, 1, &embed, row, good + i);
        if (status != RECO_OK) return status;
        *n += good[i];
    }
    return RECO_OK;
}

static reco_status explain_all(cli *c, args *a, const float *x, const unsigned char *good, size_t n,
                               json_t *list)
{
    zero_shot *z = &a->z;
    bool classes = z->among.n > 0;
    reco_status status = classes ? zero_shot_ask(c, z, x, NULL, n) : RECO_OK;
    for (size_t i = 0, at = 0; i < a->n && status == RECO_OK; i++) {
        const question *q = &a->questions[i];
        if (!good[i]) continue;
        json_t *one = classes ? explain_picture(c, z, at, q->text, q->text, a->top)
                              : explain_question(c, z, q->own, q->text, x + at * z->among.d, a->top);
        if (!one) status = RECO_E_FORMAT; /* the context has the reason */
        json_array_append_new(list, one);
        at++;
    }
    return status;
}

static reco_status run_explain(cli *c, args *a, uint64_t *failures)
{
    zero_shot *z = &a->z;
    reco_status status = check_output(c, a);
    if (status == RECO_OK) status = zero_shot_open(c, z);
    if (status == RECO_OK)
        status = zero_shot_remember(c, z, z->bank_dir, z->fusion_name, z->memory.k, &z->readout);
    if (status != RECO_OK) return status;
    size_t n = 0;
    float *x = calloc(a->n * z->among.d, sizeof *x);
    unsigned char *good = calloc(a->n, 1);
    json_t *list = json_array(), *page = NULL;
    if (!x || !good || !list) status = RECO_E_NOMEM;
    if (status == RECO_OK) status = embed_questions(c, a, x, good, &n);
    if (status == RECO_OK) status = explain_all(c, a, x, good, n, list);
    *failures = a->n - n;
    if (status == RECO_OK) page = json_pack("{s:o, s:O}", "facts", explain_facts(z), "queries", list);
    if (status == RECO_OK && !page) status = RECO_E_NOMEM;
    if (status == RECO_OK && a->out && json_array_size(list))
        status = explain_write(c, a->out, "Why this answer?", page);
    if (status == RECO_OK) {
        cli_clear_bar(c);
        if (c->json) {
            json_object_set_new(page, "truncated", json_integer((json_int_t)c->truncated));
            json_object_set_new(page, "failures", json_integer((json_int_t)*failures));
            json_object_set(page, "failed", c->failed);
            cli_tell_search(c, z->bank, page);
            cli_print(json_incref(page));
        } else if (json_array_size(list))
            cli_say("%zu explained in %s", json_array_size(list), a->out);
    }
    json_decref(page);
    json_decref(list);
    free(x), free(good);
    return status;
}

int cmd_explain(int argc, char **argv)
{
    cli c = {.in_order = true};
    args a = {.common = &c, .top = 5, .z = {.open = true}};
    uint64_t failures = 0;
    a.questions = calloc((size_t)argc, sizeof *a.questions);
    if (!a.questions || !cli_begin(&c, argc, argv, &argp, &a)) {
        free(a.questions);
        return 1;
    }
    reco_status status = run_explain(&c, &a, &failures);
    int strict = status == RECO_OK ? cli_skipped(&c, failures, NULL) : 0;
    if (status == RECO_OK) strict |= cli_truncated(&c, a.z.model, c.truncated, "text");
    if (status == RECO_OK && failures == a.n) strict = 1;
    zero_shot_close(&a.z);
    free(a.questions);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
