#include "fetch/pull.h"

static const char *const common[] = {"preprocessor_config.json",
                                     "processor_config.json",
                                     "tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "vocab.json",
                                     "merges.txt",
                                     "spiece.model",
                                     "tokenizer.model",
                                     "sentencepiece.model",
                                     "LICENSE",
                                     "LICENSE.txt",
                                     "LICENSE.md",
                                     "README.md"};

static const char *sibling(const reco_pull *p, size_t i)
{
    return json_string_value(
        json_object_get(json_array_get(json_object_get(p->list, "siblings"), i), "rfilename"));
}

static size_t siblings(const reco_pull *p) { return json_array_size(json_object_get(p->list, "siblings")); }

/* The list's own string, which lives as long as the pull; NULL: the hub has no such file. */
static const char *find(const reco_pull *p, const char *file)
{
    for (size_t i = 0; i < siblings(p); i++)
        if (strcmp(sibling(p, i), file) == 0) return sibling(p, i);
    return NULL;
}

const json_t *reco_pull_listed(const reco_pull *p, const char *file)
{
    for (size_t i = 0; i < siblings(p); i++)
        if (strcmp(sibling(p, i), file) == 0)
            return json_array_get(json_object_get(p->list, "siblings"), i);
    return NULL;
}

static bool harmless(const char *name)
{
    if (!*name || name[0] == '/' || strlen(name) > 1000) return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += part != name;
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
    }
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127 || *c == '\\') return false;
    return true;
}

/* For a message of one line. */
static void printable(char out[64], const char *text)
{
    size_t n = 0;
    for (; text[n] && n < 63; n++) out[n] = (unsigned char)text[n] < ' ' || text[n] == 127 ? '?' : text[n];
    out[n] = 0;
}

reco_status reco_pull_check_list(reco_pull *p)
{
    if (!json_is_array(json_object_get(p->list, "siblings")))
        return reco_fail(p->ctx, RECO_E_FORMAT, "%s: the hub's answer has no list \"siblings\"", p->name);
    for (size_t i = 0; i < siblings(p); i++) {
        const char *name = sibling(p, i);
        char shown[64];
        printable(shown, name ? name : "");
        if (!name || !harmless(name))
            return reco_fail(p->ctx, RECO_E_FORMAT, "%s: the hub lists \"%s\", which is not a file name",
                             p->name, shown);
    }
    return RECO_OK;
}

static reco_status read_work(reco_pull *p, const char *file, json_t **out)
{
    char *path = reco_path_join(p->ctx, p->work, file);
    reco_status status = path ? reco_json_load(p->ctx, out, path) : RECO_E_NOMEM;
    reco_free(path);
    return status;
}

/* The index names the shards; they must be plain names that the hub lists. */
static reco_status shards(reco_pull *p, const char *index,
                          reco_status (*get)(reco_pull *p, const char *file, bool weights))
{
    json_t *root = NULL, *value;
    const char *key;
    RECO_TRY(get(p, index, false));
    RECO_TRY(read_work(p, index, &root));
    reco_status status = RECO_OK;
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map))
        RECO_GO(reco_fail(p->ctx, RECO_E_FORMAT, "%s: %s: no object weight_map", p->name, index));
    json_object_foreach(map, key, value)
    {
        const char *name = json_string_value(value), *known = name ? find(p, name) : NULL;
        size_t n = name ? strlen(name) : 0;
        char shown[64];
        printable(shown, name ? name : "");
        if (!known || strchr(name, '/') || name[0] == '.' || n < 12 ||
            strcmp(name + n - 12, ".safetensors") != 0)
            RECO_GO(reco_fail(p->ctx, RECO_E_FORMAT,
                              "%s: %s: a shard is \"%s\", want a .safetensors file of the hub", p->name,
                              index, shown));
        RECO_GO(get(p, known, true));
    }
out:
    json_decref(root);
    return status;
}

reco_status reco_pull_choose(reco_pull *p, reco_status (*get)(reco_pull *p, const char *file, bool weights))
{
    bool hugging_face = false;
    const char *config = find(p, "config.json"), *open_clip = find(p, "open_clip_config.json");
    if (!config && !open_clip)
        return reco_fail(p->ctx, RECO_E_UNSUPPORTED,
                         "%s: the hub has neither config.json nor open_clip_config.json", p->name);
    if (config) {
        json_t *root = NULL;
        RECO_TRY(get(p, config, false));
        RECO_TRY(read_work(p, config, &root));
        hugging_face = json_is_string(json_object_get(root, "model_type")); /* timm's have none */
        json_decref(root);
    }
    static const char *const weights[2][2] = {
        {"open_clip_model.safetensors", "open_clip_model.safetensors.index.json"},
        {"model.safetensors", "model.safetensors.index.json"}};
    if (hugging_face && open_clip && !find(p, weights[1][0]) && !find(p, weights[1][1]))
        hugging_face = false;
    if (!hugging_face && !open_clip) hugging_face = true;
    const char *file = find(p, weights[hugging_face][0]), *index = find(p, weights[hugging_face][1]);
    if (!file && !index)
        return reco_fail(p->ctx, RECO_E_UNSUPPORTED, "%s: the hub has no %s; reco reads only safetensors",
                         p->name, weights[hugging_face][0]);
    if (!hugging_face) RECO_TRY(get(p, open_clip, false));
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        const char *there = find(p, common[i]);
        if (there) RECO_TRY(get(p, there, false));
    }
    return file ? get(p, file, true) : shards(p, index, get);
}
