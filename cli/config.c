/* --config FILE: options of a file stand before those of the command line, which are read later and win. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static const struct argp_option *find_option(const struct argp *argp, const char *name)
{
    for (const struct argp_option *o = argp->options; o && (o->name || o->key || o->doc); o++)
        if (o->name && !(o->flags & OPTION_ALIAS) && strcmp(o->name, name) == 0) return o;
    const struct argp_option *found = NULL;
    for (const struct argp_child *c = argp->children; c && c->argp && !found; c++)
        found = find_option(c->argp, name);
    return found;
}

static const char *find_config_file(int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) path = argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) path = argv[i + 1];
    }
    return path;
}

/* --NAME or --NAME=VALUE into text, which has room for it, or nothing where it is switched off; false: it is wrong, and told. */
static bool write_option(char *text, const struct argp *argp, const reco_setting *s, const char *path)
{
    const struct argp_option *o = find_option(argp, s->name);
    *text = 0;
    if (!o || strcmp(s->name, "config") == 0) {
        cli_error("%s:%zu: there is no option \"%s\"", path, s->line, s->name);
        return false;
    }
    if (o->arg)
        sprintf(text, "--%s=%s", s->name, s->value);
    else if (strcmp(s->value, "true") == 0)
        sprintf(text, "--%s", s->name);
    else if (strcmp(s->value, "false") != 0) {
        cli_error("%s:%zu: \"%s\" is %s, want true or false", path, s->line, s->name, s->value);
        return false;
    }
    return true;
}

char **cli_configure(const struct argp *argp, int *argc, char **argv)
{
    const char *path = find_config_file(*argc, argv);
    reco_ctx *ctx = NULL;
    reco_setting *settings = NULL;
    size_t n = 0, bytes = 0, made = 1;
    char **all = NULL, *text;
    bool good = false;
    if (!path) return argv;
    if (reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) != RECO_OK ||
        reco_settings_read(ctx, &settings, &n, path) != RECO_OK) {
        cli_error("%s", ctx ? reco_ctx_error(ctx) : "out of memory");
        goto out;
    }
    for (size_t i = 0; i < n; i++) bytes += strlen(settings[i].name) + strlen(settings[i].value) + 4;
    all = malloc(((size_t)*argc + n + 1) * sizeof *all + bytes); /* the texts behind the list */
    if (!all) {
        cli_error("out of memory");
        goto out;
    }
    text = (char *)(all + (size_t)*argc + n + 1);
    all[0] = argv[0];
    for (size_t i = 0; i < n; i++) {
        if (!write_option(text, argp, &settings[i], path)) goto out;
        if (*text) all[made++] = text;
        text += strlen(text) + 1;
    }
    memcpy(all + made, argv + 1, (size_t)*argc * sizeof *all); /* with the NULL at the end */
    *argc += (int)made - 1;
    good = true;
out:
    reco_settings_free(settings, n);
    reco_ctx_free(ctx);
    if (good) return all;
    free(all);
    return NULL;
}
