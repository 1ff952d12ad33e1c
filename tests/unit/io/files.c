/* Mapped and atomic files, paths. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void test_map(void **state)
{
    (void)state;
    reco_map map;
    OK(reco_map_open(ctx, &map, put_text("map", "abc")));
    assert_int_equal(map.bytes, 3);
    assert_memory_equal(map.data, "abc", 3);
    reco_map_close(&map);
    OK(reco_map_open(ctx, &map, put_text("empty", "")));
    assert_null(map.data);
    assert_int_equal(map.bytes, 0);
    reco_map_close(&map);
    failed(reco_map_open(ctx, &map, at("none")), RECO_E_IO, "none: No such file or directory");
    failed(reco_map_open(ctx, &map, root), RECO_E_IO, "is a directory, want a file");
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    failed(reco_map_open(ctx, &map, at("pipe")), RECO_E_IO, "pipe: is not a regular file");
    failed(reco_map_open(ctx, &map, "/dev/null"), RECO_E_IO, "/dev/null: is not a regular file");
}

static void test_read_file(void **state)
{
    (void)state;
    char *text;
    size_t bytes;
    const char *path = put("read", "a\0b", 3);
    OK(reco_read_file(ctx, &text, &bytes, path, 3));
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "a\0b", 4);
    reco_free(text);
    failed(reco_read_file(ctx, &text, &bytes, path, 2), RECO_E_FORMAT, "read: is 3 bytes, want at most 2");
    assert_null(text);
    failed(reco_read_file(ctx, &text, &bytes, "/dev/zero", 100000), RECO_E_IO, "is not a regular file");
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    failed(reco_read_file(ctx, &text, &bytes, at("fifo"), 100000), RECO_E_IO,
           "fifo: is not a regular file");
    OK(reco_read_file(ctx, &text, &bytes, "/proc/self/status", 1 << 20)); /* says that it is empty */
    assert_true(bytes > 10);
    reco_free(text);
    failed(reco_read_file(ctx, &text, &bytes, root, 10), RECO_E_IO, "is a directory");
}

static void test_replace(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("replace")));
    const char *path = at("replace/x");
    reco_file *file;
    OK(reco_write_file(ctx, path, "old", 3));
    assert_int_equal(chmod(path, 0640), 0);
    OK(reco_file_begin(ctx, &file, path));
    OK(reco_file_write(ctx, file, "gone", 4));
    holds(path, "old");
    reco_file_abort(file);
    holds(path, "old");
    assert_int_equal(entries(at("replace")), 1);

    OK(reco_file_begin(ctx, &file, path));
    OK(reco_file_printf(ctx, file, "%s %d", "number", 7));
    OK(reco_file_pwrite(ctx, file, "N", 1, 0));
    failed(reco_file_pwrite(ctx, file, "12", 2, 7), RECO_E_ARG, "want within the 8 written");
    OK(reco_file_commit(ctx, file));
    holds(path, "Number 7");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    reco_file_abort(NULL);
}

static void test_many_bytes(void **state)
{
    (void)state;
    const size_t n = (5 << 20) + 3;
    uint8_t *data = reco_alloc(ctx, n, 1, "test");
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)(i * 7 + i / 1000);
    reco_file *file;
    OK(reco_file_begin(ctx, &file, at("big")));
    for (size_t from = 0, step = 1; from < n; from += step, step = step * 3 + 1)
        OK(reco_file_write(ctx, file, data + from, reco_min(step, n - from)));
    OK(reco_file_commit(ctx, file));
    reco_map map;
    OK(reco_map_open(ctx, &map, at("big")));
    assert_int_equal(map.bytes, n);
    assert_memory_equal(map.data, data, n);
    reco_map_close(&map);
    reco_free(data);
}

/* Two writers of one target don't meet; the last to commit wins. */
static void test_two_writers(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("two")));
    reco_file *a, *b;
    OK(reco_file_begin(ctx, &a, at("two/x")));
    OK(reco_file_begin(ctx, &b, at("two/x")));
    OK(reco_file_write(ctx, a, "a", 1));
    OK(reco_file_write(ctx, b, "b", 1));
    OK(reco_file_commit(ctx, b));
    OK(reco_file_commit(ctx, a));
    holds(at("two/x"), "a");
    assert_int_equal(entries(at("two")), 1);
}

static void test_full_disk(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("full")));
    put_text("full/x", "old");
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    static char data[100000];
    reco_file *file;
    reco_status begun = reco_file_begin(ctx, &file, at("full/x"));
    reco_status written = reco_file_write(ctx, file, data, sizeof data); /* buffered */
    reco_status ended = reco_file_commit(ctx, file);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(begun, RECO_OK);
    assert_int_equal(written, RECO_OK);
    failed(ended, RECO_E_IO, "full/x: File too large");
    holds(at("full/x"), "old");
    assert_int_equal(entries(at("full")), 1);
}

/* A write that failed and went unnoticed must not be committed. */
static void test_failure_is_remembered(void **state)
{
    (void)state;
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    reco_file *file;
    OK(reco_file_begin(ctx, &file, at("sticky")));
    setrlimit(RLIMIT_FSIZE, &tight);
    static char data[3 << 20];
    reco_status written = reco_file_write(ctx, file, data, sizeof data);
    setrlimit(RLIMIT_FSIZE, &before);
    failed(written, RECO_E_IO, "sticky: File too large");
    failed(reco_file_commit(ctx, file), RECO_E_IO, "sticky: File too large");
    assert_false(reco_path_exists(at("sticky")));
}

static void test_refused_targets(void **state)
{
    (void)state;
    reco_file *file;
    failed(reco_file_begin(ctx, &file, root), RECO_E_IO, "is a directory, want a file");
    failed(reco_file_begin(ctx, &file, "/dev/null"), RECO_E_IO, "is not a regular file");
    failed(reco_file_begin(ctx, &file, at("none/x")), RECO_E_IO, "none/x: No such file or directory");
    failed(reco_file_begin(ctx, &file, ""), RECO_E_ARG, "want the name of a file");
    failed(reco_file_begin(ctx, &file, at("none/")), RECO_E_ARG, "want the name of a file");
    assert_null(file);
}

static void test_links_and_long_names(void **state)
{
    (void)state;
    put_text("target", "old");
    assert_int_equal(symlink("target", at("link")), 0);
    OK(reco_write_file(ctx, at("link"), "new", 3));
    holds(at("target"), "new");
    struct stat info;
    assert_int_equal(lstat(at("link"), &info), 0);
    assert_true(S_ISLNK(info.st_mode));

    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    OK(reco_write_file(ctx, at(name), "long", 4));
    holds(at(name), "long");
}

static void test_resume(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("resume")));
    const char *path = put_text("resume/x", "old"), *part = at("resume/.x.part");
    assert_int_equal(chmod(path, 0640), 0);
    reco_file *file, *second;
    uint64_t bytes;
    OK(reco_file_resume(ctx, &file, path, 0));
    OK(reco_file_write(ctx, file, "gone", 4));
    reco_file_abort(file); /* before any checkpoint: nothing stays */
    assert_int_equal(entries(at("resume")), 1);
    failed(reco_file_resume(ctx, &file, path, 3), RECO_E_FORMAT,
           ".x.part: missing, want the 3 bytes of its checkpoint");
    reco_file_discard(NULL);

    OK(reco_file_resume(ctx, &file, path, 0));
    OK(reco_file_write(ctx, file, "kept", 4));
    failed(reco_file_resume(ctx, &second, path, 0), RECO_E_BUSY, "resume/x: another process is writing it");
    assert_null(second);
    OK(reco_file_checkpoint(ctx, file, &bytes));
    assert_int_equal(bytes, 4);
    OK(reco_file_write(ctx, file, "lost", 4));
    reco_file_abort(file);
    holds(path, "old");
    assert_true(reco_path_exists(part));
    failed(reco_file_resume(ctx, &file, path, 10), RECO_E_FORMAT,
           ".x.part: 4 bytes, want the 10 of its checkpoint");

    OK(reco_file_resume(ctx, &file, path, 4));
    OK(reco_file_write(ctx, file, " and more", 9));
    OK(reco_file_commit(ctx, file));
    holds(path, "kept and more");
    assert_int_equal(entries(at("resume")), 1);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);

    OK(reco_file_resume(ctx, &file, path, 0));
    OK(reco_file_checkpoint(ctx, file, &bytes));
    reco_file_discard(file);
    assert_int_equal(entries(at("resume")), 1);
    assert_int_equal(symlink("/dev/null", part), 0);
    failed(reco_file_resume(ctx, &file, path, 0), RECO_E_IO, ".x.part");
}

static void test_leftovers(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("left")));
    pid_t child = fork();
    if (child == 0) _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    char dead[64], locked[64], alive[64], other[64];
    snprintf(dead, sizeof dead, "left/.x.tmp-%ld-0", (long)child);
    snprintf(locked, sizeof locked, "left/.x.tmp-%ld-1", (long)child);
    snprintf(alive, sizeof alive, "left/.x.tmp-%ld-0", (long)getppid());
    snprintf(other, sizeof other, "left/.y.tmp-%ld-0", (long)child);
    put_text(dead, "");
    put_text(locked, "");
    put_text(alive, "");
    put_text(other, "");
    put_text("left/.x.tmp-", "");
    put_text("left/.x.tmp-12", "");
    int fd = open(at(locked), O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    OK(reco_write_file(ctx, at("left/x"), "x", 1));
    close(fd);
    assert_false(reco_path_exists(at(dead)));
    assert_true(reco_path_exists(at(locked)));
    assert_true(reco_path_exists(at(alive)));
    assert_true(reco_path_exists(at(other)));
    assert_int_equal(entries(at("left")), 6);
}

static void test_killed_writer(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("killed")));
    put_text("killed/x", "old");
    pid_t child = fork();
    if (child == 0) {
        reco_file *file;
        if (reco_file_begin(ctx, &file, at("killed/x")) == RECO_OK) raise(SIGKILL);
        _exit(1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_int_equal(entries(at("killed")), 2);
    holds(at("killed/x"), "old");
    OK(reco_write_file(ctx, at("killed/x"), "new", 3));
    assert_int_equal(entries(at("killed")), 1);
}

static void is_text(char *got, const char *want)
{
    assert_non_null(got);
    assert_string_equal(got, want);
    reco_free(got);
}

static void test_paths(void **state)
{
    (void)state;
    is_text(reco_path_join(ctx, "a", "b"), "a/b");
    is_text(reco_path_join(ctx, "a/", "b"), "a/b");
    is_text(reco_path_join(ctx, "", "b"), "b");
    is_text(reco_path_join(ctx, "a", "/b"), "/b");
    is_text(reco_path_dir(ctx, "a/b/c"), "a/b");
    is_text(reco_path_dir(ctx, "a//b//"), "a");
    is_text(reco_path_dir(ctx, "a"), ".");
    is_text(reco_path_dir(ctx, ""), ".");
    is_text(reco_path_dir(ctx, "/a"), "/");
    is_text(reco_path_dir(ctx, "/"), "/");

    assert_true(reco_path_ends("a.CSV", 5, ".csv"));
    assert_false(reco_path_ends("a.csv", 4, ".csv"));
    assert_true(reco_path_ends("a.csv.gz", 5, ".csv"));
    assert_false(reco_path_ends(".csv", 4, ".csv"));
    assert_false(reco_path_ends("sv", 2, ".csv"));

    OK(reco_mkdirs(ctx, at("p/q/r/")));
    OK(reco_mkdirs(ctx, at("p/q/r")));
    OK(reco_mkdirs(ctx, "/"));
    assert_true(reco_path_is_dir(at("p/q/r")));
    put_text("p/file", "");
    failed(reco_mkdirs(ctx, at("p/file/x")), RECO_E_IO, "p/file: Not a directory");
    assert_false(reco_path_is_dir(at("p/file")));
    assert_true(reco_path_exists(at("p/file")));
    assert_false(reco_path_exists(at("p/none")));
    OK(reco_sync_dir(ctx, at("p")));
    failed(reco_sync_dir(ctx, at("p/none")), RECO_E_IO, "No such file");
    failed(reco_sync_file(ctx, at("p/none")), RECO_E_IO, "No such file");
}

static bool is_png(const char *name) { return strstr(name, ".png") != NULL; }

static void test_list(void **state)
{
    (void)state;
    OK(reco_mkdirs(ctx, at("list/b/c")));
    put_text("list/z.png", "");
    put_text("list/a.png", "");
    put_text("list/note.txt", "");
    put_text("list/.hidden.png", "");
    put_text("list/b/c/d.png", "");
    assert_int_equal(symlink("..", at("list/b/up")), 0);
    assert_int_equal(symlink("self", at("list/self")), 0);
    assert_int_equal(symlink("nothing", at("list/nowhere.png")), 0);
    char **files;
    size_t n;
    OK(reco_list_files(ctx, &files, &n, at("list"), true, is_png));
    assert_int_equal(n, 3);
    is_text(files[0], at("list/a.png"));
    is_text(files[1], at("list/b/c/d.png"));
    is_text(files[2], at("list/z.png"));
    reco_free(files);
    OK(reco_list_files(ctx, &files, &n, at("list"), false, NULL));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) reco_free(files[i]);
    reco_free(files);
    OK(reco_list_files(ctx, &files, &n, at("list/b"), false, NULL));
    assert_int_equal(n, 0);
    assert_non_null(files);
    reco_free(files);
    failed(reco_list_files(ctx, &files, &n, at("list/none"), true, NULL), RECO_E_IO, "No such file");
}

static void test_deep_list(void **state)
{
    (void)state;
    char path[1024] = "deep";
    for (int i = 0; i < 70; i++) strcat(path, "/d");
    OK(reco_mkdirs(ctx, at(path)));
    char **files;
    size_t n;
    failed(reco_list_files(ctx, &files, &n, at("deep"), true, NULL), RECO_E_UNSUPPORTED,
           "nested deeper than 64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_many_bytes),
        cmocka_unit_test(test_two_writers),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failure_is_remembered),
        cmocka_unit_test(test_refused_targets),
        cmocka_unit_test(test_links_and_long_names),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_killed_writer),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_deep_list),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
