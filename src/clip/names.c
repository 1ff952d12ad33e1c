/* Training code leaves names wrapped: "module." of DistributedDataParallel, "_orig_mod." of torch.compile, "model.",
 * "state_dict." and whatever a Lightning module called its member. */
#include "clip/clip_internal.h"

#include <stdlib.h>

#define ROOTS 8 /* beginnings that are told apart */

/* Parts of a name that stand for a wrapper wherever they are. */
static const char *const wrappers[] = {"module.", "_orig_mod.", "_fsdp_wrapped_module.",
                                       "_checkpoint_wrapped_module.", "_forward_module."};

/* How long a wrapper begins here; 0: none does. */
static size_t wrapper(const char *name)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (strncmp(name, wrappers[i], strlen(wrappers[i])) == 0) return strlen(wrappers[i]);
    return 0;
}

/* named->name without wrappers: the end of the tensor's own, or a copy where there is one further in. */
static reco_status unwrap(reco_ctx *ctx, reco_named *named)
{
    const char *name = named->tensor->name;
    for (size_t n; (n = wrapper(name));) name += n;
    named->name = name;
    const char *inner = name;
    while ((inner = strchr(inner, '.')) && !wrapper(++inner)) continue;
    if (!inner) return RECO_OK;
    char *to = named->own = reco_alloc(ctx, strlen(name) + 1, 1, "tensor names");
    if (!to) return RECO_E_NOMEM;
    for (const char *from = name; *from;) {
        size_t n = from == name || from[-1] == '.' ? wrapper(from) : 0;
        from += n;
        if (!n) *to++ = *from++;
    }
    named->name = named->own;
    return RECO_OK;
}

/* One of these is in every model that is read, and says where its names begin. */
static bool is_anchor(const char *name, size_t *begin)
{
    static const struct {
        const char *end, *tower;
    } anchors[] = {{"embeddings.patch_embedding.weight", "vision_model."},
                   {"embeddings.token_embedding.weight", "text_model."},
                   {"visual.conv1.weight", ""},
                   {"visual.trunk.patch_embed.proj.weight", ""}};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof anchors / sizeof *anchors; i++) {
        size_t end = strlen(anchors[i].end), tower = strlen(anchors[i].tower);
        if (n < end || strcmp(name + n - end, anchors[i].end) != 0) continue;
        *begin = n - end;
        if (*begin >= tower && strncmp(name + *begin - tower, anchors[i].tower, tower) == 0)
            *begin -= tower;
        if (*begin == 0 || name[*begin - 1] == '.') return true;
    }
    return false;
}

/* What stands before the names of the model; names that begin so at once go before others. */
static reco_status find_root(reco_ctx *ctx, reco_weights *weights)
{
    struct {
        const char *name;
        size_t n;
    } roots[ROOTS];
    size_t count = 0, begin;
    for (size_t i = 0; i < weights->count && count < ROOTS; i++) {
        const char *name = weights->named[i].name;
        if (!is_anchor(name, &begin) || strncmp(name, "optim", 5) == 0) continue;
        size_t k = 0;
        while (k < count && (roots[k].n != begin || strncmp(roots[k].name, name, begin) != 0)) k++;
        if (k == count) roots[count].name = name, roots[count++].n = begin;
        if (begin == 0) count = 0;
        if (begin == 0) break;
    }
    if (count > 1)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: holds several models, under \"%.*s\" and \"%.*s\": save one of them alone",
                         weights->path, (int)reco_min(roots[0].n, 80), roots[0].name,
                         (int)reco_min(roots[1].n, 80), roots[1].name);
    weights->prefix =
        count ? reco_format(ctx, "%.*s", (int)roots[0].n, roots[0].name) : reco_strdup(ctx, "");
    return weights->prefix ? RECO_OK : RECO_E_NOMEM;
}

static int by_tensor_name(const void *a, const void *b)
{
    return strcmp(((const reco_named *)a)->name, ((const reco_named *)b)->name);
}

reco_status reco_weights_name(reco_ctx *ctx, reco_weights *weights)
{
    size_t total = 0, kept = 0;
    for (size_t f = 0; f < weights->n; f++) total += reco_safetensors_count(weights->files[f]);
    if (!(weights->named = reco_alloc(ctx, total, sizeof *weights->named, "tensor names")))
        return RECO_E_NOMEM;
    for (size_t f = 0; f < weights->n; f++)
        for (size_t i = 0; i < reco_safetensors_count(weights->files[f]); i++) {
            reco_named *named = &weights->named[weights->count++];
            named->tensor = reco_safetensors_at(weights->files[f], i);
            named->file = weights->files[f];
            RECO_TRY(unwrap(ctx, named));
        }
    RECO_TRY(find_root(ctx, weights));
    size_t n = strlen(weights->prefix);
    for (size_t i = 0; i < total; i++) {
        reco_named named = weights->named[i];
        if (strncmp(named.name, weights->prefix, n) != 0) {
            reco_free(named.own);
            continue;
        }
        named.name += n;
        weights->named[kept++] = named;
    }
    weights->outside = total - kept;
    weights->count = kept;
    qsort(weights->named, kept, sizeof *weights->named, by_tensor_name);
    for (size_t i = 1; i < kept; i++)
        if (strcmp(weights->named[i - 1].name, weights->named[i].name) == 0)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: tensors %.200s and %.200s have one name in the model",
                             weights->path, weights->named[i - 1].tensor->name,
                             weights->named[i].tensor->name);
    for (size_t i = 0; i < kept && !weights->wrapped; i++)
        if (strcmp(weights->named[i].name, weights->named[i].tensor->name) != 0)
            weights->wrapped = &weights->named[i];
    return RECO_OK;
}
