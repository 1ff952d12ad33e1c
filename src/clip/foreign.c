/* Weights that are not safetensors, recognised by their file names. */
#include "clip/folder.h"
#include "io/io.h"

typedef enum how { AGAIN, PICKLE, CONVERT, FETCH } how;

/* By their endings; of a folder's files the first line that fits one is named. */
static const struct {
    const char *ending, *is;
    how to_do;
} kinds[] = {{".incomplete", "a download that was not finished", AGAIN},
             {".crdownload", "a download that was not finished", AGAIN},
             {".part", "a download that was not finished", AGAIN},
             {".partial", "a download that was not finished", AGAIN},
             {"pytorch_model.bin", "PyTorch's pickle", PICKLE},
             {"pytorch_model.bin.index.json", "PyTorch's pickle", PICKLE},
             {".bin", "PyTorch's pickle", PICKLE},
             {".pt", "PyTorch's pickle", PICKLE},
             {".pth", "PyTorch's pickle", PICKLE},
             {".pkl", "a Python pickle", PICKLE},
             {".ckpt", "a checkpoint in a pickle, as Lightning writes it,", PICKLE},
             {".msgpack", "Flax's format", CONVERT},
             {".h5", "TensorFlow's format", CONVERT},
             {".pb", "TensorFlow's format", FETCH},
             {".tflite", "TensorFlow Lite's format", FETCH},
             {".onnx", "ONNX", FETCH},
             {".gguf", "GGUF, llama.cpp's format,", FETCH},
             {".ggml", "GGML, llama.cpp's format,", FETCH},
             {".npz", "NumPy's format", FETCH},
             {".mlmodel", "Core ML's format", FETCH}};

#define KINDS (sizeof kinds / sizeof *kinds)

static bool has_ending(const char *name, const char *ending)
{
    size_t n = strlen(name), end = strlen(ending);
    return n >= end && strcmp(name + n - end, ending) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What training left beside a model. */
static bool is_state(const char *name)
{
    static const char *const others[] = {"optimizer", "scheduler", "training_args", "rng_state", "scaler"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strncmp(name, others[i], strlen(others[i])) == 0) return true;
    return false;
}

static bool is_safetensors(const char *name)
{
    return has_ending(name, ".safetensors") && strncmp(name, "adapter_", 8) != 0;
}

/* The place of a file's kind in the list. */
static size_t find_kind(const char *name)
{
    size_t k = 0;
    while (k < KINDS && (!has_ending(name, kinds[k].ending) || is_state(name))) k++;
    return k;
}

static bool is_weights(const char *name) { return find_kind(name) < KINDS || is_safetensors(name); }

static reco_status foreign(reco_ctx *ctx, const char *dir, const char *name, size_t kind,
                           const char *wanted)
{
    static const char *const to_do[] = {
        [AGAIN] = "fetch it again",
        [PICKLE] = "convert it to ",
        [CONVERT] =
            "save it as safetensors with transformers (docs/models.md, \"Weights in other formats\")",
        [FETCH] = "fetch the model as safetensors"};
    how do_this = kinds[kind].to_do;
    return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s%s%s, which is %s and is not read: %s%s%s", dir,
                     *dir ? ": holds " : "", name, kinds[kind].is, to_do[do_this],
                     do_this == PICKLE ? wanted : "",
                     do_this == PICKLE ? " (docs/models.md, \"Weights in a .bin file\")" : "");
}

bool reco_folder_foreign(reco_ctx *ctx, const char *file)
{
    size_t kind = find_kind(base_name(file));
    if (kind < KINDS) foreign(ctx, "", file, kind, "model.safetensors");
    return kind < KINDS;
}

static reco_status name_files(reco_ctx *ctx, const char *dir, const char *wanted, char *const *paths,
                              size_t n)
{
    size_t own = 0, best = n;
    while (own < n && !is_safetensors(base_name(paths[own]))) own++;
    if (own < n && strstr(base_name(paths[own]), "-of-"))
        return reco_fail(ctx, RECO_E_IO,
                         "%s: holds %s, a shard, but no %s.index.json: fetch the whole model", dir,
                         base_name(paths[own]), wanted);
    for (size_t i = 0; i < n; i++)
        if (best == n || find_kind(base_name(paths[i])) < find_kind(base_name(paths[best]))) best = i;
    if (own == n && best < n)
        return foreign(ctx, dir, base_name(paths[best]), find_kind(base_name(paths[best])), wanted);
    return reco_fail(ctx, RECO_E_IO, "%s: no %s and no %s.index.json in this folder%s%s", dir, wanted,
                     wanted, own < n ? "; rename it if it is the one you want: " : "",
                     own < n ? base_name(paths[own]) : "");
}

reco_status reco_folder_no_weights(reco_ctx *ctx, const char *dir, const char *wanted)
{
    char **paths = NULL;
    size_t n = 0;
    RECO_TRY(reco_list_files(ctx, &paths, &n, dir, false, is_weights));
    reco_status status = name_files(ctx, dir, wanted, paths, n);
    for (size_t i = 0; i < n; i++) reco_free(paths[i]);
    reco_free(paths);
    return status;
}
