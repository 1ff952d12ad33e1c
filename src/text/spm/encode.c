#include "text/ids.h"
#include "text/pieces/pieces.h"
#include "text/pieces/unigram.h"
#include "text/spm/spm.h"

int32_t reco_spm_id(const reco_spm *spm, const char *piece, size_t bytes)
{
    int32_t id = reco_pieces_id(&spm->reserved, piece, bytes);
    if (id < 0) id = reco_pieces_id(&spm->model.pieces, piece, bytes);
    return id < 0 ? spm->unk : id;
}

reco_status reco_spm_encode(reco_ctx *ctx, const reco_spm *spm, const char *text, size_t bytes,
                            reco_ids *ids)
{
    char *normal;
    size_t n;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = reco_spm_normalize(ctx, spm, text, bytes, &normal, &n);
    if (status == RECO_OK && n)
        status = spm->kind == RECO_SPM_UNIGRAM ? reco_unigram(ctx, &spm->model, spm->unk, normal, n, ids)
                                               : reco_spm_bpe(ctx, spm, normal, n, ids);
    reco_scratch_release(ctx, mark);
    return status;
}
