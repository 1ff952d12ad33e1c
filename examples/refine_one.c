/* Refine one picture's embedding with the library, and print the rows of the bank that took part.
 *
 *     cc refine_one.c $(pkg-config --cflags --libs reco) -o refine_one
 *     ./refine_one MODEL BANK FUSION IMAGE        FUSION: a checkpoint, or vote, mean, weighted */
#include <reco/reco.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: refine_one MODEL BANK FUSION IMAGE\n");
        return 2;
    }
    reco_ctx *ctx = NULL;
    reco_model *model = NULL;
    reco_bank *bank = NULL;
    reco_fusion *fusion = NULL;
    float *embedding = NULL;
    unsigned char good = 0;
    const char *path = argv[4];
    if (reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    if (reco_model_open(ctx, &model, argv[1], NULL) != RECO_OK) goto fail;
    if (reco_bank_open(ctx, &bank, argv[2]) != RECO_OK) goto fail;
    size_t d = reco_bank_get_info(bank)->d;
    if (reco_fusion_open(ctx, &fusion, argv[3], d, 0) != RECO_OK) goto fail;
    if (reco_check_encoder(ctx, model, bank, fusion) != RECO_OK) goto fail;
    if (!(embedding = calloc(2 * d, sizeof *embedding))) goto fail;
    if (reco_embed_files(ctx, model, &path, 1, NULL, embedding, &good) != RECO_OK) goto fail;
    if (!good) fprintf(stderr, "refine_one: %s: not a picture\n", path);
    if (!good) goto fail;

    enum { K = 5 };
    int64_t ids[K];
    float scores[K], *refined = embedding + d, cosine = 0;
    size_t found;
    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.k = K;
    reco_question question = {.side = RECO_IMAGE, .x = embedding, .n = 1};
    reco_refined out = {.rows = refined, .hits = {.ids = ids, .scores = scores, .counts = &found}};
    if (reco_refine(ctx, &memory, &question, &out) != RECO_OK) goto fail;
    for (size_t i = 0; i < d; i++) cosine += embedding[i] * refined[i];
    printf("%s: refined, cosine to the original %.4f\n", path, (double)cosine);
    for (size_t i = 0; i < found; i++) {
        reco_pair pair;
        if (reco_bank_get(ctx, bank, ids[i], &pair) != RECO_OK) goto fail;
        printf("  %.4f  %s\n", (double)scores[i], pair.caption);
        reco_pair_free(&pair);
    }
fail:
    if (*reco_ctx_error(ctx)) fprintf(stderr, "refine_one: %s\n", reco_ctx_error(ctx));
    int code = *reco_ctx_error(ctx) || !good ? 1 : 0;
    free(embedding);
    reco_fusion_free(fusion), reco_bank_close(bank), reco_model_close(model), reco_ctx_free(ctx);
    return code;
}
