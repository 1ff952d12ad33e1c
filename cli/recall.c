#include "recall.h"

#include <string.h>

enum { KEY_EXACT = 0x3001, KEY_RECALL };

static error_t parse_recall_option(int key, char *arg, struct argp_state *state)
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
    {"exact", KEY_EXACT, NULL, 0, "Search all rows, even if the bank has lists or a vector index", 5},
    {"recall", KEY_RECALL, "R", 0,
     "Recall of a search through the lists or the servers' vector index (default: the one set by bank "
     "index)",
     5},
    {0}};
const struct argp cli_recall_options = {options, parse_recall_option, NULL, NULL, NULL, NULL, NULL};

static const char *const sides[] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text"};

static json_t *table(const reco_bank *bank, reco_side side, reco_side asked)
{
    reco_recall_point points[32];
    json_t *list = json_array();
    const char *setting = reco_bank_get_info(bank)->index_setting[side];
    size_t n = reco_bank_recall_table(bank, side, (reco_asked)(asked + 1), points, 32);
    for (size_t i = 0; i < n; i++) {
        json_t *point = json_pack("{s:o, s:o}", "recall", cli_weight(points[i].recall),
                                  *setting ? setting : "cells", cli_weight(points[i].cells));
        if (!*setting) json_object_set_new(point, "rows", cli_weight(points[i].rows));
        json_array_append_new(list, point);
    }
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
    if (info.shards)
        printf("index        searched at recall %g\n", (double)info.list_recall);
    else
        printf("lists        %zu cells, %lld rows, searched at recall %g\n", info.list_cells[0],
               (long long)info.list_rows, (double)info.list_recall);
    for (int side = 0; side < 2; side++)
        for (int asked = 0; asked < 2; asked++) {
            reco_recall_point points[32];
            const char *setting = info.index_setting[side];
            size_t n = reco_bank_recall_table(bank, (reco_side)side, (reco_asked)(asked + 1), points, 32);
            if (info.shards && !n) continue;
            printf("  %s searches %ss%*s recall  %s\n", sides[asked], sides[side], asked == side ? 3 : 2,
                   "", *setting ? setting : "cells  rows");
            for (size_t i = 0; i < n; i++)
                if (*setting && (i == 0 || points[i - 1].recall < 0.9995f))
                    printf("                          %6.4f %*.0f\n", (double)points[i].recall,
                           (int)strlen(setting) + 1, (double)points[i].cells);
                else if (!*setting && points[i].recall >= 0.8999f)
                    printf("                          %6.4f %6.0f %4.1f %%\n", (double)points[i].recall,
                           (double)points[i].cells, 100 * (double)points[i].rows);
        }
}

/* " (ef_search 40)", as a search among this side sets it for that recall; nothing where it sets nothing. */
static void say_setting(const reco_bank *bank, reco_side side)
{
    const reco_search_opts opts = RECO_SEARCH_OPTS_INIT;
    const char *name = reco_bank_get_info(bank)->index_setting[side];
    float setting = 0, recall = *name ? reco_bank_expected_recall(bank, side, &opts) : 1;
    for (reco_asked asked = RECO_ASKED_IMAGE; recall < 1 && asked <= RECO_ASKED_TEXT; asked++) {
        reco_recall_point points[32];
        size_t i = 0, n = reco_bank_recall_table(bank, side, asked, points, 32);
        while (i < n && points[i].recall < recall) i++;
        if (i < n && points[i].cells > setting) setting = points[i].cells;
    }
    if (setting > 0) fprintf(stderr, ", %ss with %s %g", sides[side], name, (double)setting);
}

void cli_say_recall(const cli *c, const reco_bank *bank, double recall)
{
    if (c->quiet || recall >= 1) return;
    fprintf(stderr, "searching %s at recall %.4g",
            bank && reco_bank_get_info(bank)->shards ? "the servers' index" : "lists", recall);
    for (reco_side side = 0; bank && side < 2; side++) say_setting(bank, side);
    fputs(" (--exact searches all rows)\n", stderr);
}
