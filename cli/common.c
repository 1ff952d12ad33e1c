#include "recall.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_JSON = 0x1000,
    KEY_THREADS,
    KEY_QUIET,
    KEY_PRECISION,
    KEY_STRICT,
    KEY_WAIT,
    KEY_PARTIAL,
    KEY_EXIF
};

static bool told; /* the one line about what went wrong has been written */
static bool unprinted;

void cli_error(const char *format, ...)
{
    char *line;
    va_list args;
    told = true;
    va_start(args, format);
    int n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0) return;
    reco_text_clean(line);
    fprintf(stderr, "reco: %s\n", line);
    free(line);
}

void cli_stray(struct argp_state *state, const char *arg)
{
    argp_error(state, "unexpected argument \"%s\"", arg);
}

size_t cli_size(struct argp_state *state, const char *what, const char *text, size_t low, size_t high)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value < low || value > high)
        argp_error(state, "%s = %s, want %zu..%zu", what, text, low, high);
    return (size_t)value;
}

void cli_shard(struct argp_state *state, const char *text, reco_shard *shard)
{
    int end = 0;
    bool good = sscanf(text, "%9u/%9u%n", &shard->number, &shard->of, &end) == 2 && !text[end] &&
                strspn(text, "0123456789/") == (size_t)end;
    if (!good || shard->number < 1 || shard->number > shard->of)
        argp_error(state, "shard: %s, want I/N with 1 <= I <= N", text);
}

double cli_number(struct argp_state *state, const char *what, const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        argp_error(state, "%s = %s, want %g..%g", what, text, low, high);
    return value;
}

float cli_similarity(struct argp_state *state, const char *what, const char *text)
{
    return fminf((float)cli_number(state, what, text, -1, 1), 0.9995f);
}

static const struct {
    const char *name;
    reco_sides sides;
} sides_names[] = {{"none", RECO_SIDES_NONE},
                   {"image", RECO_SIDES_IMAGE},
                   {"text", RECO_SIDES_TEXT},
                   {"both", RECO_SIDES_BOTH},
                   {"auto", RECO_SIDES_DEFAULT}};

reco_sides cli_sides(struct argp_state *state, const char *text)
{
    for (size_t i = 0; i < sizeof sides_names / sizeof *sides_names; i++)
        if (strcmp(text, sides_names[i].name) == 0) return sides_names[i].sides;
    argp_error(state, "sides = %s, want image, text, both, none or auto", text);
    return RECO_SIDES_DEFAULT;
}

const char *cli_sides_name(reco_sides sides)
{
    for (size_t i = 0; i < sizeof sides_names / sizeof *sides_names; i++)
        if (sides == sides_names[i].sides) return sides_names[i].name;
    return "?";
}

const char *cli_refined(const reco_fusion *fusion, reco_sides sides, bool own)
{
    bool trained = reco_fusion_get_config(fusion)->layer != RECO_LAYER_NONE;
    return own && trained && sides == RECO_SIDES_NONE
               ? "none (training found nothing better than CLIP alone)"
               : cli_sides_name(sides);
}

reco_side cli_side(struct argp_state *state, const char *option, const char *text)
{
    if (strcmp(text, "image") != 0 && strcmp(text, "text") != 0)
        argp_error(state, "%s = %s, want image or text", option, text);
    return *text == 't' ? RECO_TEXT : RECO_IMAGE;
}

reco_dtype cli_dtype(struct argp_state *state, const char *text)
{
    if (strcmp(text, "float32") != 0 && strcmp(text, "float16") != 0)
        argp_error(state, "--dtype = %s, want float16 or float32", text);
    return strcmp(text, "float32") == 0 ? RECO_DTYPE_F32 : RECO_DTYPE_F16;
}

void cli_need(struct argp_state *state, const void *value, const char *option)
{
    if (!value) argp_error(state, "%s is missing", option);
}

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    cli *c = state->input;
    switch (key) {
    case KEY_JSON:
        c->json = true;
        return 0;
    case KEY_THREADS:
        c->threads = (int)cli_size(state, "--threads", arg, 1, 1024);
        return 0;
    case KEY_QUIET:
        c->quiet = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_bank(int key, char *arg, struct argp_state *state)
{
    cli *c = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (c->bank) cli_stray(state, arg);
        c->bank = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, c->bank, "BANK");
        return 0;
    default:
        return parse_common(key, arg, state);
    }
}

static error_t parse_precision(int key, char *arg, struct argp_state *state)
{
    cli *c = state->input;
    if (key == KEY_EXIF) c->exif = true;
    if (key == KEY_EXIF) return 0;
    if (key != KEY_PRECISION) return ARGP_ERR_UNKNOWN;
    if (strcmp(arg, "f32") == 0)
        c->precision = RECO_PRECISION_F32;
    else if (strcmp(arg, "bf16") == 0)
        c->precision = RECO_PRECISION_BF16;
    else if (strcmp(arg, "int8") == 0)
        c->precision = RECO_PRECISION_INT8;
    else
        argp_error(state, "--precision = %s, want f32, bf16 or int8", arg);
    return 0;
}

static error_t parse_strict(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    cli *c = state->input;
    if (key != KEY_STRICT) return ARGP_ERR_UNKNOWN;
    c->strict = true;
    return 0;
}

static error_t parse_wait(int key, char *arg, struct argp_state *state)
{
    cli *c = state->input;
    if (key == ARGP_KEY_INIT) c->wait = 5;
    if (key == ARGP_KEY_INIT) return 0;
    if (key != KEY_WAIT) return ARGP_ERR_UNKNOWN;
    c->wait = cli_number(state, "--wait", arg, 0, 1e6);
    return 0;
}

static error_t parse_servers(int key, char *arg, struct argp_state *state)
{
    cli *c = state->input;
    (void)arg;
    if (key != KEY_PARTIAL) return ARGP_ERR_UNKNOWN;
    c->servers.partial = 1;
    return 0;
}

void cli_tell_search(const cli *c, const reco_bank *bank, json_t *answer)
{
    size_t shards = bank ? reco_bank_get_info(bank)->shards : 0;
    json_object_set_new(answer, "recall", c->recall > 0 ? json_real(c->recall) : json_null());
    if (!c->servers.partial || !shards) return;
    json_t *missing = answer_missing(bank);
    json_object_set_new(answer, "shards", json_integer((json_int_t)shards));
    json_object_set_new(answer, "shards_failed", json_integer((json_int_t)json_array_size(missing)));
    json_object_set_new(answer, "missing_servers", missing);
}

static const struct argp_option server_options[] = {
    {"partial", KEY_PARTIAL, NULL, 0, "With a postgresql:// bank: continue without servers that fail", 81},
    {0},
};

static const struct argp_option common_options[] = {
    {"json", KEY_JSON, NULL, 0, "Print one JSON object instead of text", 90},
    {"threads", KEY_THREADS, "N", 0, "Number of threads (default: one per processor)", 90},
    {"quiet", KEY_QUIET, NULL, 0, "Don't show progress", 90},
    {0},
};
static const struct argp_option precision_options[] = {
    {"precision", KEY_PRECISION, "f32|bf16|int8", 0,
     "Precision of the model (default: bf16 if the CPU supports it, else f32); int8 is faster and less "
     "accurate",
     80},
    {"exif", KEY_EXIF, NULL, 0,
     "Rotate pictures according to their EXIF orientation (default: as stored, as Pillow opens them)", 80},
    {0},
};
static const struct argp_option strict_options[] = {
    {"strict", KEY_STRICT, NULL, 0, "Exit with 1 if any input was skipped or truncated", 80},
    {0},
};
static const struct argp_option wait_options[] = {
    {"wait", KEY_WAIT, "SECONDS", 0,
     "How long to wait while another process writes to the bank (default: 5)", 80},
    {0},
};
const struct argp cli_server_options = {server_options, parse_servers, NULL, NULL, NULL, NULL, NULL};
const struct argp cli_wait_option = {wait_options, parse_wait, NULL, NULL, NULL, NULL, NULL};
const struct argp cli_common = {common_options, parse_common, NULL, NULL, NULL, NULL, NULL};
const struct argp cli_bank = {common_options, parse_bank, NULL, NULL, NULL, NULL, NULL};
const struct argp cli_model_options = {precision_options, parse_precision, NULL, NULL, NULL, NULL, NULL};
const struct argp cli_strict_option = {strict_options, parse_strict, NULL, NULL, NULL, NULL, NULL};

bool cli_capped(reco_isa *isa)
{
    static const char *const names[] = {
        [RECO_ISA_PLAIN] = "plain", [RECO_ISA_AVX2] = "avx2", [RECO_ISA_AVX512] = "avx512"};
    const char *cap = getenv("RECO_MAX_ISA");
    if (!cap || !*cap) return true;
    for (int i = RECO_ISA_PLAIN; i <= RECO_ISA_AVX512; i++)
        if (strcmp(cap, names[i]) == 0) return *isa = (reco_isa)i, true;
    cli_error("RECO_MAX_ISA is \"%s\", want plain, avx2 or avx512", cap);
    return false;
}

bool cli_begin(cli *c, int argc, char **argv, const struct argp *argp, void *input)
{
    if (cli_parse(argp, argc, argv, c->in_order ? ARGP_IN_ORDER : 0, input) != 0) return false;
    cli_catch_signals();
    reco_ctx_opts opts = {
        .threads = c->threads, .log = cli_log, .progress = cli_progress, .user = c, .wait = c->wait};
    if (!cli_capped(&opts.max_isa)) return false;
    c->failed = json_array();
    if (reco_ctx_create(&c->ctx, &opts) == RECO_OK && c->failed) return true;
    cli_error("out of memory");
    return false;
}

int cli_end(cli *c, reco_status status)
{
    cli_clear_bar(c);
    if (status != RECO_OK && !told)
        cli_error("%s", *reco_ctx_error(c->ctx) ? reco_ctx_error(c->ctx) : reco_status_name(status));
    reco_ctx_free(c->ctx);
    json_decref(c->failed);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error("standard output: %s", strerror(errno));
        return 1;
    }
    return status == RECO_OK && !unprinted ? 0 : 1;
}

json_t *cli_text(const char *text)
{
    json_t *value = json_string(text);
    if (value) return value;
    char *clean = reco_text_repair(text, strlen(text), NULL);
    value = clean ? json_string(clean) : NULL;
    reco_free(clean);
    return value;
}

json_t *cli_bank_text(const char *path)
{
    char *shown = strdup(path);
    if (!shown) return NULL;
    if (reco_bank_is_server(path)) reco_text_clean(shown);
    json_t *value = cli_text(shown);
    free(shown);
    return value;
}

void cli_print(json_t *value)
{
    if (!value) {
        cli_error("the result could not be written as JSON");
        unprinted = true;
        return;
    }
    json_dumpf(value, stdout, answer_digits(value, false));
    fputc('\n', stdout);
    json_decref(value);
}

void cli_failure(void *user, uint64_t row, const char *item, const char *reason)
{
    cli *c = user;
    cli_clear_bar(c);
    /* One line, as errors are; the item may be any text of the user's, and the reason mostly names it already. */
    char shown[256];
    size_t bytes = strnlen(item, sizeof shown - 1);
    memcpy(shown, item, bytes);
    while (bytes < strlen(item) && bytes && ((unsigned char)item[bytes] & 0xc0) == 0x80) bytes--;
    shown[bytes] = 0;
    reco_text_clean(shown);
    const char *dots = item[bytes] ? "..." : "";
    bool named = strstr(reason, shown) != NULL;
    fprintf(stderr, "reco: skipped row %llu: %s%s%s%s\n", (unsigned long long)row, named ? "" : shown,
            named ? "" : dots, named ? "" : ": ", reason);
    if (json_array_size(c->failed) >= 1000) return;
    json_array_append_new(c->failed, json_pack("{s:I, s:o, s:o}", "row", (json_int_t)row, "item",
                                               cli_text(item), "reason", cli_text(reason)));
}

int cli_skipped(cli *c, uint64_t failures, const char *where)
{
    if (!failures) return 0;
    cli_clear_bar(c);
    fprintf(stderr, "reco: warning: %llu skipped%s%s\n", (unsigned long long)failures,
            where ? ", listed in " : "", where ? where : "");
    return c->strict ? 1 : 0;
}

int cli_truncated(cli *c, const reco_model *model, uint64_t texts, const char *what)
{
    if (!texts) return 0;
    cli_clear_bar(c);
    fprintf(
        stderr, "reco: warning: %llu %s%s longer than the model's context of %zu tokens, and truncated\n",
        (unsigned long long)texts, what, texts == 1 ? " is" : "s are", reco_model_get_info(model)->context);
    return c->strict ? 1 : 0;
}

bool cli_not_utf8(const char *text)
{
    size_t errors = 0;
    reco_free(reco_text_repair(text, strlen(text), &errors));
    return errors > 0;
}

void cli_repaired(cli *c, uint64_t captions)
{
    if (!captions) return;
    cli_clear_bar(c);
    fprintf(stderr, "reco: warning: %llu caption%s not UTF-8, embedded with U+FFFD for the invalid bytes\n",
            (unsigned long long)captions, captions == 1 ? " is" : "s are");
}

reco_status cli_output(cli *c, const char *out, int kind, const char *model, const char *const *inputs,
                       size_t n)
{
    reco_status status =
        reco_check_output(c->ctx, out, kind | RECO_OUT_WITHIN | RECO_OUT_NO_PROBE, &model, 1);
    return status == RECO_OK ? reco_check_output(c->ctx, out, kind, inputs, n) : status;
}

reco_status cli_open_model(cli *c, reco_model **model, const char *dir, reco_sides sides)
{
    reco_model_opts opts = {
        .precision = c->precision, .without = (reco_sides)(RECO_SIDES_BOTH - (int)sides), .exif = c->exif};
    return reco_model_open(c->ctx, model, dir, &opts);
}

reco_status cli_open_memory(cli *c, const reco_model *model, reco_bank **bank, const char *bank_path,
                            reco_fusion **fusion, const char *fusion_name, size_t k)
{
    reco_status status = reco_bank_open_with(c->ctx, bank, bank_path, &c->servers);
    if (status == RECO_OK && fusion_name)
        status = reco_fusion_open(c->ctx, fusion, fusion_name, reco_bank_get_info(*bank)->d, k);
    if (status == RECO_OK) status = reco_check_encoder(c->ctx, model, *bank, fusion_name ? *fusion : NULL);
    if (status == RECO_OK) {
        double recall = answer_recall(*bank, 0);
        if (c->recall <= 0 || recall < c->recall) c->recall = recall;
        cli_say_recall(c, *bank, recall);
    }
    return status;
}
