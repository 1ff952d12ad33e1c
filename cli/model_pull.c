/* reco model pull */
#include "cli.h"
#include "fetch.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_REVISION = 0x100, KEY_OUT, KEY_TIMEOUT };

typedef struct args {
    cli *common;
    const char *name, *out;
    reco_pull_opts pull;
} args;

static error_t parse_pull_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a->common;
        return 0;
    case KEY_REVISION:
        a->pull.revision = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_TIMEOUT:
        a->pull.stall = (unsigned)cli_size(state, "--timeout", arg, 1, 3600);
        return 0;
    case ARGP_KEY_ARG:
        if (a->name) return ARGP_ERR_UNKNOWN;
        a->name = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->name, "NAME");
        cli_need(state, a->out, "--out");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"revision", KEY_REVISION, "R", 0, "Branch, tag or commit (default: main)", 1},
    {"out", KEY_OUT, "DIR", 0, "Folder to create; it appears once the download is complete", 1},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "Give up if no data arrives for this long (default: 30)", 2},
    {0},
};
static const struct argp_child children[] = {{&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_pull_option,
    "NAME",
    "Download a model folder from a hub with the Hugging Face API: $HF_ENDPOINT, else "
    "https://huggingface.co. $HF_TOKEN is sent if it is set. An interrupted download resumes when the "
    "command is run again.\vExample:\n  reco model pull openai/clip-vit-base-patch32 --out clip/",
    children,
    NULL,
    NULL};

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static const char *either(const char *a, const char *b)
{
    const char *value = environment(a);
    return value ? value : environment(b);
}

int cmd_model_pull(int argc, char **argv)
{
    cli c = {.bytes = true};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_pull_result r;
    a.pull.endpoint = environment("HF_ENDPOINT");
    a.pull.token = environment("HF_TOKEN");
    bool plain = a.pull.endpoint && strncmp(a.pull.endpoint, "http://", 7) == 0;
    a.pull.proxy = plain ? environment("http_proxy") : either("https_proxy", "HTTPS_PROXY");
    if (!a.pull.proxy) a.pull.proxy = either("all_proxy", "ALL_PROXY");
    a.pull.no_proxy = either("no_proxy", "NO_PROXY");
    reco_status status = reco_pull_model(c.ctx, a.name, a.out, &a.pull, &r);
    if (status == RECO_OK) {
        if (c.json)
            cli_print(json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:f}", "model",
                                a.name, "revision", a.pull.revision ? a.pull.revision : "main", "commit",
                                r.commit, "out", cli_text(a.out), "files", (json_int_t)r.files, "kept",
                                (json_int_t)r.kept, "verified", (json_int_t)r.verified, "bytes",
                                (json_int_t)r.bytes, "received", (json_int_t)r.received, "resumed",
                                (json_int_t)r.resumed, "already", r.already, "seconds", r.seconds));
        else if (r.already)
            cli_say("%s is already in %s, at %.12s", a.name, a.out, r.commit);
        else
            cli_say("%zu file%s of %s, %.1f MB (%.1f MB fetched in %.1f s), %zu checked by %s, in %s",
                    r.files, cli_s(r.files), a.name, (double)r.bytes / 1e6, (double)r.received / 1e6,
                    r.seconds, r.verified, r.verified == 1 ? "its hash" : "their hashes", a.out);
    }
    return cli_end(&c, status);
}
