#include "cli.h"

#include <string.h>

static const struct {
    const char *name;
    int (*run)(int, char **);
} verbs[] = {{"info", cmd_model_info}, {"check", cmd_model_check}, {"pull", cmd_model_pull}};

static error_t parse_model_option(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    if (key != ARGP_KEY_ARG && key != ARGP_KEY_END) return ARGP_ERR_UNKNOWN;
    argp_error(state, "want model info, check or pull");
    return 0;
}

/* Only for --help and for what is no verb: each verb has options of its own. */
static const struct argp_child children[] = {{&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    NULL,
    parse_model_option,
    "info MODEL\ncheck MODEL --out DIR\npull NAME --out DIR",
    "Inspect, check or download a model folder. Each command has --help.\v"
    "Example:\n  reco model info clip-vit-base-patch32/\n"
    "  reco model check clip/ --images photos/ --texts captions.txt --out check/\n"
    "  reco model pull openai/clip-vit-base-patch32 --out clip/",
    children,
    NULL,
    NULL};

int cmd_model(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(argv[1], verbs[i].name) != 0) continue;
        char name[64];
        snprintf(name, sizeof name, "%s %s", argv[0], verbs[i].name);
        argv[1] = name;
        return verbs[i].run(argc - 1, argv + 1);
    }
    cli c = {0};
    (void)cli_parse(&argp, argc, argv, 0, &c);
    return 2;
}
