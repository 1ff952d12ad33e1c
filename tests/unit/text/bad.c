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
    expect(RECO_E_IO, folder, "want vocab.json and merges.txt, or tokenizer.json");
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
    expect(RECO_E_FORMAT, "vocab.json", "has id 0, which another has too");
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
    expect(RECO_E_FORMAT, "vocab.json", "damaged JSON");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(vocab_and_merges),
                                       cmocka_unit_test(tokenizer_json)};
    return cmocka_run_group_tests(tests, make, drop);
}
