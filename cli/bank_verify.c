#include "cli.h"

#include <string.h>

#define MOST_LISTED 1000

typedef struct args {
    cli *common;
    json_t *problems; /* the first thousand */
    uint64_t n;
} args;

static const struct argp_child children[] = {{&cli_bank, 0, NULL, 0}, {0}};
static const struct argp argp = {NULL,
                                 NULL,
                                 "BANK",
                                 "Check every byte of a bank and report what is damaged and where. Exits "
                                 "with 1 if anything is damaged.\v"
                                 "Example:\n  reco bank verify shop.bank",
                                 children,
                                 NULL,
                                 NULL};

static void problem(void *user, const reco_bank_problem *p)
{
    args *a = user;
    if (a->n++ >= MOST_LISTED) return;
    if (a->common->json) {
        json_t *what = json_string(p->what);
        json_t *object = json_pack("{s:s, s:o}", "file", p->file, "what", what ? what : json_string("?"));
        if (p->bytes) {
            json_object_set_new(object, "offset", json_integer((json_int_t)p->offset));
            json_object_set_new(object, "bytes", json_integer((json_int_t)p->bytes));
        }
        if (p->rows) {
            json_object_set_new(object, "id", json_integer((json_int_t)p->id));
            json_object_set_new(object, "rows", json_integer((json_int_t)p->rows));
        }
        json_array_append_new(a->problems, object);
        return;
    }
    cli_clear_bar(a->common);
    cli_put(p->file);
    fputs(": ", stdout);
    if (p->bytes)
        printf("bytes %lld to %lld: ", (long long)p->offset, (long long)(p->offset + p->bytes - 1));
    cli_put(p->what);
    if (p->rows == 1)
        printf(" (row %lld)", (long long)p->id);
    else if (p->rows)
        printf(" (rows %lld to %lld)", (long long)p->id, (long long)(p->id + p->rows - 1));
    putchar('\n');
}

int cmd_bank_verify(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &c)) return 1;
    reco_bank_health h;
    a.problems = json_array();
    reco_status status = a.problems ? reco_bank_verify(c.ctx, c.bank, problem, &a, &h) : RECO_E_NOMEM;
    if (status == RECO_OK) cli_clear_bar(&c);
    if (status == RECO_OK && c.json)
        cli_print(json_pack("{s:b, s:I, s:O, s:I, s:I, s:I, s:I, s:I}", "ok", h.problems == 0,
                            "problem_count", (json_int_t)h.problems, "problems", a.problems, "rows",
                            (json_int_t)h.rows, "deleted", (json_int_t)h.deleted, "segments",
                            (json_int_t)h.segments, "vector_bytes", (json_int_t)h.bytes, "orphans",
                            (json_int_t)h.orphans));
    else if (status == RECO_OK) {
        if (h.orphans)
            printf("%zu file%s of an interrupted or running writer; the next one removes %s\n", h.orphans,
                   cli_s(h.orphans), h.orphans == 1 ? "it" : "them");
        printf("%lld row%s (%lld deleted) in %zu segment%s, %.1f MB of vectors: ", (long long)h.rows,
               cli_s((uint64_t)h.rows), (long long)h.deleted, h.segments, cli_s(h.segments),
               (double)h.bytes / 1e6);
        if (h.problems)
            printf("%llu problem%s\n", (unsigned long long)h.problems, cli_s(h.problems));
        else
            puts("whole");
    }
    json_decref(a.problems);
    int code = cli_end(&c, status);
    return code ? code : status == RECO_OK && h.problems ? 1 : 0;
}
