/* Time the encoder: one JSON row per case, or, with --serve, one timed repetition per line of standard input, so that
 * bench/run-encode can take turns between this process and a peer's while both are warm.
 *
 *     build/bench/encode --data .cache/bench/data --case vit-b-32-batch-32 --runs 9
 *
 * DATA is what bench/models.py writes. Serving: the first line printed is the case's description; then "run" is
 * answered with {"seconds": ...} and "save FILE" with the embeddings of that work, raw f32 [n][d], for the runner to
 * compare with the peer's. Uses the public headers alone, as a user's program would. */
#include <reco/reco.h>

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KEY_DATA = 1, KEY_CASE, KEY_MODEL, KEY_PRECISION, KEY_THREADS, KEY_RUNS, KEY_FILES, KEY_SERVE };
enum work { WORK_PIXELS, WORK_CAPTIONS, WORK_FILES, WORK_LOAD };

/* A run of a small case is repeated, so that the clock and the wake-up of threads do not count. */
static const struct bench_case {
    const char *name, *model;
    enum work work;
    size_t batch, repeat;
} cases[] = {
    {"vit-b-32-batch-32", "vit-b-32", WORK_PIXELS, 32, 1},
    {"vit-b-32-batch-1", "vit-b-32", WORK_PIXELS, 1, 16},
    {"vit-l-14-batch-8", "vit-l-14", WORK_PIXELS, 8, 1},
    {"captions", "vit-b-32", WORK_CAPTIONS, 0, 1},
    {"files", "vit-b-32", WORK_FILES, 0, 1},
    {"load", "vit-b-32", WORK_LOAD, 1, 1},
};

typedef struct bench {
    const struct bench_case *what;
    const char *data, *model_name, *precision;
    int threads, serve;
    size_t runs, files;
    reco_ctx *ctx;
    reco_model *model;
    reco_model_info info;
    reco_sides sides;
    float *pixels, *out; /* [n][3][R][R], [n][d] */
    char *text;          /* the captions' file, its line ends NUL */
    const char **captions;
    size_t n; /* items of one run */
    char folder[64], list[128], picture[4096];
    double open_seconds;
    size_t peak_open; /* kB, see memory() */
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "encode: %s: %s\n", what, why);
    return 1;
}

static int fail_reco(const bench *b)
{
    fprintf(stderr, "encode: %s\n", reco_ctx_error(b->ctx));
    return 1;
}

/* A field of /proc/self/status, in kB. */
static size_t memory(const char *field)
{
    char line[256];
    size_t kb = 0, length = strlen(field);
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, field, length) == 0 && line[length] == ':')
            kb = strtoul(line + length + 1, NULL, 10);
    fclose(file);
    return kb;
}

/* So that VmHWM is the peak from here on. */
static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file) return;
    fputs("5", file);
    fclose(file);
}

/* What of the CPU matters to an encoder. */
static void print_isa(void)
{
    static const char *const names[] = {"avx2",        "fma",      "avx512f",  "avx512_vnni",
                                        "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8"};
    char line[8192] = "";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file) && strncmp(line, "flags", 5) != 0) continue;
    if (file) fclose(file);
    const char *between = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *at = line;
        size_t length = strlen(names[i]);
        while ((at = strstr(at, names[i])) && (at[-1] != ' ' || (at[length] != ' ' && at[length] != '\n')))
            at++;
        if (!at) continue;
        printf("%s%s", between, names[i]);
        between = " ";
    }
}

static const char *precision_name(reco_precision precision)
{
    return precision == RECO_PRECISION_F32 ? "f32" : precision == RECO_PRECISION_BF16 ? "bf16" : "int8";
}

static int parse_precision(reco_precision *precision, const char *name)
{
    if (strcmp(name, "auto") == 0)
        *precision = RECO_PRECISION_AUTO;
    else if (strcmp(name, "f32") == 0)
        *precision = RECO_PRECISION_F32;
    else if (strcmp(name, "bf16") == 0)
        *precision = RECO_PRECISION_BF16;
    else if (strcmp(name, "int8") == 0)
        *precision = RECO_PRECISION_INT8;
    else
        return fail(name, "no such precision, want auto, f32, bf16 or int8");
    return 0;
}

static char *read_all(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    char *data = NULL;
    if (file && fstat(fileno(file), &info) == 0 && (data = malloc((size_t)info.st_size + 1))) {
        *bytes = fread(data, 1, (size_t)info.st_size, file);
        data[*bytes] = 0;
    }
    if (!data) fail(path, strerror(errno));
    if (file) fclose(file);
    return data;
}

static int prepare_pixels(bench *b)
{
    char path[4096];
    size_t bytes = 0, one = 3 * b->info.image_size * b->info.image_size * sizeof(float);
    snprintf(path, sizeof path, "%s/pixels.f32", b->data);
    b->n = b->what->batch * b->what->repeat;
    if (!(b->pixels = (float *)(void *)read_all(path, &bytes))) return 1;
    return bytes < b->n * one ? fail(path, "too small for this model's pictures") : 0;
}

static int prepare_captions(bench *b)
{
    char path[4096];
    size_t bytes = 0, lines = 0;
    snprintf(path, sizeof path, "%s/captions.txt", b->data);
    if (!(b->text = read_all(path, &bytes))) return 1;
    for (size_t i = 0; i < bytes; i++) lines += b->text[i] == '\n';
    if (!(b->captions = calloc(lines + 1, sizeof *b->captions))) return fail("captions", "out of memory");
    for (char *at = b->text, *end; (end = strchr(at, '\n')); at = end + 1) {
        *end = 0;
        b->captions[b->n++] = at;
    }
    return b->n ? 0 : fail(path, "no captions");
}

/* A list of the first b->files pictures and a folder for what is made of them. */
static int prepare_files(bench *b)
{
    if (!mkdtemp(strcpy(b->folder, "/tmp/reco-bench-XXXXXX"))) return fail(b->folder, strerror(errno));
    snprintf(b->list, sizeof b->list, "%s/list", b->folder);
    FILE *file = fopen(b->list, "w");
    char *data = realpath(b->data, NULL);
    if (!file || !data) return fail(file ? b->data : b->list, strerror(errno));
    for (size_t i = 0; i < b->files; i++) fprintf(file, "%s/images/%04zu.jpg\n", data, i);
    free(data);
    b->n = b->files;
    return fclose(file) == 0 ? 0 : fail(b->list, strerror(errno));
}

static int prepare_load(bench *b)
{
    snprintf(b->picture, sizeof b->picture, "%s/images/0000.jpg", b->data);
    b->n = 1;
    return 0;
}

static int open_model(bench *b)
{
    char path[4096];
    reco_precision precision;
    if (parse_precision(&precision, b->precision)) return 1;
    snprintf(path, sizeof path, "%s/%s", b->data, b->model_name ? b->model_name : b->what->model);
    double start = now();
    const char *cap = getenv("RECO_MAX_ISA"); /* as the command line's */
    reco_ctx_opts opts = {.threads = b->threads};
    if (cap && strcmp(cap, "avx2") == 0) opts.max_isa = RECO_ISA_AVX2;
    if (cap && strcmp(cap, "plain") == 0) opts.max_isa = RECO_ISA_PLAIN;
    if (reco_ctx_create(&b->ctx, &opts) != RECO_OK) return fail("--threads", "want 0..1024");
    b->sides = b->what->work == WORK_CAPTIONS ? RECO_SIDES_TEXT : RECO_SIDES_IMAGE;
    reco_model_opts model_opts = {.precision = precision,
                                  .without =
                                      b->sides == RECO_SIDES_TEXT ? RECO_SIDES_IMAGE : RECO_SIDES_TEXT};
    if (reco_model_open(b->ctx, &b->model, path, &model_opts) != RECO_OK) return fail_reco(b);
    b->open_seconds = now() - start;
    b->info = *reco_model_get_info(b->model);
    b->peak_open = memory("VmHWM") - memory("RssFile");
    forget_peak();
    return 0;
}

static int prepare(bench *b)
{
    static int (*const how[])(bench *) = {[WORK_PIXELS] = prepare_pixels,
                                          [WORK_CAPTIONS] = prepare_captions,
                                          [WORK_FILES] = prepare_files,
                                          [WORK_LOAD] = prepare_load};
    if (open_model(b) || how[b->what->work](b)) return 1;
    b->out = calloc(b->n * b->info.d, sizeof *b->out);
    return b->out ? 0 : fail("embeddings", "out of memory");
}

static reco_status run_pixels(bench *b)
{
    size_t side = b->info.image_size, step = b->what->batch;
    for (size_t i = 0; i < b->n; i += step) {
        reco_status status = reco_model_embed_pixels(b->ctx, b->model, b->pixels + i * 3 * side * side,
                                                     step, b->out + i * b->info.d);
        if (status != RECO_OK) return status;
    }
    return RECO_OK;
}

static int run(bench *b)
{
    reco_status status = RECO_E_INTERNAL;
    if (b->what->work == WORK_PIXELS) {
        status = run_pixels(b);
    } else if (b->what->work == WORK_CAPTIONS) {
        status = reco_model_embed_texts(b->ctx, b->model, b->captions, b->n, b->out, NULL);
    } else if (b->what->work == WORK_FILES) {
        reco_stream_result result;
        status = reco_embed_images(b->ctx, b->model, b->list, b->folder, NULL, &result);
        if (status == RECO_OK && result.rows != b->n) return fail(b->list, "some pictures were not read");
    } else {
        const char *path = b->picture;
        unsigned char good = 0;
        status = reco_embed_files(b->ctx, b->model, &path, 1, NULL, b->out, &good);
        if (status == RECO_OK && !good) return fail(path, "not a picture");
    }
    return status == RECO_OK ? 0 : fail_reco(b);
}

static int save(bench *b, const char *path)
{
    char *npy = NULL, from[160];
    const char *bytes = (const char *)b->out;
    size_t size = b->n * b->info.d * sizeof(float), held = size;
    if (b->what->work == WORK_FILES) {
        snprintf(from, sizeof from, "%s/img_emb/img_emb_0.npy", b->folder);
        if (!(npy = read_all(from, &held))) return 1;
        bytes = held > size ? npy + (held - size) : npy; /* what stands before the rows is npy's header */
    }
    FILE *file = held >= size ? fopen(path, "wb") : NULL;
    int bad = !file || fwrite(bytes, 1, size, file) != size;
    if (file) bad |= fclose(file) != 0;
    free(npy);
    return bad ? fail(path, "cannot be written") : 0;
}

static uint64_t blocks(const reco_tower_info *tower)
{
    return tower->layers * tower->width * (4 * tower->width + 2 * tower->mlp);
}

/* Of the tower that was opened. Token embeddings are looked up in the mapped file. */
static uint64_t packed_values(const bench *b)
{
    const reco_model_info *info = &b->info;
    if (b->sides == RECO_SIDES_TEXT) return blocks(&info->text) + info->text.width * info->d;
    return blocks(&info->image) + info->image.width * (3 * info->patch * info->patch + info->d);
}

/* Everything of the row but the times. Peak memory beside the mapped files and the packed weights is taken for the
 * opening and for the runs, and the larger one told. */
static void print_case(const bench *b)
{
    uint64_t layers = packed_values(b);
    double packed = (double)layers * (b->info.precision == RECO_PRECISION_F32    ? 4
                                      : b->info.precision == RECO_PRECISION_BF16 ? 2
                                                                                 : 1);
    size_t peak_run = memory("VmHWM"), mapped = memory("RssFile"), run_only = peak_run - mapped;
    size_t anonymous = run_only > b->peak_open ? run_only : b->peak_open;
    printf("\"case\": \"%s\", \"impl\": \"reco\", \"version\": \"%s\", \"model\": \"%s\", \"precision\": "
           "\"%s\", "
           "\"threads\": %d, \"items\": %zu, \"open_s\": %.4f, \"peak_rss_mb\": %.1f, \"mapped_mb\": %.1f, "
           "\"packed_mb\": %.1f, \"beside_mb\": %.1f, \"beside_open_mb\": %.1f, \"beside_run_mb\": %.1f, "
           "\"isa\": \"",
           b->what->name, reco_version(), b->info.name, precision_name(b->info.precision),
           reco_ctx_threads(b->ctx), b->n, b->open_seconds, (double)(anonymous + mapped) / 1e3,
           (double)mapped / 1e3, packed / 1e6, (double)anonymous / 1e3 - packed / 1e6,
           (double)b->peak_open / 1e3 - packed / 1e6, (double)run_only / 1e3 - packed / 1e6);
    print_isa();
    printf("\"");
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(bench *b)
{
    double *seconds = calloc(b->runs, sizeof *seconds);
    if (!seconds) return fail("--runs", "out of memory");
    int bad = b->what->work == WORK_LOAD ? 0 : run(b);
    for (size_t i = 0; !bad && i < b->runs; i++) {
        double start = now();
        bad = run(b);
        seconds[i] = now() - start;
    }
    if (!bad) {
        qsort(seconds, b->runs, sizeof *seconds, by_value);
        double median = (seconds[(b->runs - 1) / 2] + seconds[b->runs / 2]) / 2;
        printf("{");
        print_case(b);
        printf(", \"median_s\": %.6f, \"min_s\": %.6f, \"max_s\": %.6f, \"per_second\": %.2f, \"runs\": "
               "%zu}\n",
               median, seconds[0], seconds[b->runs - 1], (double)b->n / median, b->runs);
    }
    free(seconds);
    return bad;
}

static int serve(bench *b)
{
    char line[4096];
    if (run(b) || run(b)) return 1; /* warm */
    printf("{");
    print_case(b);
    printf("}\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "run") == 0) {
            double start = now();
            if (run(b)) return 1;
            printf("{\"seconds\": %.6f}\n", now() - start);
        } else if (strncmp(line, "save ", 5) == 0) {
            if (save(b, line + 5)) return 1;
            printf("{\"saved\": %zu}\n", b->n);
        } else if (strcmp(line, "case") == 0) {
            printf("{");
            print_case(b);
            printf("}\n");
        } else {
            return fail(line, "want run, case or save FILE");
        }
        fflush(stdout);
    }
    return 0;
}

static size_t number(struct argp_state *state, const char *name, const char *text, size_t least)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || end == text || value < least || value > 1000000)
        argp_error(state, "%s %s: want %zu..1000000", name, text, least);
    return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    bench *b = state->input;
    switch (key) {
    case KEY_DATA:
        b->data = arg;
        return 0;
    case KEY_CASE:
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            if (strcmp(cases[i].name, arg) == 0) b->what = &cases[i];
        if (!b->what) argp_error(state, "--case %s: no such case", arg);
        return 0;
    case KEY_MODEL:
        b->model_name = arg;
        return 0;
    case KEY_PRECISION:
        b->precision = arg;
        return 0;
    case KEY_THREADS:
        b->threads = (int)number(state, "--threads", arg, 0);
        return 0;
    case KEY_RUNS:
        b->runs = number(state, "--runs", arg, 1);
        return 0;
    case KEY_FILES:
        b->files = number(state, "--files", arg, 1);
        return 0;
    case KEY_SERVE:
        b->serve = 1;
        return 0;
    case ARGP_KEY_END:
        if (!b->what) argp_error(state, "want --case");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"data", KEY_DATA, "DIR", 0, "What bench/models.py wrote (default .cache/bench/data)", 0},
        {"case", KEY_CASE, "CASE", 0,
         "vit-b-32-batch-32, vit-b-32-batch-1, vit-l-14-batch-8, captions, files or load", 0},
        {"model", KEY_MODEL, "NAME", 0, "Another folder of DATA than the case's own", 0},
        {"precision", KEY_PRECISION, "P", 0, "auto (default), f32, bf16 or int8", 0},
        {"threads", KEY_THREADS, "N", 0, "Default: all processors", 0},
        {"runs", KEY_RUNS, "N", 0, "Timed runs (default 5)", 0},
        {"files", KEY_FILES, "N", 0, "Pictures of the case \"files\" (default 1000)", 0},
        {"serve", KEY_SERVE, NULL, 0, "One run per line of standard input", 0},
        {0},
    };
    static const struct argp argp = {options, parse, NULL, "Time the encoder.", NULL, NULL, NULL};
    bench b = {.data = ".cache/bench/data", .precision = "auto", .runs = 5, .files = 1000};
    if (argp_parse(&argp, argc, argv, 0, NULL, &b) != 0) return 2;
    if (b.what && b.what->work == WORK_LOAD) b.runs = 1; /* a process loads once */
    int bad = prepare(&b) || (b.serve ? serve(&b) : measure(&b));
    if (*b.folder) {
        char command[160];
        snprintf(command, sizeof command, "rm -rf '%s'", b.folder);
        bad |= system(command) != 0;
    }
    free(b.pixels), free(b.out), free(b.text), free(b.captions);
    reco_model_close(b.model), reco_ctx_free(b.ctx);
    return bad;
}
