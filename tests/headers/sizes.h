/* Sizes of what callers allocate, on machines of 64 bits: a field that is added takes its place from `reserved`, or these tell. Each
 * header stands alone, so all are included twice, in two orders. */
#include "reco/train.h"
#include "reco/text.h"
#include "reco/study.h"
#include "reco/query.h"
#include "reco/pipeline.h"
#include "reco/io.h"
#include "reco/image.h"
#include "reco/fusion.h"
#include "reco/eval.h"
#include "reco/clip.h"
#include "reco/base.h"
#include "reco/bank.h"

#include "reco/reco.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SIZE(type, bytes) static_assert(sizeof(void *) != 8 || sizeof(type) == (bytes), #type)
SIZE(reco_ctx_opts, 104);
SIZE(reco_search_opts, 104);
SIZE(reco_bank_spec, 96);
SIZE(reco_bank_open_opts, 72);
SIZE(reco_compact_opts, 72);
SIZE(reco_merge_opts, 72);
SIZE(reco_train_opts, 248);
SIZE(reco_model_opts, 80);
SIZE(reco_embed_opts, 104);
SIZE(reco_folder_opts, 184);
SIZE(reco_ingest_opts, 216);
SIZE(reco_search_file_opts, 176);
SIZE(reco_refine_opts, 96);
SIZE(reco_query_set_opts, 104);
SIZE(reco_table_opts, 120);
SIZE(reco_setting, 24);
SIZE(reco_find_opts, 88);
SIZE(reco_study_opts, 176);
SIZE(reco_bank_rows, 152);
SIZE(reco_delete_opts, 112);
SIZE(reco_delete_result, 96);
SIZE(reco_stream_result, 192);
SIZE(reco_check_result, 112);
SIZE(reco_search_result, 96);
SIZE(reco_compact_result, 120);
SIZE(reco_bank_health, 112);
SIZE(reco_train_result, 440);
SIZE(reco_study_result, 128);
SIZE(reco_hits, 88);
SIZE(reco_range, 104);
SIZE(reco_lists_opts, 88);
SIZE(reco_lists_result, 80);
SIZE(reco_merge_result, 152);
SIZE(reco_fusion_input, 120);
SIZE(reco_fused, 80);
SIZE(reco_votes, 96);
SIZE(reco_memory, 120);
SIZE(reco_settings, 120);
SIZE(reco_question, 104);
SIZE(reco_refined, 176);
SIZE(reco_answer, 104);
SIZE(reco_candidates, 144);
SIZE(reco_findings, 160);
SIZE(reco_ranking, 104);
SIZE(reco_class_scores, 104);
SIZE(reco_tip_cache, 88);
SIZE(reco_tip_pictures, 112);
SIZE(reco_retrieval_scores, 128);
SIZE(reco_retrieval_rows, 128);
SIZE(reco_query_set, 168);
SIZE(reco_pair_set, 112);
SIZE(reco_train_pairs, 104);
/* These stay as they are. */
SIZE(reco_mixture, 24);
SIZE(reco_tip, 12);
SIZE(reco_shard, 8);
SIZE(reco_interval, 24);
SIZE(reco_image_limits, 16);
SIZE(reco_pair, 56);
SIZE(reco_recall_point, 12);
SIZE(reco_picture_input, 48);

/* The library is the headers'. */
int main(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", RECO_VERSION_MAJOR, RECO_VERSION_MINOR,
             RECO_VERSION_PATCH);
    if (strcmp(version, RECO_VERSION) != 0 || strcmp(version, reco_version()) != 0 ||
        RECO_VERSION_NUMBER < 2000) {
        fprintf(stderr, "headers of %s, %s, library of %s\n", version, RECO_VERSION, reco_version());
        return 1;
    }
    reco_ctx *ctx;
    reco_ctx_opts opts;
    memset(&opts, 0, sizeof opts);
    opts.threads = 1;
    opts.reserved[7] = 1;
    if (reco_ctx_create(&ctx, &opts) != RECO_E_ARG) return 1;
    opts.reserved[7] = 0;
    if (reco_ctx_create(&ctx, &opts) != RECO_OK) return 1;
    reco_ctx_free(ctx);
    return 0;
}
