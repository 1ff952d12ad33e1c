/* What is served: the model, banks as they were last committed, the fusion layer, and who may ask. */
#include "internal.h"

#include <stdlib.h>

/* The last part of its path; of URLs, which may hold passwords, the first one's database, or its host. */
static bool name_bank(serve_bank *bank)
{
    char *path = strdup(bank->path);
    if (!path) return false;
    if (reco_bank_is_server(path)) {
        reco_text_clean(path);
        char *next = strstr(path, ",postgres");
        if (next) *next = 0;
    }
    const char *end = path + strlen(path);
    while (end > path && end[-1] == '/') end--;
    const char *from = end;
    while (from > path && from[-1] != '/') from--;
    size_t n = (size_t)(end - from);
    if (n > 5 && strncmp(end - 5, ".bank", 5) == 0) n -= 5;
    snprintf(bank->name, sizeof bank->name, "%.*s", (int)n, from);
    free(path);
    return true;
}

static void drop_filters(serve_bank *bank)
{
    for (int i = 0; i < SERVE_FILTERS; i++) {
        reco_bank_filter_free(bank->filters[i].filter);
        free(bank->filters[i].where);
        bank->filters[i] = (serve_filter){0};
    }
}

static reco_status open_banks(serve *s, reco_ctx *ctx)
{
    const serve_opts *o = s->opts;
    s->banks = calloc(o->nbanks, sizeof *s->banks);
    if (!s->banks) return RECO_E_NOMEM;
    for (size_t i = 0; i < o->nbanks; i++) {
        serve_bank *bank = &s->banks[i];
        s->nbanks = i + 1;
        bank->path = strdup(o->banks[i]);
        if (!bank->path || !name_bank(bank)) return RECO_E_NOMEM;
        bool server = reco_bank_is_server(bank->path);
        if (!server && !(bank->folder = strdup(bank->path))) return RECO_E_NOMEM;
        if (server && o->data && asprintf(&bank->folder, "%s/%s", o->data, bank->name) < 0)
            return RECO_E_NOMEM;
        reco_status status = reco_bank_open_with(ctx, &bank->now, bank->path, &o->open);
        if (status == RECO_OK) status = reco_check_encoder(ctx, s->model, bank->now, s->fusion);
        if (status != RECO_OK) return status;
        bank->info = *reco_bank_get_info(bank->now);
    }
    return RECO_OK;
}

reco_status serve_state_open(serve *s, reco_ctx *ctx)
{
    const serve_opts *o = s->opts;
    reco_status status = RECO_OK;
    if (o->model) {
        reco_model_opts opts = {.precision = o->precision, .exif = o->exif};
        status = reco_model_open(ctx, &s->model, o->model, &opts);
        if (status == RECO_OK) s->model_info = *reco_model_get_info(s->model);
        if (status == RECO_OK) status = reco_model_fingerprint(ctx, s->model, s->fingerprint);
    }
    if (status == RECO_OK) status = open_banks(s, ctx);
    if (status != RECO_OK) return status;
    s->d = s->banks ? s->banks[0].info.d : s->model_info.d;
    if (o->fusion) status = reco_fusion_open(ctx, &s->fusion, o->fusion, s->d, 0);
    for (size_t i = 0; i < s->nbanks && status == RECO_OK; i++)
        status = reco_check_encoder(ctx, s->model, s->banks[i].now, s->fusion);
    return status;
}

void serve_state_close(serve *s)
{
    for (size_t i = 0; i < s->nbanks; i++) {
        drop_filters(&s->banks[i]);
        reco_bank_close(s->banks[i].now);
        reco_bank_close(s->banks[i].next);
        reco_bank_close(s->banks[i].counted);
        serve_facets_free(&s->banks[i]);
        free(s->banks[i].path);
        free(s->banks[i].folder);
    }
    free(s->banks);
    reco_fusion_free(s->fusion);
    reco_fusion_free(s->next_fusion);
    reco_model_close(s->model);
    for (size_t i = 0; i < s->ntokens; i++) {
        free(s->tokens[i].name);
        free(s->tokens[i].token);
    }
    free(s->tokens);
}

serve_bank *serve_find_bank(serve *s, const char *name)
{
    if (!name) return s->nbanks ? &s->banks[0] : NULL;
    for (size_t i = 0; i < s->nbanks; i++)
        if (strcmp(s->banks[i].name, name) == 0) return &s->banks[i];
    return NULL;
}

/* Another bank may have come to its place. */
static reco_status check_new_bank(serve *s, reco_ctx *ctx, const reco_bank *fresh)
{
    return reco_bank_get_info(fresh)->d == s->d ? reco_check_encoder(ctx, s->model, fresh, NULL)
                                                : RECO_E_MISMATCH;
}

reco_status serve_refresh(serve *s, serve_bank *bank, reco_ctx *ctx)
{
    reco_bank *fresh = NULL;
    reco_status status = reco_bank_open_with(ctx, &fresh, bank->path, &s->opts->open);
    if (status == RECO_OK) status = check_new_bank(s, ctx, fresh);
    if (status == RECO_OK) {
        pthread_mutex_lock(&s->lock);
        reco_bank *stale = bank->next;
        bank->next = fresh;
        pthread_mutex_unlock(&s->lock);
        fresh = stale;
    }
    reco_bank_close(fresh);
    return status;
}

/* The log says when servers fail, and when they are back. */
static void watch(serve *s, serve_bank *bank)
{
    const char *name = reco_bank_missing_shard(bank->now, 0);
    if (!name == !bank->lacks) return;
    bank->lacks = name;
    serve_tell(s, name ? "server missing" : "servers complete", name ? name : bank->name);
}

void serve_adopt(serve *s, reco_ctx *ctx, bool look)
{
    for (size_t i = 0; i < s->nbanks; i++) {
        serve_bank *bank = &s->banks[i];
        reco_bank *seen = NULL, *stale = NULL;
        /* A bank that is just being replaced keeps its old snapshot until the new one can be opened. */
        if (look && reco_bank_refresh(ctx, bank->now, &seen) == RECO_OK && seen &&
            check_new_bank(s, ctx, seen) != RECO_OK) {
            reco_bank_close(seen);
            seen = NULL;
        }
        pthread_mutex_lock(&s->lock);
        if (bank->next) { /* the writer has opened it, perhaps later */
            stale = seen;
            seen = bank->next;
            bank->next = NULL;
        }
        reco_bank *old = seen ? bank->now : NULL;
        if (seen) bank->now = seen;
        if (seen) bank->info = *reco_bank_get_info(seen);
        pthread_mutex_unlock(&s->lock);
        bank->snapshot += seen != NULL;
        if (seen) drop_filters(bank);
        reco_bank_close(old);
        reco_bank_close(stale);
        watch(s, bank);
    }
    pthread_mutex_lock(&s->lock);
    reco_fusion *stale = s->fusion_changed ? s->fusion : NULL;
    if (s->fusion_changed) s->fusion = s->next_fusion;
    if (s->fusion_changed) s->next_fusion = NULL;
    s->layers += s->fusion_changed;
    s->fusion_changed = false;
    pthread_mutex_unlock(&s->lock);
    reco_fusion_free(stale);
}

reco_status serve_where(serve_bank *bank, reco_ctx *ctx, const char *where, const reco_bank_filter **filter)
{
    static uint64_t clock; /* the engine's alone */
    serve_filter *oldest = bank->filters;
    *filter = NULL;
    if (!where) return RECO_OK;
    for (int i = 0; i < SERVE_FILTERS; i++) {
        serve_filter *f = &bank->filters[i];
        if (f->where && strcmp(f->where, where) == 0) {
            f->used = ++clock;
            *filter = f->filter;
            return RECO_OK;
        }
        if (f->used < oldest->used) oldest = f;
    }
    reco_bank_filter *made = NULL;
    reco_status status = reco_bank_filter_where(ctx, &made, bank->now, where);
    if (status != RECO_OK) return status;
    char *text = strdup(where);
    if (!text) {
        reco_bank_filter_free(made);
        return RECO_E_NOMEM;
    }
    reco_bank_filter_free(oldest->filter);
    free(oldest->where);
    *oldest = (serve_filter){text, made, ++clock};
    *filter = made;
    return RECO_OK;
}
