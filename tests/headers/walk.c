/* A walk through the library with the installed headers alone, as a program outside of this project would call it: pictures and
 * pairs to embeddings, banks and back, queries from files, labels, a study. What each function computes is tested elsewhere; here it
 * is called, does what its header says in the plain case, and refuses a wrong one. */
#include "reco/reco.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 12, W = 20, H = 17, ROW = (3 * W + 3) / 4 * 4, BMP = 54 + ROW * H, D = 16 };

#define ok(call) expect(RECO_OK, call)
#define expect(status, call)                                                                               \
    do {                                                                                                   \
        reco_status got_ = (call);                                                                         \
        if (got_ != (status))                                                                              \
            fail_msg("%s: %s \"%s\", want %s", #call, reco_status_name(got_), reco_ctx_error(ctx),         \
                     reco_status_name(status));                                                            \
    } while (0)

static reco_ctx *ctx;
static reco_model *model;
static char folder[64];
static uint8_t rgb[N][H][W][3], bmp[N][BMP];

/* FOLDER/name; good until the eighth next call. */
static const char *in(const char *name)
{
    static char paths[8][200];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", folder, name);
    return paths[turn];
}

static void draw(int n)
{
    uint8_t *b = bmp[n];
    memcpy(b, "BM", 2);
    b[2] = BMP & 255, b[3] = BMP >> 8, b[10] = 54, b[14] = 40, b[18] = W, b[22] = H, b[26] = 1, b[28] = 24;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                rgb[n][y][x][c] = b[54 + ROW * (H - 1 - y) + 3 * x + 2 - c] =
                    (uint8_t)(17 * n * (c + 1) + x * (n + 3) + 5 * y);
}

static void write_text(const char *name, const char *head, const char *each)
{
    FILE *file = fopen(in(name), "w");
    assert_non_null(file);
    fputs(head, file);
    for (int i = 0; i < N; i++) {
        for (const char *c = each; *c; c++)
            if (*c == '#')
                fprintf(file, "%02d", i);
            else
                fputc(*c, file);
    }
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    (void)state;
    char path[1024], command[2048];
    const char *source = getenv("RECO_TEST_SOURCE");
    strcpy(folder, "/tmp/reco-walk-XXXXXX");
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}) != RECO_OK) return 1;
    snprintf(command, sizeof command, "cd %s && mkdir -p pics set/test", folder);
    if (system(command)) return 1;
    for (int i = 0; i < N; i++) {
        draw(i);
        snprintf(path, sizeof path, "%s/pics/%02d.bmp", folder, i);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(bmp[i], BMP, 1, file) != 1 || fclose(file)) return 1;
    }
    write_text("pairs.csv", "image,text,number\n", "pics/#.bmp,thing #,#\n");
    write_text("new.csv", "image,text,number\n", "pics/#.bmp,object #,#\n");
    write_text("texts", "", "thing #\n");
    write_text("queries.csv", "image,label\n", "pics/#.bmp,thing #\n");
    write_text("labels", "", "#\n");
    write_text("study.toml",
               "classes = \"texts\"\nbank = \"pairs.csv\"\nqueries = \"queries.csv\"\nseeds = "
               "[0]\n[rows]\ncontrols = [\"mean\"]\n",
               "");
    snprintf(path, sizeof path, "%s/tests/golden/small/hf-quickgelu", source ? source : ".");
    snprintf(command, sizeof command,
             "cd %s && sed -i '1i model = \"%s\"' study.toml && cd pics && for i in *.bmp; do printf "
             "'sample %%s' ${i%%.bmp} > ${i%%.bmp}.txt; "
             "printf 0 > ${i%%.bmp}.cls; done && tar cf ../pairs.tar $(ls *.bmp *.txt) && tar cf "
             "../set/test/0.tar $(ls *.bmp *.cls) && rm *.txt *.cls && printf 1 > ../set/test/nshards.txt",
             folder, path);
    if (system(command)) return 1;
    return (int)reco_model_open(ctx, &model, path, &(reco_model_opts){.precision = RECO_PRECISION_F32});
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

static void pictures(void **state)
{
    (void)state;
    const reco_preprocess *pre = &reco_model_get_info(model)->preprocess;
    const size_t R = reco_model_get_info(model)->image_size;
    static uint8_t a[3 * 64 * 64], b[3 * 64 * 64];
    static float x[3 * 64 * 64], y[3 * 64 * 64];
    size_t width, height, n, errors;
    char **paths;
    assert_true(R <= 64);
    ok(reco_image_size(ctx, "it", bmp[3], BMP, NULL, 0, &width, &height));
    assert_true(width == W && height == H);
    expect(RECO_E_FORMAT, reco_image_size(ctx, "it", "no picture", 10, NULL, 0, &width, &height));
    ok(reco_image_decode_rgb(ctx, a, "it", bmp[3], BMP, pre, NULL));
    ok(reco_image_shape_rgb(ctx, b, "it", &rgb[3][0][0][0], H, W, pre, NULL));
    assert_memory_equal(a, b, 3 * R * R);
    ok(reco_model_pixels_of(ctx, model, "it", bmp[3], BMP, NULL, x));
    ok(reco_model_pixels_rgb(ctx, model, "it", &rgb[3][0][0][0], H, W, NULL, y));
    assert_memory_equal(x, y, 3 * R * R * sizeof *x);
    expect(RECO_E_FORMAT, reco_model_pixels_rgb(ctx, model, "it", &rgb[3][0][0][0], 0, W, NULL, y));
    ok(reco_list_pictures(ctx, in("pics"), &paths, &n));
    assert_int_equal(n, N);
    reco_lines_free(paths, n);
    for (size_t i = 0; i < reco_model_guesses(model); i++) assert_non_null(reco_model_guess(model, i));
    assert_null(reco_model_guess(model, reco_model_guesses(model)));
    char *text = reco_text_repair("a\xff", 2, &errors);
    assert_string_equal(text, "a\xef\xbf\xbd");
    assert_int_equal(errors, 1);
    reco_free(text);
    assert_true(reco_mixture_votes(&(reco_mixture){.clip = 0.5f, .scale = {1}}) &&
                !reco_mixture_votes(&(reco_mixture){.clip = 1, .scale = {1}}));
}

/* Embeddings of both sides, and what is made of them. */
static void embeddings(void **state)
{
    (void)state;
    reco_stream_result r;
    reco_check_result checked;
    reco_folder_opts opts = {.embed.batch = 5};
    ok(reco_embed_images(ctx, model, in("pics"), in("emb"), &opts, &r));
    assert_true(r.rows == N && r.failures == 0);
    ok(reco_embed_texts(ctx, model, in("texts"), in("emb"), NULL, &r));
    assert_int_equal(r.rows, N);
    opts.shard = (reco_shard){3, 2};
    expect(RECO_E_ARG, reco_embed_images(ctx, model, in("pics"), in("emb2"), &opts, &r));
    ok(reco_check_model(ctx, model, in("pics"), in("texts"), in("check"), NULL, &checked));
    assert_true(checked.images == N && checked.texts == N);

    reco_query_set set;
    ok(reco_query_set_load(ctx, &set, in("emb"), RECO_IMAGE, NULL));
    assert_true(set.n == N && set.d == D && set.rows[RECO_IMAGE] && set.rows[RECO_TEXT]);
    reco_query_set_free(&set);
    ok(reco_query_set_read(ctx, &set, model, in("set"), 0, NULL, NULL));
    assert_true(set.n == N && !strcmp(set.values[RECO_QUERY_LABEL][0], "0"));
    reco_query_set_free(&set);
    reco_pair_set pairs;
    ok(reco_pair_set_load(ctx, &pairs, in("emb")));
    assert_true(pairs.n == N && pairs.d == D && pairs.captions[0] != pairs.captions[1]);
    reco_pair_set_free(&pairs);
    char **labels;
    size_t n;
    ok(reco_read_labels(ctx, in("labels"), NULL, &labels, &n));
    assert_true(n == N && strcmp(labels[7], "07") == 0);
    reco_lines_free(labels, n);
}

static int64_t rows_of(const char *path)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    int64_t rows = reco_bank_get_info(bank)->rows;
    reco_bank_close(bank);
    return rows;
}

static void banks(void **state)
{
    (void)state;
    reco_stream_result r;
    reco_search_result searched;
    reco_bank *bank;
    uint64_t rows;
    const char *tar = in("pairs.tar");
    const reco_ingest_opts opts = {.embed.batch = 7};
    ok(reco_bank_ingest_pairs(ctx, model, in("pairs.csv"), in("bank"), 1, &opts, &r));
    assert_true(r.rows == N && rows_of(in("bank")) == N);
    ok(reco_bank_update_pairs(ctx, model, in("new.csv"), in("bank"), NULL, NULL, &r));
    assert_true(r.changed == N && rows_of(in("bank")) == N);
    ok(reco_bank_ingest_tars(ctx, model, &tar, 1, in("tars.bank"), 1, NULL, &r));
    assert_int_equal(r.rows, N);
    ok(reco_bank_ingest_embeddings(ctx, NULL, in("emb"), in("emb.bank"), 1, NULL, &r));
    assert_int_equal(r.rows, N);

    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("none.bank"), &(reco_bank_spec){.d = 4}, "", &next, &done));
    ok(reco_bank_writer_discard(ctx, w));
    assert_int_equal(access(in("none.bank"), F_OK), -1);

    ok(reco_bank_open_with(ctx, &bank, in("bank"), NULL));
    assert_int_equal(reco_bank_shards_failed(bank), 0);
    assert_null(reco_bank_missing_shard(bank, 0));
    reco_recall_point point;
    assert_int_equal(reco_bank_recall_table(bank, RECO_IMAGE, RECO_ASKED_IMAGE, &point, 1), 0);
    assert_true(reco_bank_is_server("postgresql://localhost/x") && !reco_bank_is_server(in("bank")));
    ok(reco_check_embeddings(ctx, in("emb"), NULL, bank, NULL));
    expect(RECO_E_MISMATCH, reco_check_embeddings(ctx, in("texts"), "another", bank, NULL));
    ok(reco_bank_export(ctx, bank, in("export"), "id < 5", &rows));
    assert_int_equal(rows, 5);
    expect(RECO_E_EXISTS, reco_bank_export(ctx, bank, in("export"), NULL, &rows));
    ok(reco_bank_export_pairs(ctx, bank, in("export.jsonl"), NULL, &rows));
    assert_int_equal(rows, N);

    reco_fusion *fusion;
    ok(reco_fusion_open(ctx, &fusion, "mean", D, 3));
    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    reco_refine_opts how = RECO_REFINE_OPTS_INIT;
    ok(reco_refine_folder(ctx, &memory, in("emb"), in("refined"), NULL, &r));
    how.concat = 2;
    expect(RECO_E_ARG, reco_refine_folder(ctx, &memory, in("emb"), in("refined"), &how, &r));
    reco_search_file_opts find = RECO_SEARCH_FILE_OPTS_INIT;
    find.find.k = 2;
    ok(reco_search_file(ctx, &memory, RECO_IMAGE, in("emb/img_emb/img_emb_0.npy"), in("hits"), &find,
                        &searched));
    assert_true(searched.queries == N && searched.failures == 0);
    reco_fusion_free(fusion);
    reco_bank_close(bank);
}

/* What a newer program asks for is refused, whatever it is asked with. */
#define newer(object, call)                                                                                \
    do {                                                                                                   \
        const size_t last = sizeof(object).reserved / sizeof *(object).reserved - 1;                       \
        char says[40];                                                                                     \
        snprintf(says, sizeof says, "reserved[%zu] = 1, want 0", last);                                    \
        (object).reserved[last] = 1;                                                                       \
        expect(RECO_E_ARG, call);                                                                          \
        assert_non_null(strstr(reco_ctx_error(ctx), says));                                                \
        (object).reserved[last] = 0;                                                                       \
        ok(call);                                                                                          \
    } while (0)

static void reserved(void **state)
{
    (void)state;
    reco_bank *bank;
    reco_fusion *fusion;
    reco_classifier *classifier = NULL;
    reco_findings findings;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    ok(reco_fusion_open(ctx, &fusion, "mean", D, 3));
    float x[N * D], t[N * D], p[N], scores[N], rows[D];
    int64_t ids[N];
    uint32_t of[N];
    size_t count;
    for (int64_t i = 0; i < N; i++) {
        ok(reco_bank_gather(ctx, bank, RECO_IMAGE, &i, 1, x + i * D));
        ok(reco_bank_gather(ctx, bank, RECO_TEXT, &i, 1, t + i * D));
        of[i] = (uint32_t)i;
    }
    reco_hits hits = {.ids = ids, .scores = scores, .counts = &count};
    reco_search_opts search = RECO_SEARCH_OPTS_INIT;
    search.k = 3;
    newer(hits, reco_bank_search(ctx, bank, RECO_IMAGE, x, 1, &search, &hits));
    newer(hits, reco_search_distinct(ctx, bank, RECO_IMAGE, x, 1, &search, &hits));
    reco_range range = {.query = x, .max = N};
    newer(range, reco_bank_within(ctx, bank, &range, &hits));

    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.sides = RECO_SIDES_BOTH;
    reco_question question = {.x = x, .n = 1};
    reco_refined refined = {.rows = rows, .hits = hits};
    newer(memory, reco_refine(ctx, &memory, &question, &refined));
    newer(question, reco_refine(ctx, &memory, &question, &refined));
    newer(refined, reco_refine(ctx, &memory, &question, &refined));
    newer(refined.hits, reco_refine(ctx, &memory, &question, &refined));
    reco_find_opts find = RECO_FIND_OPTS_INIT;
    reco_answer answer = {.ids = ids, .scores = scores};
    newer(memory, reco_ask(ctx, &memory, &question, &find, &answer));
    newer(question, reco_ask(ctx, &memory, &question, &find, &answer));
    newer(answer, reco_ask(ctx, &memory, &question, &find, &answer));

    reco_candidates candidates = {.n = N, .d = D, .rows = t};
    newer(memory, (reco_classifier_free(classifier),
                   reco_classifier_create(ctx, &classifier, &memory, &candidates, NULL)));
    newer(candidates, (reco_classifier_free(classifier),
                       reco_classifier_create(ctx, &classifier, &memory, &candidates, NULL)));
    ok(reco_classifier_ask(ctx, classifier, &question, NULL, &findings));
    reco_ranking ranking = {.all = p};
    newer(ranking, reco_classifier_rank(ctx, classifier, &findings, NULL, &ranking));
    refined.rows = NULL;
    newer(refined, reco_classifier_neighbours(ctx, classifier, 0, &refined));
    reco_findings_free(&findings);
    reco_classifier_free(classifier);

    const reco_mixture mixture = {.clip = 0.5f, .scale = {9, 9, 9}};
    const reco_tip tip = {1, 1, 1};
    reco_class_scores scored;
    reco_retrieval_scores recalls;
    reco_votes votes = {.scores = scores, .of = of, .counts = &count, .k = 3};
    newer(votes, reco_mixture_posterior(ctx, &mixture, x, x, &votes, 1, N, p));
    newer(votes, reco_eval_knn(ctx, &scored, NULL, 1, &votes, 1, N, of));
    reco_tip_cache cache = {.images = x, .of = of, .m = N};
    reco_tip_pictures pictures = {.images = x, .labels = of, .n = N, .classes = t, .c = N, .d = D};
    newer(cache, reco_eval_tip(ctx, &scored, NULL, &tip, &cache, &pictures));
    newer(pictures, reco_eval_tip(ctx, &scored, NULL, &tip, &cache, &pictures));
    reco_retrieval_rows retrieval = {
        .images = x, .captions = t, .of = of, .nimages = N, .ncaptions = N, .d = D};
    newer(retrieval, reco_eval_retrieval(ctx, &recalls, NULL, &retrieval, NULL, NULL));
    reco_train_opts training = RECO_TRAIN_OPTS_INIT;
    training.layer = RECO_LAYER_WEIGHTED;
    reco_train_pairs pairs = {.n = N, .image = x, .text = t};
    newer(pairs, reco_train(ctx, bank, &pairs, in("layer"), &training, NULL));
    reco_fusion_free(fusion);
    reco_bank_close(bank);
}

static void study(void **state)
{
    (void)state;
    reco_study *s;
    reco_study_result r;
    size_t n;
    ok(reco_study_open(ctx, &s, in("study.toml")));
    assert_string_equal(reco_study_title(s), "Study");
    assert_int_equal(reco_study_get_plan(s)->rows, 2);
    assert_string_equal(reco_study_get_row(s, 0)->name, "CLIP");
    assert_null(reco_study_get_row(s, 2));
    assert_non_null(reco_study_inputs(s, &n));
    assert_true(n >= 4);
    ok(reco_study_run(ctx, s, in("study"), NULL, &r));
    assert_true(r.queries == N && r.classes == N && r.cells == 2);
    assert_true(reco_study_get_row(s, 1)->mean[RECO_STUDY_ALL] >= 0);
    assert_string_equal(reco_study_metric_name(RECO_STUDY_ALL), "all");
    reco_study_close(s);
    expect(RECO_E_IO, reco_study_open(ctx, &s, in("missing.toml")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pictures), cmocka_unit_test(embeddings),
                                       cmocka_unit_test(banks), cmocka_unit_test(reserved),
                                       cmocka_unit_test(study)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
