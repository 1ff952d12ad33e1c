/* What is wrong with the command line, as one line: argp adds a second, and getopt repeats an argument as it stands, a URL with its
 * password say. Both write to stderr, which glibc, whose argp is, lets a program set. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static FILE *outside; /* the standard error while arguments are read, else NULL */
static char *said;
static size_t bytes;

static void print_usage_error(void)
{
    if (!outside) return;
    fclose(stderr);
    stderr = outside;
    outside = NULL;
    said[strcspn(said, "\n")] = 0;
    reco_text_clean(said);
    if (*said) fprintf(stderr, "%s\n", said);
    free(said);
    said = NULL;
}

int cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input)
{
    static bool registered;
    argp_err_exit_status = 2;
    if (!registered && atexit(print_usage_error) != 0) return -1;
    registered = true;
    FILE *inside = open_memstream(&said, &bytes);
    if (!inside) return -1;
    outside = stderr;
    stderr = inside;
    int bad = argp_parse(argp, argc, argv, flags, NULL, input); /* exits where it is wrong */
    print_usage_error();
    return bad;
}
