/* Tokenizer folders with something wrong: a status, and a message that names the file and what is wrong with it. */
#include "reco/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static reco_ctx *ctx;
static char folder[] = "/tmp/reco-text-XXXXXX";

#define GOOD_VOCAB                                                                                         \
    "{\"a\":0,\"b\":1,\"a</w>\":2,\"b</w>\":3,\"ab</w>\":4,\"<|startoftext|>\":5,\"<|endoftext|>\":6}"

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    if (!text) return;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect(reco_status want, const char *words, const char *more)
{
    reco_tokenizer *tok;
    reco_status got = reco_tokenizer_open(ctx, &tok, folder, RECO_TEXT_AUTO);
    const char *message = reco_ctx_error(ctx);
    if (got != want || (want != RECO_OK && (!strstr(message, words) || !strstr(message, more) || tok)))
        fail_msg("status %d, want %d; message '%s', want '%s' and '%s'", (int)got, (int)want, message,
                 words, more);
    reco_tokenizer_close(tok);
}

static void vocab_and_merges(void **state)
{
    (void)state;
    expect(RECO_E_UNSUPPORTED, folder, "want vocab.json and merges.txt, or tokenizer.json");
    put("merges.txt", "a b</w>\n");
    expect(RECO_E_IO, folder, "want vocab.json and merges.txt, or tokenizer.json");
    put("merges.txt", NULL);
    put("vocab.json", GOOD_VOCAB);
    expect(RECO_E_IO, "merges.txt", "no such file");
    put("merges.txt", "#version: 0.2\na b</w>\n");
    expect(RECO_OK, "", "");
    put("merges.txt", "#version: 0.2\na b</w>\na b b\n");
    expect(RECO_E_FORMAT, "merges.txt:3", "'a b b', want two symbols");
    put("merges.txt", "a\n");
    expect(RECO_E_FORMAT, "merges.txt:1", "want two symbols");
    put("merges.txt", "a b</w>\n\na b</w>\n");
    expect(RECO_E_FORMAT, "merges.txt:2", "want two symbols");
    put("merges.txt", "a b</w>\na z\n");
    expect(RECO_E_FORMAT, "merges.txt:2", "'z' of the merge is not in the vocabulary");
    put("merges.txt", "a b\n");
    expect(RECO_E_FORMAT, "merges.txt:1", "'ab' of the merge");
    put("merges.txt", "a b</w>\r\n");
    expect(RECO_OK, "", "");
    put("vocab.json", "{\"a\":0,\"b\":2}");
    expect(RECO_E_FORMAT, "vocab.json", "token 'b' has an id out of range, want an id of 0..1 (no holes)");
    put("vocab.json", "{\"a\":0,\"b\":0}");
    expect(RECO_E_FORMAT, "vocab.json", "has id 0, which another token has too");
    put("vocab.json", "{\"a\":0,\"b\":\"x\"}");
    expect(RECO_E_FORMAT, "vocab.json", "token 'b' has no id");
    put("vocab.json", "{\"a\":0,\"a\":1}");
    expect(RECO_E_FORMAT, "vocab.json:1", "uplicate");
    put("vocab.json", "{\n\"a\":0,\n");
    expect(RECO_E_FORMAT, "vocab.json:3", "damaged JSON");
    put("vocab.json", "[1]");
    expect(RECO_E_FORMAT, "vocab.json", "want a JSON object");
    put("vocab.json", "{}");
    expect(RECO_E_FORMAT, "vocab.json", "0 tokens");
    put("vocab.json", "");
    expect(RECO_E_FORMAT, "vocab.json", "is empty");
    put("vocab.json", "{\"a\":0}");
    put("merges.txt", "");
    expect(RECO_E_FORMAT, folder, "bos_token '<|startoftext|>' is not in the vocabulary");
    put("vocab.json", GOOD_VOCAB);
    put("tokenizer_config.json", "{\"eos_token\":{\"content\":\"<eos>\"}}");
    expect(RECO_E_FORMAT, folder, "eos_token '<eos>' is not in the vocabulary");
    put("tokenizer_config.json", "{\"eos_token\":");
    expect(RECO_E_FORMAT, "tokenizer_config.json", "damaged JSON");
    put("tokenizer_config.json", NULL);
    put("vocab.json", NULL);
    put("merges.txt", NULL);
    char path[256];
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    expect(RECO_E_IO, "vocab.json", "a directory");
    rmdir(path);
}

static void tokenizer_json(void **state)
{
    (void)state;
#define MODEL(merges)                                                                                      \
    "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":" GOOD_VOCAB                   \
    ",\"merges\":" merges "}}"
    put("tokenizer.json", MODEL("[\"a b</w>\"]"));
    expect(RECO_OK, "", "");
    put("tokenizer.json", MODEL("[[\"a\",\"b</w>\"]]"));
    expect(RECO_OK, "", "");
    put("tokenizer.json", MODEL("[[\"a\",\"b</w>\"],[\"a\"]]"));
    expect(RECO_E_FORMAT, "tokenizer.json: model.merges[1]", "want a pair");
    put("tokenizer.json", MODEL("[\"a b</w>\",\"ab\"]"));
    expect(RECO_E_FORMAT, "tokenizer.json: model.merges[1]", "want a pair");
    put("tokenizer.json", MODEL("[7]"));
    expect(RECO_E_FORMAT, "tokenizer.json: model.merges[0]", "want a pair");
    put("tokenizer.json", MODEL("[[\"a\",\"c\"]]"));
    expect(RECO_E_FORMAT, "tokenizer.json: model.merges[0]", "'c' of the merge");
    put("tokenizer.json", "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{},\"merges\":[]}}");
    expect(RECO_E_FORMAT, "tokenizer.json", "want a BPE model");
    put("tokenizer.json", "{\"model\":{\"vocab\":{},\"merges\":[]}}");
    expect(RECO_E_UNSUPPORTED, "tokenizer.json", "end_of_word_suffix is ''");
    put("tokenizer.json",
        "{\"added_tokens\":[{\"id\":9}],\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":" GOOD_VOCAB
        ",\"merges\":[]}}");
    expect(RECO_E_FORMAT, "tokenizer.json", "added_tokens[0] lacks content or id");
    put("tokenizer.json",
        "{\"added_tokens\":[{\"id\":9,\"content\":\"a\"}],\"model\":{\"end_of_word_suffix\":\"</w>\","
        "\"vocab\":" GOOD_VOCAB ",\"merges\":[]}}");
    expect(RECO_E_FORMAT, "tokenizer.json", "'a' has another id");
    put("tokenizer.json", NULL);
}

/* Only CLIP's own normalizer is run; of CLIPTokenizer's files it may be missing, or that of old versions. */
static void normalizer(void **state)
{
    (void)state;
#define WITH(value)                                                                                        \
    "{\"normalizer\":" value ",\"model\":{\"end_of_word_suffix\":\"</w>\",\"vocab\":" GOOD_VOCAB           \
    ",\"merges\":[]}}"
#define SEQUENCE(steps) WITH("{\"type\":\"Sequence\",\"normalizers\":[" steps "]}")
#define NFC "{\"type\":\"NFC\"}"
#define LOWER "{\"type\":\"Lowercase\"}"
#define SPACES(by) "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\"" by "\"}"
#define BERT "{\"type\":\"BertNormalizer\",\"lowercase\":true}"
    static const char *const good[] = {SEQUENCE(NFC "," SPACES(" ") "," LOWER), WITH("null"), WITH(BERT)};
    static const struct {
        const char *file, *says;
    } bad[] = {{WITH("\"NFC\""), "normalizer: want an object with a type"},
               {WITH("false"), "normalizer: want an object with a type"},
               {WITH("{\"type\":\"Nmt\"}"), "normalizer: type \"Nmt\" is not supported"},
               {WITH("{\"type\":\"Sequence\"}"), "normalizer: Sequence needs normalizers"},
               {SEQUENCE(NFC ",{\"type\":\"NFKC\"}"), "normalizer[1]: type \"NFKC\" is not supported"},
               {SEQUENCE(NFC ",{\"type\":\"Replace\"}"), "normalizer[1]: Replace needs a pattern"},
               {SEQUENCE(NFC "," SPACES("") "," LOWER), "normalizer: want CLIP's: NFC, Replace of"},
               {SEQUENCE(LOWER "," SPACES(" ") "," NFC), "normalizer: want CLIP's"},
               {SEQUENCE(NFC "," SPACES(" ")), "normalizer: want CLIP's"},
               {SEQUENCE(""), "normalizer: want CLIP's"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        put("tokenizer.json", good[i]);
        expect(RECO_OK, "", "");
    }
    put("tokenizer_config.json", "{\"tokenizer_class\":\"CLIPTokenizerFast\"}");
    expect(RECO_OK, "", "");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}");
    expect(RECO_E_UNSUPPORTED, "tokenizer.json", "normalizer: type \"BertNormalizer\"");
    put("tokenizer.json", good[1]);
    expect(RECO_E_UNSUPPORTED, "tokenizer.json", "normalizer: want CLIP's");
    put("tokenizer_config.json", NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("tokenizer.json", bad[i].file);
        reco_tokenizer *tok;
        reco_status got = reco_tokenizer_open(ctx, &tok, folder, RECO_TEXT_HF);
        expect(got, "tokenizer.json", bad[i].says);
        assert_true(got == RECO_E_FORMAT || got == RECO_E_UNSUPPORTED);
    }
    put("tokenizer.json", bad[0].file); /* nor does it matter to open_clip's cleaning */
    reco_tokenizer *tok;
    assert_int_equal(reco_tokenizer_open(ctx, &tok, folder, RECO_TEXT_OPENCLIP), RECO_OK);
    reco_tokenizer_close(tok);
    put("tokenizer.json", NULL);
}

/* Where transformers would give a token another id than a file says, or chance decides, or it cuts on the other side. */
static void added(void **state)
{
    (void)state;
#define DECODER(entries) "{\"added_tokens_decoder\":{" entries "}}"
#define T(content) "{\"content\":\"" content "\",\"normalized\":true}"
    static const struct {
        reco_status status;
        const char *old, *config, *map, *file, *says;
    } cases[] = {
        {RECO_OK, "{\"y\":8,\"x\":7,\"a\":0}", NULL, NULL, "", ""},
        {RECO_OK, NULL, "{\"mask_token\":\"\",\"cls_token\":null,\"sep_token\":{},\"bos_token\":{}}", NULL,
         "", ""},
        {RECO_OK, NULL, "{\"extra_special_tokens\":{}}", "{\"additional_special_tokens\":[\"x\"]}", "", ""},
        {RECO_OK, "{\"y\":9}", DECODER(""), "{\"padding_side\":\"left\"}", "", ""},
        {RECO_E_FORMAT, "{\"y\":8}", NULL, NULL, "added_tokens.json",
         "ids up to 8, which leaves a hole, want up to 7"},
        {RECO_E_FORMAT, "{\"y\":2}", NULL, NULL, "added_tokens.json: 'y'",
         "has the id 2, want one of its own after"},
        {RECO_E_FORMAT, "{\"y\":7,\"x\":7}", NULL, NULL, "added_tokens.json: 'x'", "has the id 7"},
        {RECO_E_FORMAT, "{\"y\":4294967303}", NULL, NULL, "added_tokens.json: 'y'",
         "want one of its own after"},
        {RECO_E_FORMAT, "{\"y\":\"7\"}", NULL, NULL, "added_tokens.json: 'y'", "want one of its own after"},
        {RECO_E_FORMAT, "{\"b\":2}", NULL, NULL, "added_tokens.json: 'b'", "has another id"},
        {RECO_E_FORMAT, "[]", NULL, NULL, "added_tokens.json", "want a JSON object"},
        {RECO_E_UNSUPPORTED, "{\"y\":7,\"Y\":8}", NULL, NULL, "",
         "tokens 7 and 8 become one text when normalised"},
        {RECO_E_FORMAT, NULL, DECODER("\"8\":" T("x")), NULL, "added_tokens_decoder has ids up to 8",
         "a hole"},
        {RECO_E_FORMAT, NULL, DECODER("\"7\":" T("x") ",\"8\":" T("x")), NULL, "added_tokens_decoder: 'x'",
         "another id"},
        {RECO_E_UNSUPPORTED, NULL, DECODER("\"6\":{\"content\":\"<|endoftext|>\"}"), NULL,
         "added_tokens_decoder: '<|endoftext|>'", "lacks normalized"},
        {RECO_E_FORMAT, NULL, "{\"bos_token\":\"\"}", NULL, "tokenizer_config.json: bos_token",
         "not in the vocabulary"},
        {RECO_E_FORMAT, NULL, NULL, "{\"pad_token\":\"x\"}", "special_tokens_map.json: pad_token 'x'",
         "not in the vocabulary"},
        {RECO_E_UNSUPPORTED, NULL, "{\"image_token\":\"x\"}", NULL,
         "tokenizer_config.json: image_token 'x'", "not in"},
        {RECO_E_UNSUPPORTED, NULL, "{\"extra_special_tokens\":{\"it\":\"x\"}}", NULL,
         "tokenizer_config.json: it 'x'", "not in"},
        {RECO_E_UNSUPPORTED, NULL, "{\"extra_special_tokens\":{\"it\":\"a\"}}",
         "{\"extra_special_tokens\":[\"b\"]}", "tokenizer_config.json: extra_special_tokens",
         "an object, and not alone"},
        {RECO_E_UNSUPPORTED, NULL, NULL, "{\"padding_side\":\"left\"}", "special_tokens_map.json",
         "padding_side"},
        {RECO_E_UNSUPPORTED, NULL, NULL, "{\"truncation_side\":\"left\"}", "special_tokens_map.json",
         "truncation_side"},
        {RECO_E_UNSUPPORTED, NULL, NULL, "{\"split_special_tokens\":true}", "special_tokens_map.json",
         "split_special_tokens"},
        {RECO_E_UNSUPPORTED, NULL, "{\"tokenizer_class\":\"GPT2Tokenizer\"}", NULL,
         "tokenizer_config.json: tokenizer_class", "GPT2"},
        {RECO_E_UNSUPPORTED, NULL, "{\"tokenizer_class\":\"TokenizersBackend\"}", NULL,
         "tokenizer_config.json: its tokenizer_class", "needs a tokenizer.json"}};
    put("vocab.json", GOOD_VOCAB);
    put("merges.txt", "a b</w>\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("added_tokens.json", cases[i].old);
        put("tokenizer_config.json", cases[i].config);
        put("special_tokens_map.json", cases[i].map);
        expect(cases[i].status, cases[i].file, cases[i].says);
    }
    put("vocab.json", NULL);
    put("merges.txt", NULL);
    put("added_tokens.json", NULL);
    put("tokenizer_config.json", NULL);
    put("special_tokens_map.json", NULL);
}

/* A class that is not CLIP's runs all of tokenizer.json: each part has to be CLIP's. With CLIPTokenizer most are not looked
 * at, as in transformers. */
static void as_file(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        bool clip_too; /* refused for CLIPTokenizer as well */
    } bad[] = {
        {"pre_tokenizer", "null", false},
        {"pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true}",
         false},
        {"post_processor", "null", false},
        {"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}}", false},
        {"post_processor", "{\"type\":\"RobertaProcessing\",\"sep\":[\"a\",0],\"cls\":[\"b\",1]}", false},
        {"added_tokens", "[]", false},
        {"truncation", "{\"direction\":\"Left\"}", true},
        {"padding", "{\"direction\":\"Left\"}", true},
        {"model.dropout", "0.1", false},
        {"model.continuing_subword_prefix", "\"##\"", false},
        {"model.fuse_unk", "true", false},
        {"model.byte_fallback", "true", false},
        {"model.ignore_merges", "true", false},
        {"model.unk_token", "null", false},
        {"model.unk_token", "\"!\"", false}};
    char path[4096];
    const char *root = getenv("RECO_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/text/as-file/tokenizer.json", root ? root : ".");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *file = json_load_file(path, 0, NULL);
        assert_non_null(file);
        bool model = strncmp(bad[i].key, "model.", 6) == 0;
        json_object_set_new(model ? json_object_get(file, "model") : file, bad[i].key + (model ? 6 : 0),
                            json_loads(bad[i].value, JSON_DECODE_ANY, NULL));
        char *text = json_dumps(file, 0);
        put("tokenizer.json", text);
        put("tokenizer_config.json", "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}");
        expect(RECO_E_UNSUPPORTED, "tokenizer.json", bad[i].key);
        put("tokenizer_config.json", NULL);
        expect(bad[i].clip_too ? RECO_E_UNSUPPORTED : RECO_OK, "tokenizer.json", bad[i].key);
        free(text);
        json_decref(file);
    }
    put("tokenizer.json", NULL);
}

/* transformers reads tokenizer.json where it is there, and so fails where it is damaged. */
static void both(void **state)
{
    (void)state;
    put("vocab.json", "{\"z\":0}");
    put("tokenizer.json", MODEL("[\"a b</w>\"]"));
    expect(RECO_OK, "", "");
    put("vocab.json", GOOD_VOCAB);
    put("merges.txt", "a b</w>\n");
    put("tokenizer.json", "{");
    expect(RECO_E_FORMAT, "tokenizer.json", "damaged JSON");
    reco_tokenizer *tok; /* open_clip's rules take them the other way round */
    assert_int_equal(reco_tokenizer_open(ctx, &tok, folder, RECO_TEXT_OPENCLIP), RECO_OK);
    reco_tokenizer_close(tok);
    put("tokenizer.json", NULL);
    expect(RECO_OK, "", "");
    put("vocab.json", NULL);
    put("merges.txt", NULL);
}

static int make(void **state)
{
    (void)state;
    return !mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK;
}

static int drop(void **state)
{
    (void)state;
    reco_ctx_free(ctx);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(vocab_and_merges), cmocka_unit_test(tokenizer_json),
                                       cmocka_unit_test(normalizer),       cmocka_unit_test(added),
                                       cmocka_unit_test(as_file),          cmocka_unit_test(both)};
    return cmocka_run_group_tests(tests, make, drop);
}
