/* The settings that result from the fields of a memory. */
#include "query/query.h"

#include <math.h>

/* Of the vote, where neither a checkpoint nor the user says it; and of CLIP where the encoder is not known. */
#define VOTE_SCALE 40
#define CLIP_SCALE 100
#define NEIGHBOURS 10

void reco_memory_settle(const reco_memory *memory, reco_side own, reco_side in, reco_settings *settings)
{
    reco_settings s = {.k = memory->k ? memory->k : NEIGHBOURS, .min_similarity = memory->min_similarity};
    if (memory->fusion) {
        reco_fusion_config config = *reco_fusion_get_config(memory->fusion);
        s.sides = memory->sides == RECO_SIDES_DEFAULT ? config.sides : memory->sides;
        s.refines = config.layer != RECO_LAYER_NONE && (int)s.sides >> own & 1;
        s.k = memory->k ? memory->k : config.k;
        s.min_similarity = fmaxf(config.min_similarity, memory->min_similarity);
        if (memory->mixture)
            s.mixture = *memory->mixture;
        else if (own != in && s.sides == config.sides)
            s.mixture = config.mixture;
        if (reco_mixture_votes(&s.mixture) && own == RECO_IMAGE && in == RECO_TEXT)
            s.voters = s.mixture.voters ? s.mixture.voters : s.k;
    }
    *settings = s;
}

void reco_mixture_of(reco_mixture *mixture, const reco_fusion *fusion, float clip, float refined,
                     float logit_scale)
{
    float scale = logit_scale > 0 ? logit_scale : CLIP_SCALE;
    reco_mixture found = reco_fusion_get_config(fusion)->mixture;
    *mixture = found.scale[0] > 0 ? found : (reco_mixture){.scale = {scale, scale, VOTE_SCALE}};
    mixture->clip = clip;
    mixture->refined = refined;
}
