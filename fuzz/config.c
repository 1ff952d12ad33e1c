/* A configuration of any family beside small good weights is refused, or makes a model that embeds a caption. The first
 * byte chooses the file: "o" open_clip_config.json, "p" preprocessor_config.json, else config.json. */
#include "folder.h"
#include "reco/clip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"config.json", "preprocessor_config.json", "model.safetensors",
                                        "merges.txt",  "tokenizer_config.json",    "vocab.json"};
    static bool ready;
    if (!ready) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) fuzz_copy("small/hf-quickgelu", names[i]);
        ready = true;
    }
    if (bytes == 0) return 0;
    const char *name = data[0] == 'o'   ? "open_clip_config.json"
                       : data[0] == 'p' ? "preprocessor_config.json"
                                        : "config.json";
    fuzz_put(name, data + 1, bytes - 1);
    reco_model *model;
    reco_ctx *ctx = fuzz_ctx();
    if (reco_model_open(ctx, &model, fuzz_folder(), NULL) == RECO_OK) {
        const char *text = "a caption";
        float out[4096];
        if (reco_model_get_info(model)->d <= 4096) reco_model_embed_texts(ctx, model, &text, 1, out, NULL);
        reco_model_close(model);
    }
    if (data[0] == 'o')
        fuzz_remove(name);
    else
        fuzz_copy("small/hf-quickgelu", name);
    return 0;
}
