/* Captions that only case, blanks or the Unicode form tell apart have one key; others, and those that say nothing, don't. */
#include "io/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint64_t key(const char *caption)
{
    uint64_t k;
    assert_int_equal(reco_caption_key(NULL, &k, caption), RECO_OK);
    return k;
}

static void same(void **state)
{
    (void)state;
    const char *const all[][3] = {
        {"a dog", "A DOG", "a Dog"},
        {"a dog", "  a\t dog\r\n",
         "a\xc2\xa0\xe3\x80\x80"
         "dog"},
        {"caf\xc3\xa9", "cafe\xcc\x81", "CAF\xc3\x89"},
        {"stra\xc3\x9f"
         "e",
         "STRASSE", "strasse"},
        {"\xce\xbf\xce\xb4\xcf\x8c\xcf\x82", "\xce\x9f\xce\x94\xce\x8c\xce\xa3",
         "\xce\xbf\xce\xb4\xcf\x8c\xcf\x83"},
        {"\xff\xfe", "\xff\xfe", "\xff\xfe"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_true(key(all[i][0]) != 0);
        for (int j = 1; j < 3; j++) assert_true(key(all[i][j]) == key(all[i][0]));
    }
}

static void other(void **state)
{
    (void)state;
    const char *const all[] = {"a dog",   "adog", "a dog.",   "a d\xc3\xb6g",
                               "a dog 1", "\xff", "\xff\xfe", "\xef\xbd\x81 dog"};
    size_t n = sizeof all / sizeof *all;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) assert_int_equal(key(all[i]) == key(all[j]), i == j);
    assert_true(key(NULL) == 0);
    assert_true(key("") == 0);
    assert_true(key(" \n\t\xc2\xa0") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same), cmocka_unit_test(other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
