/* Classes and labels, who made embeddings, and where output may go; whole commands are tested in tests/cli. */
#include "clip/clip.h"
#include "pipeline/provenance.h"
#include "query/class_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static reco_ctx *ctx;
static reco_model *model;
static char folder[64];

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static int setup(void **state)
{
    (void)state;
    const char *source = getenv("RECO_TEST_SOURCE");
    char dir[512];
    snprintf(dir, sizeof dir, "%s/tests/golden/small/hf-quickgelu", source ? source : ".");
    snprintf(folder, sizeof folder, "/tmp/reco-classes-XXXXXX");
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    return reco_model_open(ctx, &model, dir, NULL) != RECO_OK;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    reco_model_close(model);
    reco_ctx_free(ctx);
    return system(command);
}

static reco_class_list *read_classes(const char *name, const char *text, size_t bytes, reco_status want)
{
    char *path = reco_path_join(ctx, folder, name);
    reco_class_list *list = NULL;
    good(reco_write_file(ctx, path, text, bytes));
    assert_int_equal(reco_class_list_read(ctx, &list, path), want);
    reco_free(path);
    return list;
}

static void test_files(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *first, *key;
        size_t n;
    } cases[] = {{"a.txt", "one\n\n two \r\nthree", "one", NULL, 3},
                 {"a.txt", "\xef\xbb\xbfone\n", "one", NULL, 1},
                 {"a.txt", "0 one\n1 two\n", "one", "0", 2},
                 {"a.txt", "0 one\n2 two\n", "0 one", NULL, 2},
                 {"a.txt", "1 euro\n2 euro\n", "1 euro", NULL, 2},
                 {"a.txt", "4\tone\n2\ttwo\n", "one", "4", 2},
                 {"a.txt", "4: one\n2: two\n", "one", "4", 2},
                 {"a.txt", "1.5 litres\n2.5 litres\n", "1.5 litres", NULL, 2},
                 {"a.txt", "1,000 things\n2,000 things\n", "1,000 things", NULL, 2},
                 {"a.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "tench, Tinca tinca",
                  "n01440764", 2},
                 {"a.txt", "one\twhat it is\ntwo\n", "one", NULL, 2},
                 {"a.txt", "7\n8\n9\n", "7", NULL, 3},
                 {"a.csv", "id,name\n7,one\n9,two\n", "one", "7", 2},
                 {"a.csv", "class,note\none,x\ntwo,y\n", "one", NULL, 2},
                 {"a.csv", "one\ntwo\n", "one", NULL, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reco_class_list *list = read_classes(cases[i].name, cases[i].text, strlen(cases[i].text), RECO_OK);
        good(reco_class_list_settle(ctx, list, model, 0));
        assert_int_equal(reco_class_list_count(list), cases[i].n);
        assert_string_equal(reco_class_list_names(list)[0], cases[i].first);
        assert_true((list->keys != NULL) == (cases[i].key != NULL));
        if (cases[i].key) assert_string_equal(list->keys[0], cases[i].key);
        reco_class_list_free(list);
    }
}

static void test_bad_files(void **state)
{
    (void)state;
    static char longest[RECO_CAPTION_MAX + 2];
    memset(longest, 'a', sizeof longest);
    assert_null(read_classes("b.txt", "", 0, RECO_E_FORMAT));
    assert_null(read_classes("b.txt", "\n \n\t\n", 5, RECO_E_FORMAT));
    assert_null(read_classes("b.txt", "one\ntw\0o\n", 9, RECO_E_FORMAT));
    assert_non_null(strstr(reco_ctx_error(ctx), "b.txt:2: "));
    assert_null(read_classes("b.txt", longest, sizeof longest, RECO_E_FORMAT));
    reco_class_list *list = read_classes("b.txt", "\xff\xfe\x80\n\x01\n", 6, RECO_OK); /* odd, but names */
    reco_class_list_free(list);
    assert_int_equal(reco_class_list_read(ctx, &list, "/no/such/file"), RECO_E_IO);
    assert_int_equal(reco_class_list_folders(ctx, &list, folder), RECO_E_NOTFOUND);
}

static void test_match(void **state)
{
    (void)state;
    reco_class_list *list = read_classes("c.txt", "red disc\nblue_box\nRed Disc\n12\n", 30, RECO_OK);
    assert_int_equal(reco_class_list_settle(ctx, list, model, 0), RECO_E_EXISTS);
    assert_non_null(strstr(reco_ctx_error(ctx), "lines 1 and 3"));
    reco_class_list_free(list);
    list = read_classes("c.txt", "red disc\nblue_box\nRed Disc\n12\n", 30, RECO_OK);
    good(reco_class_list_settle(ctx, list, model, 1));
    assert_int_equal(reco_class_list_count(list), 3);
    assert_int_equal(reco_class_list_merged(list), 1);
    static const char *const names[] = {"Red Disc", " red  disc", "blue box", "BLUE-BOX", "12", "13"},
                             *const numbers[] = {"0", "2", "3.0", "4", "001"};
    uint32_t classes[6];
    const char *how;
    good(reco_class_list_match(ctx, list, model, names, 6, 0, classes, &how));
    assert_string_equal(how, "names");
    static const uint32_t want[] = {0, 0, 1, 1, 2, RECO_NO_CLASS};
    assert_memory_equal(classes, want, sizeof want);
    good(reco_class_list_match(ctx, list, model, numbers, 5, 0, classes, &how));
    assert_string_equal(how, "numbers");
    static const uint32_t places[] = {0, 0, 2, RECO_NO_CLASS, 1};
    assert_memory_equal(classes, places, sizeof places);
    assert_string_equal(reco_class_list_nearest(list, "blu bocks"), "blue_box");
    reco_class_list_free(list);
    /* Names in memory are what they are in a file: all of them, and the class of each. */
    static const char *const given[] = {"red disc", "blue_box", "Red Disc", "12"};
    static const uint32_t of[] = {0, 1, 0, 2};
    good(reco_class_list_from(ctx, &list, given, 4, "these"));
    good(reco_class_list_settle(ctx, list, NULL, 1));
    assert_int_equal(reco_class_list_count(list), 3);
    assert_memory_equal(reco_class_list_of(list), of, sizeof of);
    for (size_t i = 0; i < 4; i++) assert_string_equal(reco_class_list_entries(list)[i], given[i]);
    assert_string_equal(reco_class_list_texts(list)[2], "12");
    reco_class_list_free(list);
    assert_int_equal(reco_class_list_from(ctx, &list, NULL, 0, "these"), RECO_E_FORMAT);
    assert_non_null(strstr(reco_ctx_error(ctx), "these"));
}

/* Names that the model embeds, some prompts at a time, are what they are as rows that were embedded before; either way captions are
 * known by the names and by what the prompts say. */
static void test_embedded(void **state)
{
    (void)state;
    enum { CLASSES = 3, TEMPLATES = 2, K = 3 };
    static const char *const templates[TEMPLATES] = {"a photo of a {}.", "the {c}"};
    static const char *const captions[] = {"red disc", "a photo of a  Blue Box.", "the 12",
                                           "a 12",     "photo of a 12.",          "THE RED DISC"};
    static const uint32_t want[] = {0, 1, 2, RECO_NO_CLASS, RECO_NO_CLASS, 0, RECO_NO_CLASS, 1};
    size_t d = reco_model_get_info(model)->d, n = sizeof captions / sizeof *captions;
    float *text = calloc((n + TEMPLATES * CLASSES) * d, sizeof *text), *prompts = text + n * d,
          weights[K + 1], scores[2][K];
    uint64_t hashes[2], next, truncated = 7;
    uint32_t classes[8];
    int64_t ids[8] = {0, 1, 2, 3, 4, 5, -1, 1}, near[2][K];
    size_t count[2];
    int done;
    reco_pair pairs[8] = {0};
    reco_bank_writer *writer;
    reco_bank *bank;
    reco_fusion *fusion;
    assert_non_null(text);
    char *path = reco_format(ctx, "%s/said.bank", folder);
    good(reco_model_embed_texts(ctx, model, captions, n, text, NULL));
    for (size_t i = 0; i < n; i++) pairs[i] = (reco_pair){.caption = captions[i]};
    good(reco_bank_writer_open(ctx, &writer, path, &(reco_bank_spec){.d = d}, "test", &next, &done));
    good(reco_bank_append(ctx, writer, text, text, pairs, n));
    good(reco_bank_commit(ctx, writer, n, 1));
    reco_bank_writer_close(writer);
    good(reco_bank_open(ctx, &bank, path));
    good(reco_fusion_open(ctx, &fusion, "mean", d, K));
    reco_class_list *list = read_classes("c.txt", "red disc\nblue box\n12\n", 21, RECO_OK);
    good(reco_class_list_settle(ctx, list, model, 0));
    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    for (size_t m = 0; m <= TEMPLATES; m += TEMPLATES) {
        reco_candidates c = {
            .n = CLASSES, .d = d, .list = list, .model = model, .templates = templates, .m = m};
        reco_classifier *made[2];
        good(reco_classifier_create(ctx, &made[0], &memory, &c, &truncated));
        assert_int_equal(truncated, 0);
        good(reco_embed_prompts(ctx, &c, prompts, NULL));
        c.rows = prompts;
        good(reco_classifier_create(ctx, &made[1], &memory, &c, NULL));
        assert_memory_equal(reco_classifier_plain(made[0]), reco_classifier_plain(made[1]),
                            CLASSES * d * sizeof(float));
        assert_memory_equal(reco_classifier_refined(made[0]), reco_classifier_refined(made[1]),
                            CLASSES * d * sizeof(float));
        assert_true(memcmp(reco_classifier_plain(made[0]), reco_classifier_refined(made[0]),
                           CLASSES * d * sizeof(float)) != 0);
        for (int r = 0; r < 2; r++) {
            good(reco_classifier_votes(ctx, made[r], bank, ids, 8, classes));
            for (size_t i = 0; i < 8; i++) /* without templates names alone */
                assert_int_equal(classes[i], m || i == 0 ? want[i] : RECO_NO_CLASS);
            reco_refined out = {.hits = {.ids = near[r], .scores = scores[r], .counts = &count[r]}};
            good(reco_classifier_neighbours(ctx, made[r], 1, &out));
        }
        assert_true(count[0] == K && count[1] == K);
        assert_memory_equal(near[0], near[1], sizeof near[0]);
        assert_true(scores[0][0] >= scores[0][1] && scores[0][1] >= scores[0][2]);
        if (m) assert_int_equal(near[0][0], 1); /* one of its prompts */
        good(reco_classifier_neighbours(
            ctx, made[0], 1,
            &(reco_refined){.hits = {.ids = near[0], .scores = scores[0], .counts = &count[0]},
                            .weights = weights}));
        assert_true(weights[0] > 0 && weights[1] >= weights[2] && weights[2] >= weights[3]);
        assert_int_equal(
            reco_classifier_neighbours(
                ctx, made[0], CLASSES,
                &(reco_refined){.hits = {.ids = near[0], .scores = scores[0], .counts = &count[0]}}),
            RECO_E_ARG);
        reco_classifier_free(made[0]);
        reco_classifier_free(made[1]);
    }
    static const char *const bad[] = {"no place"};
    reco_classifier *none;
    reco_candidates c = {.n = CLASSES, .d = d, .list = list, .model = model, .templates = bad, .m = 1};
    assert_int_equal(reco_classifier_create(ctx, &none, &memory, &c, NULL), RECO_E_ARG);
    assert_non_null(strstr(reco_ctx_error(ctx), "no place"));
    assert_null(none);
    good(reco_model_hash_tokens(ctx, model, "the 12", &hashes[0]));
    good(reco_model_embed_hashed(ctx, model, (const char *const[]){"THE  12"}, 1, prompts, NULL,
                                 &hashes[1]));
    assert_true(hashes[0] == hashes[1]);
    reco_class_list_free(list);
    reco_fusion_free(fusion);
    reco_bank_close(bank);
    reco_free(path);
    free(text);
}

static void test_encoders(void **state)
{
    (void)state;
    assert_true(reco_encoder_matches("a", "11", "b", "11"));
    assert_false(reco_encoder_matches("a", "11", "a", "22"));
    assert_true(reco_encoder_matches("ViT", "", "vit", "22"));
    assert_false(reco_encoder_matches("a", "", "b", "22"));
    assert_true(reco_encoder_matches("", "", "b", "22"));
    reco_provenance p = {.found = true,
                         .encoder = "na\xc3\xafve",
                         .fingerprint = "11",
                         .logit_scale = 7,
                         .d = 5,
                         .sides = 2,
                         .precision = {"", "bf16"}},
                    q;
    good(reco_provenance_write(ctx, folder, &p));
    good(reco_provenance_read(ctx, folder, &q));
    assert_string_equal(q.encoder, p.encoder);
    assert_string_equal(q.precision[1], "bf16");
    assert_true(q.found && !q.exported && q.sides == 2 && q.d == 5);
    assert_int_equal(reco_provenance_of(ctx, folder, "another", &q), RECO_E_MISMATCH);
    memset(p.encoder, 0, sizeof p.encoder);
    memset(p.fingerprint, 0, sizeof p.fingerprint);
    p.exported = true;
    good(reco_provenance_write(ctx, folder, &p));
    good(reco_provenance_of(ctx, folder, "another", &q));
    assert_true(q.exported && strcmp(q.encoder, "another") == 0);
    p.found = false;
    good(reco_provenance_write(ctx, folder, &p));
    good(reco_provenance_of(ctx, folder, "another", &q));
    assert_string_equal(q.encoder, "another");
}

static void test_outputs(void **state)
{
    (void)state;
    char *in = reco_path_join(ctx, folder, "in"), *link = reco_path_join(ctx, folder, "link"),
         *within = reco_path_join(ctx, folder, "link/new/deeper"),
         *beside = reco_path_join(ctx, folder, "in2/x"), *file = reco_path_join(ctx, folder, "in/f");
    const char *const inputs[] = {NULL, in, "/no/such/thing"};
    good(reco_mkdirs(ctx, in));
    assert_int_equal(symlink(in, link), 0);
    good(reco_write_file(ctx, file, "x", 1));
    assert_int_equal(reco_check_output(ctx, in, RECO_OUT_FOLDER, inputs, 3), RECO_E_EXISTS);
    assert_int_equal(reco_check_output(ctx, link, RECO_OUT_FOLDER, inputs, 3), RECO_E_EXISTS);
    assert_int_equal(reco_check_output(ctx, within, RECO_OUT_FOLDER, inputs, 3), RECO_E_EXISTS);
    assert_int_equal(reco_check_output(ctx, link, RECO_OUT_FOLDER | RECO_OUT_WITHIN, inputs, 3),
                     RECO_E_EXISTS);
    good(reco_check_output(ctx, within, RECO_OUT_FOLDER | RECO_OUT_WITHIN, inputs, 3));
    good(reco_check_output(ctx, beside, RECO_OUT_FOLDER, inputs, 3));
    assert_int_equal(reco_check_output(ctx, file, RECO_OUT_FOLDER, NULL, 0), RECO_E_IO);
    assert_int_equal(reco_check_output(ctx, in, RECO_OUT_FILE, NULL, 0), RECO_E_IO);
    assert_false(reco_path_exists(beside));
    reco_free(in);
    reco_free(link);
    reco_free(within);
    reco_free(beside);
    reco_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files),    cmocka_unit_test(test_bad_files),
                                       cmocka_unit_test(test_match),    cmocka_unit_test(test_embedded),
                                       cmocka_unit_test(test_encoders), cmocka_unit_test(test_outputs)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
