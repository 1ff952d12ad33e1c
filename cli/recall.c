#include "recall.h"

enum { KEY_EXACT = 0x3001, KEY_RECALL };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    cli *c = state->input;
    switch (key) {
    case KEY_EXACT:
        c->servers.recall = 1;
        return 0;
    case KEY_RECALL:
        c->servers.recall = cli_number(state, "--recall", arg, 0.5, 1);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"exact", KEY_EXACT, NULL, 0, "Search all rows, even if the bank has lists", 5},
    {"recall", KEY_RECALL, "R", 0,
     "Recall of a search through the lists (default: the one set by bank index)", 5},
    {0}};
const struct argp cli_recall_options = {options, parse, NULL, NULL, NULL, NULL, NULL};

static const char *const sides[] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text"};

static json_t *table(const reco_bank *bank, reco_side side, reco_side asked)
{
    reco_recall_point points[32];
    json_t *list = json_array();
    size_t n = reco_bank_recall_table(bank, side, (reco_asked)(asked + 1), points, 32);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o}", "recall", cli_weight(points[i].recall), "cells",
                                        cli_weight(points[i].cells), "rows", cli_weight(points[i].rows)));
    return list;
}

json_t *cli_recall_table(const reco_bank *bank)
{
    json_t *of[2];
    if (!reco_bank_get_info(bank)->list_rows) return json_null();
    for (int side = 0; side < 2; side++)
        of[side] = json_pack("{s:o, s:o}", "image", table(bank, (reco_side)side, RECO_IMAGE), "text",
                             table(bank, (reco_side)side, RECO_TEXT));
    return json_pack("{s:o, s:o}", "image", of[RECO_IMAGE], "text", of[RECO_TEXT]);
}

void cli_print_recall(const reco_bank *bank)
{
    reco_bank_info info = *reco_bank_get_info(bank);
    if (!info.list_rows) return;
    printf("lists        %zu cells, %lld rows, searched at recall %g\n", info.list_cells[0],
           (long long)info.list_rows, (double)info.list_recall);
    for (int side = 0; side < 2; side++)
        for (int asked = 0; asked < 2; asked++) {
            reco_recall_point points[32];
            size_t n = reco_bank_recall_table(bank, (reco_side)side, (reco_asked)(asked + 1), points, 32);
            printf("  %s searches %ss%*s recall  cells  rows\n", sides[asked], sides[side],
                   asked == side ? 3 : 2, "");
            for (size_t i = 0; i < n; i++)
                if (points[i].recall >= 0.8999f)
                    printf("                          %6.4f %6.0f %4.1f %%\n", (double)points[i].recall,
                           (double)points[i].cells, 100 * (double)points[i].rows);
        }
}

void cli_say_recall(const cli *c, double recall)
{
    if (c->quiet || recall >= 1) return;
    fprintf(stderr, "searching lists at recall %g (--exact searches all rows)\n", recall);
}
