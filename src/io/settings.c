/* A configuration file as a list of options: what TOML has before its first table. */
#include "io/toml.h"

#include <stdlib.h>

static char *value_as_text(reco_ctx *ctx, const json_t *value)
{
    if (json_is_string(value)) return reco_strdup(ctx, json_string_value(value));
    char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    char *text = dumped ? reco_strdup(ctx, dumped) : NULL;
    free(dumped);
    return text;
}

static reco_status add_setting(reco_ctx *ctx, reco_setting *s, const reco_toml_entry *e,
                               const json_t *value, const char *path)
{
    if (json_is_array(value) || json_is_object(value))
        return reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: \"%s\" is a list of lists, want one of values", path,
                         e->line, e->key);
    if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
        return reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: \"%s\" holds U+0000", path, e->line, e->key);
    *s = (reco_setting){
        .name = reco_strdup(ctx, e->key), .value = value_as_text(ctx, value), .line = e->line};
    return s->name && s->value ? RECO_OK : RECO_E_NOMEM;
}

reco_status reco_settings_read(reco_ctx *ctx, reco_setting **out, size_t *n, const char *path)
{
    reco_toml toml;
    size_t most = 0, made = 0;
    reco_setting *all = NULL;
    *out = NULL;
    *n = 0;
    reco_status status = reco_toml_read(ctx, &toml, path);
    if (status != RECO_OK) goto out;
    for (size_t i = 0; i < toml.n; i++) {
        const reco_toml_entry *e = &toml.entries[i];
        if (*e->table)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: is in table [%s], want it above all tables",
                              path, e->line, e->table));
        most += json_is_array(e->value) ? json_array_size(e->value) : 1;
    }
    all = reco_alloc(ctx, most ? most : 1, sizeof *all, "settings");
    if (!all) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < toml.n; i++) {
        const reco_toml_entry *e = &toml.entries[i];
        bool list = json_is_array(e->value);
        for (size_t j = 0; j < (list ? json_array_size(e->value) : 1); j++, made++) {
            status = add_setting(ctx, &all[made], e, list ? json_array_get(e->value, j) : e->value, path);
            if (status != RECO_OK) {
                made++;
                goto out;
            }
        }
    }
    *out = all;
    *n = made;
    all = NULL;
out:
    reco_settings_free(all, made);
    reco_toml_free(&toml);
    return status;
}

void reco_settings_free(reco_setting *settings, size_t n)
{
    for (size_t i = 0; settings && i < n; i++) {
        reco_free(settings[i].name);
        reco_free(settings[i].value);
    }
    reco_free(settings);
}
