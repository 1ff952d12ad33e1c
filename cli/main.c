#include "cli.h"

#include <string.h>

static const struct {
    const char *name;
    int (*run)(int, char **);
} commands[] = {
    {"model", cmd_model},     {"embed", cmd_embed},   {"bank", cmd_bank},         {"search", cmd_search},
    {"train", cmd_train},     {"refine", cmd_refine}, {"classify", cmd_classify}, {"eval", cmd_eval},
    {"explain", cmd_explain}, {"study", cmd_study},
#ifdef RECO_SERVE
    {"serve", cmd_serve},
#endif
};

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs(cli_help_text, stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "help") == 0) {
        fputs(cli_help_text, stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("reco %s\n", reco_version());
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        char name[64];
        snprintf(name, sizeof name, "reco %s", commands[i].name);
        argv[1] = name;
        return commands[i].run(argc - 1, argv + 1);
    }
    cli_error("no command \"%s\"; see reco --help", argv[1]);
    return 2;
}
