/* reco model check */
#include "cli.h"

enum { KEY_IMAGES = 0x100, KEY_TEXTS, KEY_OUT, KEY_BATCH };

typedef struct args {
    cli *common;
    const char *model, *images, *texts, *out;
    reco_embed_opts embed;
} args;

static error_t parse_check_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = state->child_inputs[2] = a->common;
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
    case KEY_BATCH:
        a->embed.batch = cli_size(state, "--batch", arg, 1, 4096);
        return 0;
    case ARGP_KEY_ARG:
        if (a->model) return ARGP_ERR_UNKNOWN;
        a->model = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->model, "MODEL");
        cli_need(state, a->out, "--out");
        if (!a->images && !a->texts) argp_error(state, "want --images, --texts or both");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"images", KEY_IMAGES, "DIR|LIST", 0, "A folder of pictures, or a file of paths, one per line", 1},
    {"texts", KEY_TEXTS, "FILE", 0, "A file of captions, one per line", 1},
    {"out", KEY_OUT, "DIR", 0, "Folder for pixels.npy, image.npy, ids.npy, text.npy and check.json", 1},
    {"batch", KEY_BATCH, "N", 0, "Number of pictures processed at a time (default: 64, or 16 per thread)",
     2},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_strict_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_check_option,
    "MODEL",
    "Write the intermediate results of the model (pixels, token ids, embeddings) for comparison with "
    "another implementation; tools/compare_reference.py does the comparison.\v"
    "Example:\n  reco model check clip/ --images photos/ --texts captions.txt --out check/",
    children,
    NULL,
    NULL};

int cmd_model_check(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .embed = {.failure = cli_failure, .user = &c}};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_model *model = NULL;
    reco_check_result r = {0};
    reco_status status = cli_output(&c, a.out, RECO_OUT_FOLDER | RECO_OUT_PICTURES, a.model,
                                    (const char *const[]){a.images, a.texts}, 2);
    if (status == RECO_OK) status = cli_open_model(&c, &model, a.model, RECO_SIDES_BOTH);
    if (status == RECO_OK) status = reco_check_model(c.ctx, model, a.images, a.texts, a.out, &a.embed, &r);
    int strict = 0;
    if (status == RECO_OK) {
        strict = cli_skipped(&c, r.failures, "check.json");
        cli_repaired(&c, r.repaired);
        strict |= cli_truncated(&c, model, r.truncated, "caption");
        if (c.json)
            cli_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:O, s:f, s:o}", "images", (json_int_t)r.images,
                                "texts", (json_int_t)r.texts, "repaired", (json_int_t)r.repaired,
                                "truncated", (json_int_t)r.truncated, "failures", (json_int_t)r.failures,
                                "failed", c.failed, "seconds", r.seconds, "out", cli_text(a.out)));
        else
            cli_say("%llu picture%s and %llu caption%s checked in %.1f s, %llu skipped, in %s",
                    (unsigned long long)r.images, cli_s(r.images), (unsigned long long)r.texts,
                    cli_s(r.texts), r.seconds, (unsigned long long)r.failures, a.out);
    }
    reco_model_close(model);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
