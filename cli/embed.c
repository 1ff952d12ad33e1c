#include "cli.h"

enum { KEY_MODEL = 0x100, KEY_IMAGES, KEY_TEXTS, KEY_OUT, KEY_DTYPE, KEY_BATCH, KEY_SHARD };

typedef struct args {
    cli *common;
    const char *model, *images, *texts, *out;
    reco_folder_opts folder;
} args;

static error_t parse_embed_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = state->child_inputs[2] = a->common;
        return 0;
    case KEY_MODEL:
        a->model = arg;
        return 0;
    case KEY_IMAGES:
        a->images = arg;
        return 0;
    case KEY_TEXTS:
        a->texts = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_DTYPE:
        a->folder.dtype = cli_dtype(state, arg);
        return 0;
    case KEY_BATCH:
        a->folder.embed.batch = cli_size(state, "--batch", arg, 1, 4096);
        return 0;
    case KEY_SHARD:
        cli_shard(state, arg, &a->folder.shard);
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->model, "--model");
        cli_need(state, a->out, "--out");
        if (!a->images == !a->texts) argp_error(state, "want one of --images and --texts");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0, "Model folder", 1},
    {"images", KEY_IMAGES, "DIR|LIST", 0,
     "A folder of pictures, a file of paths, one per line, or a picture", 1},
    {"texts", KEY_TEXTS, "FILE", 0, "A file of captions, one per line", 1},
    {"out", KEY_OUT, "DIR", 0, "Folder for img_emb/, text_emb/ and metadata/", 1},
    {"dtype", KEY_DTYPE, "TYPE", 0, "float16 (default) or float32", 2},
    {"shard", KEY_SHARD, "I/N", 0, CLI_SHARD_HELP, 2},
    {"batch", KEY_BATCH, "N", 0, "Number of pictures processed at a time (default: 64, or 16 per thread)",
     2},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_strict_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_embed_option,
    NULL,
    "Embed pictures or captions: one unit row per valid input, in order, in clip-retrieval's layout. "
    "Inputs that cannot be read are skipped and listed in OUT/failures.jsonl.\v"
    "Example:\n  reco embed --model clip/ --images photos/ --out emb/\n"
    "  reco embed --model clip/ --texts captions.txt --out emb/",
    children,
    NULL,
    NULL};

int cmd_embed(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c,
              .folder = {.embed = {.failure = cli_failure, .user = &c}, .dtype = RECO_DTYPE_F16}};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_model *model = NULL;
    reco_stream_result result = {0};
    reco_status status = cli_output(&c, a.out, RECO_OUT_FOLDER | RECO_OUT_PICTURES, a.model,
                                    (const char *const[]){a.images, a.texts}, 2);
    if (status == RECO_OK)
        status = cli_open_model(&c, &model, a.model, a.images ? RECO_SIDES_IMAGE : RECO_SIDES_TEXT);
    if (status == RECO_OK)
        status = a.images ? reco_embed_images(c.ctx, model, a.images, a.out, &a.folder, &result)
                          : reco_embed_texts(c.ctx, model, a.texts, a.out, &a.folder, &result);
    int strict = 0;
    if (status == RECO_OK && result.rows == 0 && !(a.folder.shard.of && result.failures == 0)) {
        cli_clear_bar(&c);
        cli_error("%s: nothing was embedded: %s", a.images ? a.images : a.texts,
                  result.failures ? "every input failed" : "it has no inputs");
        strict = 1;
    }
    if (status == RECO_OK) {
        strict |= cli_skipped(&c, result.failures, result.rows ? "failures.jsonl" : NULL);
        cli_repaired(&c, result.repaired);
        strict |= cli_truncated(&c, model, result.truncated, "caption");
        if (c.json)
            cli_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:f, s:o}", "rows",
                                (json_int_t)result.rows, "resumed", (json_int_t)result.resumed, "repaired",
                                (json_int_t)result.repaired, "truncated", (json_int_t)result.truncated,
                                "failures", (json_int_t)result.failures, "others",
                                (json_int_t)result.others, "hidden", (json_int_t)result.hidden, "failed",
                                c.failed, "seconds", result.seconds, "out", cli_text(a.out)));
        else {
            uint64_t now = result.rows + result.failures - result.resumed; /* inputs of this run */
            cli_say("%llu %s%s embedded in %.1f s (%.0f/s), %llu skipped, in %s",
                    (unsigned long long)result.rows, a.images ? "picture" : "caption", cli_s(result.rows),
                    result.seconds, result.seconds > 0 ? (double)now / result.seconds : 0,
                    (unsigned long long)result.failures, a.out);
            if (result.others || result.hidden)
                printf("%llu other file%s, %llu hidden, all ignored\n", (unsigned long long)result.others,
                       cli_s(result.others), (unsigned long long)result.hidden);
            if (result.resumed)
                printf("(%llu input%s done by an interrupted run)\n", (unsigned long long)result.resumed,
                       result.resumed == 1 ? " was" : "s were");
        }
    }
    reco_model_close(model);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
