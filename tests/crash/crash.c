/* Each system call of a build, an add, an index, lists, a delete, a compaction and a merge fails or kills, one after the other: the bank is that
 * of before or of after, whole, and the next writer leaves no rubbish. */
#include "../unit/bank/bank_test.h"
#include "hook.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define D 4

/* What a bank holds: bit i is row i; 0 rows of an empty one; NO_BANK. */
typedef struct contents {
    uint64_t rows;
    int64_t next_id;
} contents;
static const contents no_bank = {0, -1}, empty = {0, 0};

static bool same(contents a, contents b) { return a.rows == b.rows && a.next_id == b.next_id; }

/* ---- the script ---- */

/* first: number of the first row where it is not its id; -1: it is. */
static reco_status write_rows(const char *path, bool build, size_t n, size_t commits, int64_t first)
{
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    float x[2][D], y[2][D];
    reco_status status =
        reco_bank_writer_open(ctx, &w, path, build ? &spec : NULL, build ? "job" : "more", &next, &done);
    if (status != RECO_OK) return status;
    if (first < 0) first = w->next_id;
    for (size_t i = next; i < n && !done && status == RECO_OK; i++) {
        char strings[3][64];
        uint64_t number = (uint64_t)first + i - next;
        numbered_unit(x[0], D, RECO_IMAGE, number);
        numbered_unit(y[0], D, RECO_TEXT, number);
        snprintf(strings[0], 64, "caption %llu", (unsigned long long)number);
        snprintf(strings[1], 64, "file:///%llu.jpg", (unsigned long long)number);
        snprintf(strings[2], 64, "{\"n\": %llu}", (unsigned long long)number);
        status =
            reco_bank_append(ctx, w, x[0], y[0],
                             &(reco_pair){.caption = strings[0], .uri = strings[1], .meta = strings[2]}, 1);
        if (status == RECO_OK && ((i + 1) % (n / commits) == 0 || i + 1 == n))
            status = reco_bank_commit(ctx, w, i + 1, i + 1 == n);
    }
    reco_bank_writer_close(w);
    return status;
}

static reco_status do_build(const char *path) { return write_rows(path, true, 4, 1, -1); }
static reco_status do_add(const char *path) { return write_rows(path, false, 3, 1, -1); }
static reco_status do_index(const char *path) { return reco_bank_index(ctx, path, RECO_SCAN_INT8, NULL); }
static reco_status do_lists(const char *path)
{
    return reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = 2}, NULL);
}
static reco_status do_delete(const char *path)
{
    const int64_t ids[] = {1, 5};
    const char *uri = "file:///3.jpg";
    return reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = ids, .nids = 2, .uris = &uri, .nuris = 1},
                            NULL, NULL);
}
static reco_status do_compact(const char *path) { return reco_bank_compact(ctx, path, NULL, NULL); }

/* Rows 0 to 3 and 3 to 6: a file is linked, and one written anew without row 3. */
static reco_status do_merge(const char *path)
{
    char sources[2][200];
    for (int i = 0; i < 2; i++) snprintf(sources[i], sizeof sources[i], "%s/part-%d", folder, i);
    return reco_bank_merge(ctx, path, (const char *const[]){sources[0], sources[1]}, 2, NULL, NULL);
}

static void make_parts(void)
{
    char path[200];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/part-%d", folder, i);
        ok(write_rows(path, true, 4, 1, 3 * i));
    }
}

/* Rows that came and went, whose captions fill a good part of the database. */
static void fill(const char *path)
{
    static char caption[60001];
    float x[D];
    const int64_t ids[] = {7, 8};
    uint64_t next;
    int done;
    reco_bank_writer *w;
    memset(caption, 'x', sizeof caption - 1);
    numbered_unit(x, D, RECO_IMAGE, 7);
    ok(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    for (int i = 0; i < 2; i++) ok(reco_bank_append(ctx, w, x, x, &(reco_pair){.caption = caption}, 1));
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = ids, .nids = 2}, NULL, NULL));
}

static const struct {
    const char *name;
    reco_status (*run)(const char *path);
    contents before, after;
} script[] = {
    {"build", do_build, {0, -1}, {0x0f, 4}},      {"add", do_add, {0x0f, 4}, {0x7f, 7}},
    {"index", do_index, {0x7f, 7}, {0x7f, 7}},    {"lists", do_lists, {0x7f, 7}, {0x7f, 7}},
    {"delete", do_delete, {0x7f, 7}, {0x55, 7}},  {"compact", do_compact, {0x55, 7}, {0x55, 7}},
    {"shrink", do_compact, {0x55, 9}, {0x55, 9}}, {"merge", do_merge, {0, -1}, {0x7f, 7}},
};
enum { SHRINK = 6, MERGE = 7, STEPS = sizeof script / sizeof *script };

/* ---- looking ---- */

static contents look(const char *path, bool swept)
{
    reco_bank *bank;
    reco_bank_health health;
    reco_status status = reco_bank_open(ctx, &bank, path);
    if (status == RECO_E_NOTFOUND) return no_bank;
    ok(status);
    reco_bank_info info = *reco_bank_get_info(bank);
    contents c = {0, info.next_id};
    int64_t ids[64];
    size_t n;
    ok(reco_bank_select(ctx, bank, NULL, 0, 64, ids, &n));
    for (size_t i = 0; i < n; i++) { /* id, caption, uri, meta and vectors belong together */
        assert_numbered(bank, ids[i], (uint64_t)ids[i]);
        c.rows |= (uint64_t)1 << ids[i];
    }
    assert_int_equal(info.rows, n);
    reco_bank_close(bank);
    ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
    assert_int_equal(health.problems, 0);
    if (swept) assert_int_equal(health.orphans, 0);
    return c;
}

/* Nothing in the folder but what docs/format.md names. */
static void assert_tidy(const char *path)
{
    static const char *const known[] = {
        ".", "..", "bank.sqlite", "bank.sqlite-wal", "bank.sqlite-shm", "writer.lock", "vectors"};
    DIR *stream = opendir(path);
    assert_non_null(stream);
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], entry->d_name) != 0) i++;
        if (i == sizeof known / sizeof *known) fail_msg("%s: %s was left", path, entry->d_name);
    }
    closedir(stream);
}

static void copy_file(const char *from, const char *to)
{
    char *data;
    size_t bytes;
    ok(reco_read_file(ctx, &data, &bytes, from, 1 << 22));
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
    reco_free(data);
}

/* Every regular file of a folder, and with `to` NULL: remove them. */
static void each_file(const char *from, const char *to)
{
    char a[400], b[400];
    DIR *stream = opendir(from);
    if (!stream) return;
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        struct stat info;
        snprintf(a, sizeof a, "%.190s/%.190s", from, entry->d_name);
        if (stat(a, &info) != 0 || !S_ISREG(info.st_mode)) continue;
        snprintf(b, sizeof b, "%.190s/%.190s", to ? to : "", entry->d_name);
        if (to)
            copy_file(a, b);
        else
            unlink(a);
    }
    closedir(stream);
}

/* A fresh copy of the bank that the step begins with. */
static void restore(int step, const char *path)
{
    char from[200], vectors[2][200];
    snprintf(from, sizeof from, "%s/base-%d", folder, step);
    snprintf(vectors[0], sizeof vectors[0], "%s/vectors", from);
    snprintf(vectors[1], sizeof vectors[1], "%s/vectors", path);
    each_file(vectors[1], NULL);
    each_file(path, NULL);
    rmdir(vectors[1]);
    rmdir(path);
    if (step == 0 || step == MERGE) return; /* nothing */
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(vectors[1], 0700), 0);
    each_file(from, path);
    each_file(vectors[0], vectors[1]);
}

/* ---- the faults ---- */

enum { DONE = 0, REFUSED = 10, WRONG = 11 };

/* One run of a step with a fault, in a process of its own. Returns how it ended: DONE, REFUSED or -SIGKILL; *fired is
 * false when the step made fewer calls. */
static int run_with(int step, const char *path, hook_call call, long n, hook_action action, int error,
                    bool *fired)
{
    int ends[2];
    char byte = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        hook_arm(call, n, action, error);
        reco_status status = script[step].run(path);
        hook_disarm();
        byte = (char)hook_fired();
        if (write(ends[1], &byte, 1) != 1) _exit(WRONG);
        if (status == RECO_OK) _exit(DONE);
        const char *text = reco_ctx_error(ctx);
        /* One clear line, of a kind that fits. */
        bool fits = status == RECO_E_NOMEM || status == RECO_E_IO || status == RECO_E_BUSY ||
                    (call == HOOK_READ && status == RECO_E_FORMAT);
        if (!fits || !*text || strchr(text, '\n')) {
            fprintf(stderr, "%s: %s\n", reco_status_name(status), text);
            _exit(WRONG);
        }
        if (error == ENOSPC && action == HOOK_FAIL_ON && !strstr(text, "No space left on device")) {
            fprintf(stderr, "ENOSPC: %s\n", text);
            _exit(WRONG);
        }
        _exit(REFUSED);
    }
    close(ends[1]);
    int status;
    ssize_t got = read(ends[0], &byte, 1);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    *fired = got != 1 || byte;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static const char *describe(int step, hook_call call, long n, hook_action action)
{
    static const char *const actions[] = {"none", "fails", "fails from then on", "kills"};
    static char text[100];
    snprintf(text, sizeof text, "%s: %s %ld %s", script[step].name, hook_names[call], n, actions[action]);
    return text;
}

static void judge(int step, const char *path, int ended, const char *what)
{
    if (ended != DONE && ended != REFUSED && ended != -SIGKILL) fail_msg("%s: ended with %d", what, ended);
    contents now = look(path, false);
    bool before = same(now, script[step].before) || (step == 0 && same(now, empty));
    bool after = same(now, script[step].after);
    if (!(after || (before && ended != DONE)))
        fail_msg("%s: ended with %d, rows %llx, next id %lld", what, ended, (unsigned long long)now.rows,
                 (long long)now.next_id);
    /* The next writer goes on, and tidies up. */
    reco_status status = script[step].run(path);
    if (status == RECO_OK && step == 1 && after) /* added twice, then */
        now = script[step].after;
    else if (status != RECO_OK)
        fail_msg("%s: then %s", what, reco_ctx_error(ctx));
    now = look(path, true);
    if (!same(now, script[step].after))
        fail_msg("%s: afterwards rows %llx, next id %lld", what, (unsigned long long)now.rows,
                 (long long)now.next_id);
    assert_tidy(path);
}

static size_t trials[STEPS];

static void try_all(int step, hook_call call, hook_action action, int error)
{
    char path[100];
    bool fired = true;
    /* Every call of a file once, of allocations every fifth, unless all are asked for; builds that repeat the suite take
     * samples. A merge makes as many calls as all others together. */
    long stride = getenv("RECO_TEST_MOMENTS") ? 7 : 1;
    if (!getenv("RECO_TEST_ALL")) {
        if (call == HOOK_MALLOC) stride *= 5;
        if (step == MERGE) stride *= call == HOOK_MALLOC ? 3 : 5;
    }
    snprintf(path, sizeof path, "%s/%d-%d", folder, step, (int)getpid());
    for (long n = (3 * step + (int)call) % stride; fired; n += stride) {
        restore(step, path);
        int ended = run_with(step, path, call, n, action, error, &fired);
        judge(step, path, ended, describe(step, call, n, action));
        trials[step]++;
    }
}

static void prepare(void)
{
    char path[100], to[100];
    make_parts();
    for (int step = 0; step < STEPS; step++) {
        snprintf(path, sizeof path, "%s/base-%d", folder, step);
        snprintf(to, sizeof to, "%s/base-%d", folder, step + 1);
        if (step == SHRINK) fill(path);
        restore(step, to);
        struct stat was, is;
        char database[120];
        snprintf(database, sizeof database, "%s/bank.sqlite", to);
        if (step == SHRINK) assert_int_equal(stat(database, &was), 0);
        ok(script[step].run(to));
        if (step == SHRINK && stat(database, &is) == 0) assert_true(is.st_size < was.st_size / 2);
        assert_true(same(look(to, true), script[step].after));
    }
}

static void test_failures(void **state)
{
    (void)state;
    prepare();
    for (int step = 0; step < STEPS; step++) {
        for (int call = 0; call < HOOK_MALLOC; call++)
            try_all(step, (hook_call)call, HOOK_FAIL, call == HOOK_WRITE ? ENOSPC : EIO);
        try_all(step, HOOK_WRITE, HOOK_FAIL_ON, ENOSPC); /* a disk that is full and stays so */
        try_all(step, HOOK_SYNC, HOOK_FAIL_ON, EIO);
        print_message("%s: %zu failures\n", script[step].name, trials[step]);
        trials[step] = 0;
    }
}

static void test_kills(void **state)
{
    (void)state;
    prepare();
    for (int step = 0; step < STEPS; step++) {
        for (int call = 0; call < HOOK_MALLOC; call++) try_all(step, (hook_call)call, HOOK_KILL, 0);
        print_message("%s: %zu kills\n", script[step].name, trials[step]);
        trials[step] = 0;
    }
}

static void test_memory(void **state)
{
    (void)state;
#ifdef HOOK_NO_MALLOC
    print_message("SKIPPED: failing malloc, under sanitizers\n");
    skip();
#endif
    prepare();
    for (int step = 0; step < STEPS; step++) {
        try_all(step, HOOK_MALLOC, HOOK_FAIL, ENOMEM);
        print_message("%s: %zu allocations\n", script[step].name, trials[step]);
        trials[step] = 0;
    }
}

/* ---- power loss: what must be on disk before what ---- */

static const char *last(const char *log, const char *from, const char *what, const char *path)
{
    char line[700];
    const char *found = NULL;
    int n = snprintf(line, sizeof line, "%s %s", what, path);
    for (const char *at = log; at < from; at = strchr(at, '\n') + 1)
        if (strncmp(at, line, (size_t)n) == 0 && (at[n] == '\n' || at[n] == ' ')) found = at;
    return found;
}

/* A file is synced after it was last written and before it is renamed, its folder after that and before the log of the
 * database is written; nothing is unlinked before the log is synced; and the log is when the step ends. */
static void check_order(const char *log, const char *path)
{
    char database[200], wal[220], vectors[200];
    assert_non_null(realpath(path, database));
    snprintf(vectors, sizeof vectors, "%.180s/vectors", database);
    strcat(database, "/bank.sqlite");
    snprintf(wal, sizeof wal, "%s-wal", database);
    size_t renames = 0;
    for (const char *at = log; *at; at = strchr(at, '\n') + 1) {
        char old[500], new[500];
        if (sscanf(at, "rename %499s %499s", old, new) == 2) {
            renames++;
            char *dir = strrchr(new, '/') ? strndup(new, (size_t)(strrchr(new, '/') - new)) : strdup(".");
            char real[PATH_MAX];
            assert_non_null(realpath(dir, real));
            free(dir);
            char file[PATH_MAX + 300];
            snprintf(file, sizeof file, "%s/%s", real, strrchr(old, '/') + 1);
            const char *written = last(log, at, "write", file), *synced = last(log, at, "sync", file);
            if (!written || !synced || synced < written) fail_msg("%s was renamed unsynced", file);
            const char *next = strchr(at, '\n') + 1;
            while (*next && strncmp(next, "write ", 6) != 0) next = strchr(next, '\n') + 1;
            const char *folder_synced = last(log, *next ? next : log + strlen(log), "sync", real);
            if (!folder_synced || folder_synced < at) fail_msg("%s: the folder was not synced", file);
        }
        if (strncmp(at, "unlink segment-", 15) == 0) {
            const char *written = last(log, at, "write", wal), *synced = last(log, at, "sync", wal);
            if (!written || !synced || synced < written)
                fail_msg("a segment was unlinked before the commit");
        }
    }
    const char *end = log + strlen(log), *written = last(log, end, "write", wal),
               *synced = last(log, end, "sync", wal);
    if (written && (!synced || synced < written)) fail_msg("the log was left unsynced");
    written = last(log, end, "write", database), synced = last(log, end, "sync", database);
    if (written && (!synced || synced < written)) fail_msg("the database was left unsynced");
    if (renames == 0 && strstr(log, "segment-") && !strstr(log, "unlink")) fail_msg("no rename was seen");
}

static void test_order(void **state)
{
    (void)state;
    prepare();
    char path[100];
    snprintf(path, sizeof path, "%s/order", folder);
    for (int step = 0; step < STEPS; step++) {
        restore(step, path);
        hook_record();
        ok(script[step].run(path));
        hook_disarm();
        assert_non_null(strstr(hook_log(), "write"));
        assert_non_null(strstr(hook_log(), step == MERGE ? "bank.sqlite.tmp-wal" : "bank.sqlite-wal"));
        check_order(hook_log(), path);
    }
}

/* The folder in memory, where there is such a place. */
static int set_up_in_memory(void **state)
{
    (void)state;
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/reco-bank-XXXXXX" : "/tmp/reco-bank-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) == RECO_OK ? 0 : -1;
}

int main(void)
{
#define TEST_IN_MEMORY(name) cmocka_unit_test_setup_teardown(name, set_up_in_memory, tear_down)
    const struct CMUnitTest tests[] = {
        TEST_IN_MEMORY(test_order),
        TEST_IN_MEMORY(test_failures),
        TEST_IN_MEMORY(test_kills),
        TEST_IN_MEMORY(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
