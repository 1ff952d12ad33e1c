#include "recall.h"

#include <string.h>

enum { KEY_SCAN = 0x100, KEY_LISTS, KEY_RECALL };

typedef struct args {
    cli *common;
    reco_scan_kind kind;
    bool has_scan, has_lists, has_recall;
    reco_lists_opts lists;
} args;

static error_t parse_index_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        return 0;
    case KEY_SCAN:
        if (strcmp(arg, "int8") != 0 && strcmp(arg, "none") != 0)
            argp_error(state, "--scan: \"%s\", want int8 or none", arg);
        a->kind = strcmp(arg, "int8") == 0 ? RECO_SCAN_INT8 : RECO_SCAN_NONE;
        a->has_scan = true;
        return 0;
    case KEY_LISTS:
        a->has_lists = true;
        if (strcmp(arg, "none") == 0)
            a->lists.kind = RECO_LISTS_NONE;
        else if (strcmp(arg, "auto") != 0)
            a->lists.cells = cli_size(state, "--lists", arg, 1, INT32_MAX);
        return 0;
    case KEY_RECALL:
        a->has_recall = true;
        a->lists.recall = (float)cli_number(state, "--recall", arg, 0.5, 1);
        return 0;
    case ARGP_KEY_END:
        if (a->has_scan && a->has_lists) argp_error(state, "--scan and --lists cannot be used together");
        if (a->common->bank && !a->has_scan) a->has_lists |= reco_bank_is_server(a->common->bank);
        if (a->has_recall && (!a->has_lists || a->lists.kind == RECO_LISTS_NONE))
            argp_error(state, "--recall needs --lists auto or N");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"scan", KEY_SCAN, "KIND", 0, "int8: create the scan files (default); none: remove them", 1},
    {"lists", KEY_LISTS, "N", 0,
     "Cluster the rows into N cells, of which a search visits only the nearest; auto: choose N; none: "
     "remove the lists",
     1},
    {"recall", KEY_RECALL, "R", 0,
     "Default recall of searches through the lists or the servers' index (default: 0.99)", 1},
    {0}};
static const struct argp_child children[] = {{&cli_bank, 0, NULL, 0}, {&cli_wait_option, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_index_option,
    "BANK",
    "Create the index of a bank. Scan files hold quantized codes of the vectors with error bounds, and "
    "make searches fast without changing the results; build and add create them automatically from 10,000 "
    "rows on. Lists make searches faster still, but approximate: how many cells a recall needs is measured "
    "on the bank itself. For a postgresql:// bank, this measures the recall of the vector index that the "
    "servers have.\v"
    "Example:\n  reco bank index shop.bank --lists auto",
    children,
    NULL,
    NULL};

static reco_status make_lists(cli *c, const args *a)
{
    reco_lists_result r;
    reco_status status = reco_bank_index_lists(c->ctx, c->bank, &a->lists, &r);
    if (status != RECO_OK) return status;
    if (a->lists.kind == RECO_LISTS_NONE) {
        if (c->json)
            cli_print(json_pack("{s:s, s:I}", "lists", "none", "files", (json_int_t)r.files));
        else
            cli_say(reco_bank_is_server(c->bank) ? "%s: what was measured is forgotten; searches are exact"
                    : r.files                    ? "lists removed from %s"
                                                 : "nothing to do: %s has no lists",
                    c->bank);
        return RECO_OK;
    }
    if (r.cells == 0 && !c->json)
        cli_say("%s is small: searching all of its rows is as fast (--lists N makes lists anyway)",
                c->bank);
    reco_bank *bank;
    status = reco_bank_open(c->ctx, &bank, c->bank);
    if (status != RECO_OK) return status;
    if (c->json)
        cli_print(json_pack("{s:I, s:I, s:o}", "cells", (json_int_t)r.cells, "files", (json_int_t)r.files,
                            "recall", cli_recall_table(bank)));
    else if (r.cells)
        cli_print_recall(bank);
    reco_bank_close(bank);
    return RECO_OK;
}

int cmd_bank_index(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .kind = RECO_SCAN_INT8};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    if (a.has_lists) return cli_end(&c, make_lists(&c, &a));
    size_t files = 0;
    reco_status status = reco_bank_index(c.ctx, c.bank, a.kind, &files);
    if (status == RECO_OK && c.json)
        cli_print(json_pack("{s:s, s:I}", "scan", a.kind == RECO_SCAN_INT8 ? "int8" : "none", "files",
                            (json_int_t)files));
    else if (status == RECO_OK && files == 0)
        cli_say("nothing to do: %s has %s", c.bank,
                a.kind == RECO_SCAN_INT8 ? "all of its scan files" : "no scan files");
    else if (status == RECO_OK)
        cli_say("%zu scan file%s %s in %s", files, cli_s(files),
                a.kind == RECO_SCAN_INT8 ? "made" : "removed", c.bank);
    return cli_end(&c, status);
}
