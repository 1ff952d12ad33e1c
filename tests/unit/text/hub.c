/* Tokenizers by class and tokenizer.json: ids against transformers and open_clip, and files with something wrong. */
#include "text/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static reco_ctx *ctx;
static char folder[] = "/tmp/reco-hub-XXXXXX";

static reco_tokenizer *golden(const char *name, reco_text_rules rules)
{
    char path[4096];
    const char *root = getenv("RECO_TEST_SOURCE");
    reco_tokenizer *tok;
    snprintf(path, sizeof path, "%s/tests/golden/text/%s", root ? root : ".", name);
    if (reco_tokenizer_hub(ctx, &tok, path, rules) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
    return tok;
}

static void ids(void **state)
{
    (void)state;
    char path[4096], name[64];
    const char *root = getenv("RECO_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/text/hub/cases.json", root ? root : ".");
    json_t *cases = json_load_file(path, 0, NULL), *one;
    assert_non_null(cases);
    size_t i, cleaned = 0;
    json_array_foreach(cases, i, one)
    {
        const json_t *clean = json_object_get(one, "clean"), *text = json_object_get(one, "text");
        const json_t *want = json_object_get(one, "ids");
        const char *kind = json_string_value(json_object_get(one, "folder"));
        int32_t got[24];
        size_t n;
        snprintf(name, sizeof name, "%s%s", strcmp(kind, "full") == 0 ? "" : "hub/", kind);
        reco_tokenizer *tok = golden(name, clean ? RECO_TEXT_OPENCLIP : RECO_TEXT_HF);
        if (clean) reco_tokenizer_set_clean(tok, (reco_clean)json_integer_value(clean));
        assert_int_equal(reco_tokenizer_encode(ctx, tok, json_string_value(text), json_string_length(text),
                                               got, 24, &n, NULL),
                         RECO_OK);
        if (n != json_array_size(want))
            fail_msg("%s: '%s': %zu ids, want %zu", name, json_string_value(text), n,
                     json_array_size(want));
        for (size_t k = 0; k < n; k++)
            if (got[k] != json_integer_value(json_array_get(want, k)))
                fail_msg("%s: '%s': id %zu is %d, want %lld", name, json_string_value(text), k, got[k],
                         (long long)json_integer_value(json_array_get(want, k)));
        reco_tokenizer_close(tok);
        cleaned += clean != NULL;
    }
    assert_true(i > 700 && cleaned > 150);
    json_decref(cases);
}

static void info(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *kind, *rules;
        reco_text_rules how;
        int32_t eos, pad;
    } all[] = {{"hub/t5", "unigram", "t5", RECO_TEXT_HF, 1, 1},
               {"hub/t5", "unigram", "open_clip whitespace", RECO_TEXT_OPENCLIP, 1, 1},
               {"hub/plain", "unigram", "hf", RECO_TEXT_HF, 1, 1},
               {"hub/gemma", "bpe with bytes", "gemma", RECO_TEXT_HF, 1, 0},
               {"hub/siglip2", "bpe with bytes", "siglip2", RECO_TEXT_HF, 1, 0},
               {"hub/xlm-roberta", "unigram", "xlm-roberta", RECO_TEXT_HF, 2, 1},
               {"full", "bpe", "open_clip whitespace", RECO_TEXT_OPENCLIP, 693, 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        reco_tokenizer *tok = golden(all[i].folder, all[i].how);
        reco_tokenizer_info got = *reco_tokenizer_get_info(tok);
        assert_string_equal(got.kind, all[i].kind);
        assert_string_equal(got.rules, all[i].rules);
        assert_int_equal(got.eos, all[i].eos);
        assert_int_equal(got.pad, all[i].pad);
        assert_false(got.pads_left || got.built_in);
        reco_tokenizer_close(tok);
    }
}

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

static void expect(reco_status want, const char *words)
{
    reco_tokenizer *tok;
    reco_status got = reco_tokenizer_hub(ctx, &tok, folder, RECO_TEXT_HF);
    const char *message = reco_ctx_error(ctx);
    if (got != want || (want != RECO_OK && (!strstr(message, words) || !strstr(message, folder) ||
                                            strchr(message, '\n') || tok)))
        fail_msg("status %d, want %d; message '%s', want '%s'", (int)got, (int)want, message, words);
    reco_tokenizer_close(tok);
}

#define END                                                                                                \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{"      \
    "\"SpecialToken\":{\"id\":\"e\"}}],"                                                                   \
    "\"special_tokens\":{\"e\":{\"id\":\"e\",\"ids\":[1],\"tokens\":[\"</s>\"]}}}"
#define PIECES "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"a\",-1.5],[\"\xe2\x96\x81\",-2e0]"
#define UNIGRAM(more) "{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":" PIECES "]}," END more "}"
#define VOCAB "{\"<pad>\":0,\"</s>\":1,\"<unk>\":2,\"a\":3,\"b\":4,\"ab\":5}"
#define BPE(vocab, merges, more)                                                                           \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges more "}," END "}"

static void bad(reco_status want, const char *json, const char *words)
{
    put("tokenizer.json", json);
    expect(want, words);
}

static void plain_config(void)
{
    put("tokenizer_config.json", "{\"tokenizer_class\":\"TokenizersBackend\",\"pad_token\":\"<pad>\"}");
}

static void bad_unigram(void **state)
{
    (void)state;
    plain_config();
    expect(RECO_E_UNSUPPORTED, "no tokenizer: want tokenizer.json, spiece.model or tokenizer.model");
    bad(RECO_OK, UNIGRAM(""), "");
    bad(RECO_OK,
        "\n{ \"model\" : { \"vocab\" : " PIECES
        " , [\"\\u00e9\\ud83d\\ude00\\n\", -0.25E+1] ] , \"type\":\"Unigram\"}," END "}",
        "");
#define MODEL(vocab, more) "{\"model\":{\"type\":\"Unigram\",\"vocab\":" vocab more "}," END "}"
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\",-1e999]]", ""),
        "tokenizer.json: model.vocab[5]: want [\"piece\", score]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\",NaN]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\",\"1\"]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\"]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\",1,2]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[7,1]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",\"b\"]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\",01]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"b\",1.]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"\xff\",1]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"\\ud800\",1]]", ""), "model.vocab[5]");
    bad(RECO_OK, MODEL(PIECES ",[\"\\u0000\",1]]", ""), "");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"\\x\",1]]", ""), "model.vocab[5]");
    bad(RECO_E_FORMAT, MODEL(PIECES ",[\"a\",1]]", ""), "model.vocab[5]: the piece occurs twice");
    bad(RECO_E_FORMAT, MODEL(PIECES " [\"b\",1]]", ""), "model.vocab[5]: want a comma or the end");
    bad(RECO_E_FORMAT, MODEL("[]", ""), "model.vocab is empty");
    bad(RECO_E_FORMAT, MODEL("{}", ""), "model.vocab is not a list");
    bad(RECO_E_FORMAT, MODEL("7", ""), "model.vocab is not a list");
    bad(RECO_E_FORMAT, "{\"model\":{\"type\":\"Unigram\"}," END "}", "model.vocab is not a list");
    bad(RECO_E_FORMAT, MODEL(PIECES "]", ",\"unk_id\":5"), "model.unk_id: want a whole number of 0..4");
    bad(RECO_E_FORMAT, MODEL(PIECES "]", ",\"unk_id\":-1"), "model.unk_id");
    bad(RECO_E_FORMAT, MODEL(PIECES "]", ",\"unk_id\":\"2\""), "model.unk_id");
    bad(RECO_E_FORMAT, MODEL(PIECES "]", ",\"byte_fallback\":1"),
        "model.byte_fallback: want true or false");
    bad(RECO_E_UNSUPPORTED, MODEL(PIECES "]", ",\"alpha\":1"), "key 'alpha' is not supported");
    bad(RECO_E_FORMAT, MODEL(PIECES "]", ",\"vocab\":[]"), "uplicate");
    bad(RECO_E_FORMAT, MODEL(PIECES, ""), "tokenizer.json");
    bad(RECO_E_UNSUPPORTED, "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}",
        "model.type is \"WordPiece\", want Unigram or BPE");
    bad(RECO_E_FORMAT, "{}", "has no model");
    bad(RECO_E_FORMAT, "[]", "want a JSON object");
    bad(RECO_E_FORMAT, "{\n\"model\":{\"vocab\":[\n\n],\n]}", "tokenizer.json:5: damaged JSON");
    bad(RECO_E_FORMAT, "", "damaged JSON");
    char deep[420] = "{\"model\":";
    memset(deep + 9, '[', 200);
    memset(deep + 209, ']', 200);
    strcpy(deep + 409, "}");
    bad(RECO_E_FORMAT, deep, "more than 100 levels");
}

static void bad_steps(void **state)
{
    (void)state;
    plain_config();
#define N(step) UNIGRAM(",\"normalizer\":" step)
#define P(step) UNIGRAM(",\"pre_tokenizer\":" step)
    bad(RECO_OK, N("null"), "");
    bad(RECO_OK, N("{\"type\":\"Sequence\",\"normalizers\":[]}"), "");
    bad(RECO_E_UNSUPPORTED, N("{\"type\":\"NFKC\"}"),
        "tokenizer.json: normalizer: type \"NFKC\" is not supported");
    bad(RECO_E_UNSUPPORTED,
        N("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"BertNormalizer\"}]}"),
        "normalizer[1]: type \"BertNormalizer\"");
    bad(RECO_E_UNSUPPORTED,
        N("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\",\"normalizers\":[]}]}"),
        "normalizer[0]");
    bad(RECO_E_FORMAT, N("{\"type\":\"Sequence\"}"), "Sequence needs normalizers");
    bad(RECO_E_FORMAT, N("7"), "normalizer: want an object");
    bad(RECO_E_UNSUPPORTED, N("{\"type\":\"Lowercase\",\"locale\":\"tr\"}"),
        "key 'locale' is not supported");
    bad(RECO_E_FORMAT, N("{\"type\":\"Strip\"}"), "Strip needs");
    bad(RECO_E_FORMAT, N("{\"type\":\"Prepend\"}"), "Prepend needs");
    bad(RECO_E_FORMAT, N("{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}"),
        "Replace needs");
    bad(RECO_E_FORMAT, N("{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"), "Replace needs");
    bad(RECO_E_FORMAT,
        N("{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\",\"Regex\":\"b\"},\"content\":\"\"}"),
        "Replace needs");
#define R(regex) N("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"" regex "\"},\"content\":\" \"}")
    bad(RECO_OK, R("[ab\\\\-]+"), "");
    bad(RECO_OK, R("\\\\s+"), "");
    bad(RECO_E_UNSUPPORTED, R("a|b"), "Replace of the expression 'a|b' is not supported");
    bad(RECO_E_UNSUPPORTED, R("[a-z]"), "'[a-z]'");
    bad(RECO_E_UNSUPPORTED, R("[^a]"), "'[^a]'");
    bad(RECO_E_UNSUPPORTED, R("[\\\\d]"), "'[\\d]'");
    bad(RECO_E_UNSUPPORTED, R("[a]*"), "'[a]*'");
    bad(RECO_E_UNSUPPORTED, R("[]"), "'[]'");
    bad(RECO_E_UNSUPPORTED, R("[a"), "'[a'");
#define MAP(text) N("{\"type\":\"Precompiled\",\"precompiled_charsmap\":" text "}")
    bad(RECO_E_FORMAT, MAP("null"), "Precompiled needs precompiled_charsmap");
    bad(RECO_E_FORMAT, MAP("\"%%%%\""), "precompiled_charsmap is not base64");
    bad(RECO_E_FORMAT, MAP("\"AAA\""), "precompiled_charsmap is not base64");
    bad(RECO_E_FORMAT, MAP("\"A=AA\""), "precompiled_charsmap is not base64");
    bad(RECO_E_FORMAT, MAP("\"\""), "precompiled_charsmap of 0 bytes");
    bad(RECO_E_FORMAT, MAP("\"AAAAAA==\""), "precompiled_charsmap of 4 bytes says 0 are its trie");
    bad(RECO_E_FORMAT, MAP("\"/////w==\""), "precompiled_charsmap of 4 bytes says 4294967295");
    bad(RECO_E_FORMAT, MAP("\"BAAAAAAAAAD/\""), "strings are not UTF-8");
    bad(RECO_OK, MAP("\"BAAAAAAAAAAA\""), "");
    bad(RECO_E_UNSUPPORTED, P("{\"type\":\"ByteLevel\"}"),
        "pre_tokenizer: type \"ByteLevel\" is not supported");
    bad(RECO_E_UNSUPPORTED, P("{\"type\":\"Metaspace\",\"replacement\":\"_\"}"),
        "replacement '_', want U+2581");
#define META "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\""
    bad(RECO_OK, P(META ",\"add_prefix_space\":true}"), "");
    bad(RECO_E_FORMAT, P(META ",\"prepend_scheme\":\"last\"}"), "prepend_scheme \"last\"");
    bad(RECO_E_UNSUPPORTED, P("{\"type\":\"Sequence\",\"pretokenizers\":[" META "}," META "}]}"),
        "pre_tokenizer[1]: Metaspace twice");
    bad(RECO_E_UNSUPPORTED,
        P("{\"type\":\"Sequence\",\"pretokenizers\":[" META "},{\"type\":\"WhitespaceSplit\"}]}"),
        "after Metaspace");
    bad(RECO_E_UNSUPPORTED,
        P("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"}," META
          ",\"prepend_scheme\":\"first\"}]}"),
        "\"first\"");
    bad(RECO_E_UNSUPPORTED,
        P("{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Removed\"}"),
        "Split other than");
}

static void bad_bpe(void **state)
{
    (void)state;
    plain_config();
    bad(RECO_OK, BPE(VOCAB, "[\"a b\"]", ""), "");
    bad(RECO_OK,
        BPE(VOCAB, "[[\"a\",\"b\"]]",
            ",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"dropout\":null"),
        "");
    bad(RECO_OK, BPE(VOCAB, "[]", ""), "");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[\"a b\",\"ab\"]", ""), "tokenizer.json: model.merges[1]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[\"a b c\"]", ""), "model.merges[0]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"a\",\"b\"],\"a b\"]", ""), "model.merges[1]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[\"a b\",[\"a\",\"b\"]]", ""), "model.merges[1]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"a\"]]", ""), "model.merges[0]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"a\",\"b\",\"c\"]]", ""), "model.merges[0]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"a\",7]]", ""), "model.merges[0]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"\",\"b\"]]", ""), "model.merges[0]: want a pair");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"a\",\"c\"]]", ""),
        "model.merges[0]: 'c' of the merge is not in the vocabulary");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[[\"b\",\"a\"]]", ""), "model.merges[0]: 'ba' of the merge");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[\"a b\" \"a b\"]", ""), "model.merges[1]: want a comma");
    bad(RECO_E_FORMAT, BPE(VOCAB, "{}", ""), "model.merges is not a list");
    bad(RECO_E_FORMAT, BPE("[]", "[]", ""), "model.vocab is not an object");
    bad(RECO_E_FORMAT, BPE("{}", "[]", ""), "model.vocab is empty");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,\"b\":2}", "[]", ""), "'b' has the id 2, want a whole number of 0..1");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,\"b\":0}", "[]", ""), "'b' has the id 0, which another token has too");
    bad(RECO_E_FORMAT, BPE("{\"a:\":0,\"b\":2}", "[]", ""), "'b' has the id 2, which leaves a hole");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,\"b\":0.5}", "[]", ""), "'b' has the id 0.5");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,\"b\":-1}", "[]", ""), "'b' has the id -1");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,\"a\":1}", "[]", ""), "'a' occurs twice");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,\"b\":\"1\"}", "[]", ""), "model.vocab[1]");
    bad(RECO_E_FORMAT, BPE("{\"a\":0,}", "[]", ""), "model.vocab[1]");
    bad(RECO_E_FORMAT, BPE(VOCAB, "[]", ",\"unk_token\":\"?\""), "model.unk_token");
    bad(RECO_E_UNSUPPORTED, BPE(VOCAB, "[]", ",\"ignore_merges\":true"), "model.ignore_merges is set");
    bad(RECO_E_UNSUPPORTED, BPE(VOCAB, "[]", ",\"dropout\":0.1"), "model.dropout is set");
    bad(RECO_E_UNSUPPORTED, BPE(VOCAB, "[]", ",\"continuing_subword_prefix\":\"##\""),
        "model.continuing_subword_prefix is set");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"T5Tokenizer\"}");
    bad(RECO_E_UNSUPPORTED, BPE(VOCAB, "[]", ""), "model.type is BPE, which does not fit tokenizer_class");
}

static void bad_rest(void **state)
{
    (void)state;
    plain_config();
#define A(list) UNIGRAM(",\"added_tokens\":" list)
    bad(RECO_OK, A("[{\"id\":3,\"content\":\"a\",\"normalized\":true},{\"id\":5,\"content\":\"x\"}]"), "");
    bad(RECO_E_FORMAT, A("{}"), "added_tokens is not a list");
    bad(RECO_E_FORMAT, A("[7]"), "added_tokens[0] lacks content or id");
    bad(RECO_E_FORMAT, A("[{\"id\":9,\"content\":\"\"}]"), "added_tokens[0] lacks content or id");
    bad(RECO_E_FORMAT, A("[{\"id\":4294967297,\"content\":\"x\"}]"), "added_tokens[0] lacks content or id");
    bad(RECO_E_FORMAT, A("[{\"id\":4,\"content\":\"a\"}]"), "'a' has another id in the vocabulary");
    bad(RECO_E_FORMAT, A("[{\"id\":4,\"content\":\"x\"}]"), "'x' has the id of another");
    bad(RECO_E_FORMAT, A("[{\"id\":6,\"content\":\"x\"}]"), "which leaves a hole, want 0..5");
    bad(RECO_E_UNSUPPORTED, A("[{\"id\":5,\"content\":\"x\",\"single_word\":true}]"),
        "added_tokens[0]: single_word");
    bad(RECO_E_UNSUPPORTED, A("[{\"id\":5,\"content\":\"x\",\"odd\":1}]"), "added_tokens[0]: key 'odd'");
    bad(RECO_E_UNSUPPORTED, UNIGRAM(",\"extra\":1"), "key 'extra' is not supported");
#define T(processor)                                                                                       \
    "{\"model\":{\"type\":\"Unigram\",\"vocab\":" PIECES "]},\"post_processor\":" processor "}"
    bad(RECO_E_UNSUPPORTED, T("null"), "post_processor adds no end token");
    bad(RECO_E_UNSUPPORTED, T("{\"type\":\"RobertaProcessing\"}"),
        "post_processor: type \"RobertaProcessing\"");
    bad(RECO_E_UNSUPPORTED, T("{\"type\":\"TemplateProcessing\",\"single\":[]}"), "post_processor.single");
    bad(RECO_E_FORMAT,
        T("{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}},{\"SpecialToken\":{\"id\":\"x\"}}"
          "]}"),
        "post_processor.special_tokens");
    bad(RECO_E_FORMAT,
        T("{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}},{\"SpecialToken\":{\"id\":\"x\"}}"
          "],"
          "\"special_tokens\":{\"x\":{\"ids\":[5]}}}"),
        "post_processor has an id that is not in the vocabulary");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"BertTokenizer\"}");
    expect(RECO_E_UNSUPPORTED, "tokenizer_config.json: tokenizer_class \"BertTokenizer\", want");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"TokenizersBackend\"}");
    bad(RECO_E_FORMAT, UNIGRAM(""), "pad_token '' is not in the vocabulary");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"T5Tokenizer\",\"eos_token\":\"</e>\"}");
    expect(RECO_E_FORMAT, "eos_token '</e>' is not in the vocabulary");
    put("tokenizer_config.json",
        "{\"tokenizer_class\":\"TokenizersBackend\",\"split_special_tokens\":true}");
    expect(RECO_E_UNSUPPORTED, "tokenizer_config.json: split_special_tokens");
    put("tokenizer_config.json", "{");
    expect(RECO_E_FORMAT, "tokenizer_config.json");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"T5Tokenizer\"}");
    put("tokenizer.json", NULL);
    put("spiece.model", "no model");
    expect(RECO_E_FORMAT, "spiece.model: not a SentencePiece model");
    put("spiece.model", NULL);
}

/* The side of the pads is the configuration's, or Gemma's own. */
static void sides(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "{\"tokenizer_class\":\"GemmaTokenizer\"}",
        "{\"tokenizer_class\":\"GemmaTokenizer\",\"padding_side\":\"right\"}",
        "{\"tokenizer_class\":\"TokenizersBackend\",\"pad_token\":\"<pad>\"}",
        "{\"tokenizer_class\":\"TokenizersBackend\",\"pad_token\":\"<pad>\",\"padding_side\":\"left\"}"};
    put("tokenizer.json", BPE(VOCAB, "[\"a b\"]", ""));
    for (int i = 0; i < 4; i++) {
        reco_tokenizer *tok;
        put("tokenizer_config.json", configs[i]);
        assert_int_equal(reco_tokenizer_hub(ctx, &tok, folder, RECO_TEXT_HF), RECO_OK);
        assert_int_equal(reco_tokenizer_get_info(tok)->pads_left, i == 0 || i == 3);
        reco_tokenizer_close(tok);
    }
}

/* SiglipTokenizer's cleaning goes before whatever the file does: U+2581 is a space, punctuation goes, the last sigma of a
 * word has a form of its own. */
static void siglip(void **state)
{
    (void)state;
    static const char text[] = "\xe2\x96\x81\xce\xa3\xce\xa3,!\xe2\x96\x81 a</s>";
    static const int32_t want[] = {6, 5, 2, 3, 1};
    reco_tokenizer *tok;
    int32_t got[8];
    size_t n;
    put("tokenizer_config.json", "{\"tokenizer_class\":\"SiglipTokenizer\"}");
    put("tokenizer.json", MODEL(PIECES ",[\"\xcf\x82\",-1],[\"\xcf\x83\",-1]]", ",\"unk_id\":2"));
    assert_int_equal(reco_tokenizer_hub(ctx, &tok, folder, RECO_TEXT_HF), RECO_OK);
    assert_int_equal(reco_tokenizer_encode(ctx, tok, text, sizeof text - 1, got, 8, &n, NULL), RECO_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(reco_tokenizer_get_info(tok)->pad, 1);
    reco_tokenizer_close(tok);
}

/* A megabyte that is one word must not take time with its square. */
static void huge(void **state)
{
    (void)state;
    static const char *const names[] = {"hub/t5", "hub/plain", "hub/gemma", "hub/siglip2"};
    static const char *const units[] = {"ab",       "\xe2\x96\x81", "</s>",     "\xef\xb7\xba",
                                        "\xcc\x81", "\xff",         "e\xcc\x81"};
    size_t most = 1 << 20, n;
    char *text = malloc(most);
    int32_t *out = malloc(65536 * sizeof *out);
    for (size_t f = 0; f < 4; f++) {
        reco_tokenizer *tok = golden(names[f], RECO_TEXT_HF);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            for (size_t i = 0; i < most; i++) text[i] = units[u][i % strlen(units[u])];
            clock_t start = clock();
            if (reco_tokenizer_encode(ctx, tok, text, most, out, 65536, &n, NULL) != RECO_OK)
                fail_msg("%s", reco_ctx_error(ctx));
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (seconds > 20) fail_msg("%s: a megabyte of '%s' took %.1f s", names[f], units[u], seconds);
            assert_int_equal(out[n - 1], 1);
        }
        reco_tokenizer_close(tok);
    }
    free(out);
    free(text);
}

static int make(void **state)
{
    (void)state;
    return !mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK;
}

static int drop(void **state)
{
    (void)state;
    put("tokenizer.json", NULL);
    put("tokenizer_config.json", NULL);
    reco_ctx_free(ctx);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids),       cmocka_unit_test(info),    cmocka_unit_test(bad_unigram),
        cmocka_unit_test(bad_steps), cmocka_unit_test(bad_bpe), cmocka_unit_test(bad_rest),
        cmocka_unit_test(sides),     cmocka_unit_test(siglip),  cmocka_unit_test(huge)};
    return cmocka_run_group_tests(tests, make, drop);
}
