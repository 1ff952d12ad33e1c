#include "text/tokenizer.h"

reco_status reco_clean_openclip(reco_ctx *ctx, reco_points *text)
{
    return reco_points_lower(ctx, text, true);
}
