/* clip-retrieval's layout. */
#include "fixture.h"
#include "io/embeddings.h"

/* rows x cols of first, first + 1, ... */
static void array(const char *name, reco_dtype dtype, size_t rows, size_t cols, float first)
{
    float x[64];
    uint16_t half[64];
    assert_true(rows * cols <= 64);
    for (size_t i = 0; i < rows * cols; i++) x[i] = first + (float)i;
    reco_f32_to_f16_n(half, x, rows * cols);
    char *dir = reco_path_dir(ctx, at(name));
    OK(reco_mkdirs(ctx, dir));
    reco_free(dir);
    const void *data = dtype == RECO_DTYPE_F16 ? (const void *)half : x;
    OK(reco_npy_write(ctx, at(name), dtype, 2, (const size_t[]){rows, cols}, data));
}

static void text(const char *name, const char *content)
{
    char *dir = reco_path_dir(ctx, at(name));
    OK(reco_mkdirs(ctx, dir));
    reco_free(dir);
    put_text(name, content);
}

static void is_next(reco_embeddings *e, bool is_row, uint64_t want)
{
    json_t *row;
    uint64_t number;
    const char *bad;
    OK(reco_embeddings_next(ctx, e, &row, &number, &bad));
    assert_int_equal(is_row, row != NULL || bad != NULL);
    if (row) assert_int_equal(json_integer_value(json_object_get(row, "n")), want);
    if (is_row) assert_int_equal(number, want);
    json_decref(row);
}

static void test_parts(void **state)
{
    (void)state;
    array("two/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 3, 2, 0);
    array("two/img_emb/img_emb_1.npy", RECO_DTYPE_F16, 2, 2, 6);
    array("two/img_emb/img_emb_2.npy", RECO_DTYPE_F16, 0, 2, 6);
    array("two/img_emb/img_emb_3.npy", RECO_DTYPE_F16, 1, 2, 10);
    array("two/text_emb/text_emb_00.npy", RECO_DTYPE_F16, 3, 2, 100);
    array("two/text_emb/text_emb_01.npy", RECO_DTYPE_F32, 2, 2, 106);
    array("two/text_emb/text_emb_02.npy", RECO_DTYPE_F32, 0, 2, 106);
    array("two/text_emb/text_emb_03.npy", RECO_DTYPE_F32, 1, 2, 110);
    text("two/img_emb/notes.txt", "");
    text("two/metadata/metadata_0.jsonl", "{\"n\":0}\n{\"n\":\n{\"n\":2}\n");
    text("two/metadata/metadata_0.csv", "not,this\n");
    text("two/metadata/metadata_1.jsonl", "{\"n\":3}\n{\"n\":4}");
    text("two/metadata/metadata_2.jsonl", "");
    text("two/metadata/metadata_3.jsonl", "");
    reco_embeddings *e;
    OK(reco_embeddings_open(ctx, &e, at("two")));
    assert_int_equal(reco_embeddings_rows(e), 6);
    assert_int_equal(reco_embeddings_width(e), 2);
    assert_int_equal(reco_embeddings_dtype(e), RECO_DTYPE_F32);
    assert_true(reco_embeddings_has(e, RECO_IMAGE) && reco_embeddings_has(e, RECO_TEXT));
    assert_true(reco_embeddings_has_metadata(e));
    float x[12];
    for (size_t from = 0; from <= 6; from++)
        for (size_t n = 0; n <= 6 - from; n++)
            for (int side = 0; side < 2; side++) {
                OK(reco_embeddings_read(ctx, e, (reco_side)side, from, n, x));
                for (size_t i = 0; i < 2 * n; i++)
                    assert_true(x[i] == (float)(100 * (size_t)side + 2 * from + i));
            }
    failed(reco_embeddings_read(ctx, e, RECO_TEXT, 5, 2, x), RECO_E_ARG, "2 rows from 5, want within 6");
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 5; i++) is_next(e, true, i); /* 1 is damaged, and counted */
        is_next(e, false, 0);
        is_next(e, false, 0);
        OK(reco_embeddings_rewind(ctx, e));
    }
    is_next(e, true, 0);
    reco_embeddings_close(e);
    reco_embeddings_close(NULL);
}

static void test_many_parts(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < 12; i++) { /* as text, 10 is before 2 */
        snprintf(name, sizeof name, "many/text_emb/text_emb_%d.npy", i);
        array(name, RECO_DTYPE_F16, 1, 1, (float)i);
    }
    text("many/metadata/metadata_0.parquet", "PAR1");
    reco_embeddings *e;
    logged[0] = 0;
    OK(reco_embeddings_open(ctx, &e, at("many")));
    failed(reco_embeddings_need_metadata(ctx, e), RECO_E_UNSUPPORTED,
           "many/metadata/metadata_0.parquet: parquet is not read");
    float x[12];
    OK(reco_embeddings_read(ctx, e, RECO_TEXT, 0, 12, x));
    for (int i = 0; i < 12; i++) assert_true(x[i] == (float)i);
    failed(reco_embeddings_read(ctx, e, RECO_IMAGE, 0, 1, x), RECO_E_NOTFOUND, "many: has no img_emb");
    assert_false(reco_embeddings_has(e, RECO_IMAGE));
    assert_false(reco_embeddings_has_metadata(e));
    assert_int_equal(reco_embeddings_dtype(e), RECO_DTYPE_F16);
    is_next(e, false, 0);
    reco_embeddings_close(e);
}

static void refuse(const char *dir, reco_status status, const char *why)
{
    reco_embeddings *e;
    failed(reco_embeddings_open(ctx, &e, at(dir)), status, why);
    assert_null(e);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("none", RECO_E_IO, "none: is not a folder");
    OK(reco_mkdirs(ctx, at("bare/img_emb")));
    refuse("bare", RECO_E_NOTFOUND, "bare: has neither img_emb/img_emb_0.npy nor text_emb/text_emb_0.npy");
    array("hole/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 1, 2, 0);
    array("hole/img_emb/img_emb_2.npy", RECO_DTYPE_F16, 1, 2, 0);
    array("hole/img_emb/img_emb_6.npy", RECO_DTYPE_F16, 1, 2, 0);
    text("hole/metadata/metadata_0.jsonl", "{\"n\":0}\n");
    text("hole/metadata/metadata_6.jsonl", "{\"n\":2}\n");
    text("hole/metadata/metadata_8.jsonl", "{\"n\":2}\n");
    reco_embeddings *e;
    const char *const *holes;
    OK(reco_embeddings_open(ctx, &e, at("hole")));
    assert_int_equal(reco_embeddings_rows(e), 3);
    assert_int_equal(reco_embeddings_holes(e, &holes), 3);
    assert_non_null(strstr(holes[0], "hole: part 1 is missing"));
    assert_non_null(strstr(holes[1], "hole: parts 3 to 5 are missing"));
    assert_non_null(strstr(holes[2], "metadata_8.jsonl has no embeddings"));
    is_next(e, true, 0);
    json_t *row;
    uint64_t number;
    const char *bad;
    OK(reco_embeddings_next(ctx, e, &row, &number,
                            &bad)); /* part 2 has no metadata: the next is not shifted */
    assert_true(!row && bad && number == 1);
    is_next(e, true, 2);
    is_next(e, false, 0);
    reco_embeddings_close(e);
    array("same/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 1, 2, 0);
    array("same/img_emb/img_emb_00.npy", RECO_DTYPE_F16, 1, 2, 0);
    refuse("same", RECO_E_FORMAT, "both are part 0");
    array("rows/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 2, 2, 0);
    array("rows/text_emb/text_emb_0.npy", RECO_DTYPE_F16, 3, 2, 0);
    refuse("rows", RECO_E_FORMAT, "img_emb_0.npy has 2 rows, ");
    array("cols/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 2, 2, 0);
    array("cols/text_emb/text_emb_0.npy", RECO_DTYPE_F16, 2, 3, 0);
    refuse("cols", RECO_E_FORMAT, "text_emb_0.npy: rows have 3 columns, want 2 as in ");
    array("uneven/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 2, 2, 0);
    array("uneven/img_emb/img_emb_1.npy", RECO_DTYPE_F16, 2, 2, 0);
    array("uneven/text_emb/text_emb_0.npy", RECO_DTYPE_F16, 2, 2, 0);
    OK(reco_embeddings_open(ctx, &e, at("uneven")));
    assert_int_equal(reco_embeddings_rows(e), 2);
    assert_int_equal(reco_embeddings_holes(e, &holes), 1);
    assert_non_null(strstr(holes[0], "uneven: text_emb has no part 1"));
    reco_embeddings_close(e);
    array("type/img_emb/img_emb_0.npy", RECO_DTYPE_U8, 2, 2, 0);
    refuse("type", RECO_E_FORMAT, "dtype is U8, want F16, F32 or F64");
    array("flat/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 2, 0, 0);
    refuse("flat", RECO_E_FORMAT, "rows have no columns");
    text("junk/img_emb/img_emb_0.npy", "junk");
    refuse("junk", RECO_E_FORMAT, "junk/img_emb/img_emb_0.npy: is not a .npy file");
    array("meta/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 2, 2, 0);
    text("meta/metadata/metadata_0.csv", "n\n");
    text("meta/metadata/metadata_1.csv", "n\n");
    OK(reco_embeddings_open(ctx, &e, at("meta")));
    assert_int_equal(reco_embeddings_holes(e, &holes), 1);
    assert_non_null(strstr(holes[0], "metadata_1.csv has no embeddings"));
    reco_embeddings_close(e);
}

static void test_metadata_lengths(void **state)
{
    (void)state;
    json_t *row;
    uint64_t number;
    const char *bad;
    reco_embeddings *e;
    array("more/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 1, 2, 0);
    text("more/metadata/metadata_0.csv", "n\n0\n1\n");
    OK(reco_embeddings_open(ctx, &e, at("more")));
    OK(reco_embeddings_next(ctx, e, &row, &number, &bad));
    assert_true(json_is_integer(json_object_get(row, "n"))); /* all of its values are numbers */
    json_decref(row);
    failed(reco_embeddings_next(ctx, e, &row, &number, &bad), RECO_E_FORMAT,
           "metadata_0.csv: has more records than the 1 row of its part");
    assert_null(row);
    reco_embeddings_close(e);

    array("less/img_emb/img_emb_0.npy", RECO_DTYPE_F16, 2, 2, 0);
    array("less/img_emb/img_emb_1.npy", RECO_DTYPE_F16, 2, 2, 0);
    text("less/metadata/metadata_0.jsonl", "{\"n\":0}\n");
    text("less/metadata/metadata_1.jsonl", "{\"n\":1}\n");
    OK(reco_embeddings_open(ctx, &e, at("less")));
    is_next(e, true, 0);
    failed(reco_embeddings_next(ctx, e, &row, &number, &bad), RECO_E_FORMAT,
           "metadata_0.jsonl: has 1 record, want 2, one a row");
    reco_embeddings_close(e);
    /* Blank lines are nothing as long as the records are all there. */
    text("less/metadata/metadata_0.jsonl", "{\"n\":0}\n\n{\"n\":1}\n");
    text("less/metadata/metadata_1.jsonl", "{\"n\":2}\n\n");
    OK(reco_embeddings_open(ctx, &e, at("less")));
    for (uint64_t i = 0; i < 3; i++) is_next(e, true, i);
    is_next(e, false, 0);
    reco_embeddings_close(e);
    text("less/metadata/metadata_1.jsonl", "\n{\"n\":2}\n");
    OK(reco_embeddings_open(ctx, &e, at("less")));
    for (uint64_t i = 0; i < 3; i++) is_next(e, true, i);
    failed(reco_embeddings_next(ctx, e, &row, &number, &bad), RECO_E_FORMAT,
           "metadata_1.jsonl: has 1 record and blank lines, want 2, one a row");
    reco_embeddings_close(e);
    text("less/metadata/metadata_0.jsonl", "{\"n\":0}\n");
    assert_int_equal(unlink(at("less/metadata/metadata_1.jsonl")), 0);
    OK(reco_embeddings_open(ctx, &e, at("less")));
    is_next(e, true, 0);
    for (int i = 0; i < 2; i++) { /* rows of a part without metadata */
        OK(reco_embeddings_next(ctx, e, &row, &number, &bad));
        assert_true(!row && bad);
    }
    is_next(e, false, 0);
    reco_embeddings_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_many_parts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_metadata_lengths),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
