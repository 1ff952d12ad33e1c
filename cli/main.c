#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int, char **);
} commands[] = {
    {"model", cmd_model}, {"embed", cmd_embed},   {"bank", cmd_bank},         {"search", cmd_search},
    {"train", cmd_train}, {"refine", cmd_refine}, {"classify", cmd_classify}, {"eval", cmd_eval},
};

/* Threads that wait for work should sleep: spinning, which is the OpenMP runtime's way, gains nothing on an idle machine and
 * makes everything several times slower on a busy one. The runtime looks at this variable once, before main, so the
 * program begins again; not for those that have no work for threads, since that doubles their start. */
static void sleep_while_waiting(int argc, char **argv)
{
    static const char *const light[] = {"info", "list", "get"};
    for (size_t i = 0; argc > 2 && strcmp(argv[1], "bank") == 0 && i < sizeof light / sizeof *light; i++)
        if (strcmp(argv[2], light[i]) == 0) return;
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1) != 0) return;
    execv("/proc/self/exe", argv); /* where that fails, it goes on as it is */
}

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
    sleep_while_waiting(argc, argv);
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
