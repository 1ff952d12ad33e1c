/* Which tokenizer a model has. */
#include "clip/clip_internal.h"

#define BUILTIN_VOCAB 49408

/* clip: CLIP's, whatever else lies there. Neither a missing library or tokenizer nor one of another kind keeps images
 * from being embedded. */
static reco_status open_tokenizer(reco_ctx *ctx, reco_model *model, reco_text_rules rules, bool clip)
{
    reco_status status =
        (clip ? reco_tokenizer_open : reco_tokenizer_hub)(ctx, &model->tokenizer, model->dir, rules);
    if (status != RECO_E_UNSUPPORTED) return status;
    if (!(model->no_tokenizer = reco_strdup(ctx, reco_ctx_error(ctx)))) return RECO_E_NOMEM;
    return reco_guess(ctx, model, "texts cannot be embedded: %s", model->no_tokenizer);
}

/* open_clip does not look at a folder's tokenizer files unless its configuration names a tokenizer. It cannot embed
 * texts with a smaller vocabulary than its own; we then take the folder's, cleaned in its way. */
static reco_status open_clip(reco_ctx *ctx, reco_model *model)
{
    if (model->folder_tokenizer || model->spec.vocab < BUILTIN_VOCAB) {
        RECO_TRY(open_tokenizer(ctx, model, RECO_TEXT_OPENCLIP, !model->folder_tokenizer));
        if (!model->tokenizer) return RECO_OK;
        if (!model->folder_tokenizer)
            RECO_TRY(reco_guess(ctx, model, "vocab_size %zu is not CLIP's: the folder's tokenizer files",
                                model->spec.vocab));
    } else {
        RECO_TRY(reco_tokenizer_builtin(ctx, &model->tokenizer));
        RECO_TRY(reco_guess(ctx, model, "the configuration names no tokenizer: the built-in one of CLIP"));
    }
    reco_tokenizer_set_clean(model->tokenizer, model->clean);
    return RECO_OK;
}

reco_status reco_model_tokenizer(reco_ctx *ctx, reco_model *model)
{
    if (model->no_tokenizer) return RECO_OK; /* the configuration's own reason */
    if (strcmp(model->family, "open_clip") == 0)
        RECO_TRY(open_clip(ctx, model));
    else
        RECO_TRY(open_tokenizer(ctx, model, RECO_TEXT_HF, strcmp(model->family, "hf-clip") == 0));
    size_t entries = model->tokenizer ? reco_tokenizer_get_info(model->tokenizer)->vocab : 0;
    if (entries <= model->spec.vocab) return RECO_OK;
    /* transformers loads such a model, and fails on a text with one of them. */
    size_t beyond = reco_tokenizer_limit(model->tokenizer, model->spec.vocab);
    if (!beyond)
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: the tokenizer has %zu entries, the configuration says vocab_size %zu",
                         model->dir, entries, model->spec.vocab);
    return reco_guess(
        ctx, model,
        "%zu added tokens have ids beyond vocab_size %zu: texts that spell one out are read as plain text",
        beyond, model->spec.vocab);
}
