#include "query/query.h"

#include <strings.h>

bool reco_encoder_matches(const char *name, const char *print, const char *other_name,
                          const char *other_print)
{
    if (*print && *other_print) return strcmp(print, other_print) == 0;
    return !*name || !*other_name || strcasecmp(name, other_name) == 0;
}

static const char *named(const char *name) { return name && *name ? name : "unnamed"; }

reco_status reco_check_encoder(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                               const reco_fusion *fusion)
{
    char print[33] = "";
    reco_bank_info b = {0};
    reco_model_info m = {0};
    const char *fused = fusion ? reco_fusion_meta(fusion, "fingerprint") : NULL;
    if (bank) b = *reco_bank_get_info(bank);
    if (model) m = *reco_model_get_info(model);
    size_t d = fusion ? reco_fusion_get_config(fusion)->d : 0;
    if (model && bank && m.d != b.d)
        return reco_fail(ctx, RECO_E_MISMATCH, "the bank has vectors of width %zu, the model %s makes %zu",
                         b.d, m.name, m.d);
    if (d && bank && d != b.d)
        return reco_fail(ctx, RECO_E_MISMATCH,
                         "the bank has vectors of width %zu, the fusion layer takes %zu", b.d, d);
    if (d && model && d != m.d)
        return reco_fail(ctx, RECO_E_MISMATCH,
                         "the model %s makes vectors of width %zu, the fusion layer takes %zu", m.name, m.d,
                         d);
    if (model && (*b.fingerprint || (fused && *fused))) RECO_TRY(reco_model_fingerprint(ctx, model, print));
    if (*print && *b.fingerprint && strcmp(print, b.fingerprint) != 0)
        return reco_fail(ctx, RECO_E_MISMATCH, "the bank was made with encoder %s (%s), not with %s (%s)",
                         named(b.encoder), b.fingerprint, m.name, print);
    if (model && *b.encoder && !*b.fingerprint && strcasecmp(b.encoder, m.name) != 0)
        reco_log(ctx, RECO_LOG_WARN, "the bank records only its encoder's name, \"%s\": is it %s?",
                 b.encoder, m.name);
    const char *other = *print ? print : b.fingerprint,
               *trained = fusion ? reco_fusion_meta(fusion, "encoder") : NULL;
    if (bank && !reco_encoder_matches(b.encoder, other, trained ? trained : "", fused ? fused : ""))
        return reco_fail(ctx, RECO_E_MISMATCH,
                         "the fusion layer was trained with encoder %s (%s), not with %s (%s)",
                         named(trained), fused && *fused ? fused : "no fingerprint",
                         *print ? m.name : named(b.encoder), *other ? other : "no fingerprint");
    return RECO_OK;
}

reco_status reco_check_question(reco_ctx *ctx, const reco_memory *memory, const reco_question *question)
{
    RECO_TRY(reco_reserved(ctx, "memory", memory->reserved));
    RECO_TRY(reco_reserved(ctx, "question", question->reserved));
    return reco_check_encoder(ctx, NULL, memory->bank, memory->fusion);
}
