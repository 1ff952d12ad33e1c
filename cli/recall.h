/* cli/recall.h: what commands that search say of recall. */
#ifndef RECO_CLI_RECALL_H
#define RECO_CLI_RECALL_H

#include "cli.h"

/* --exact and --recall as a child parser; its input is the cli. */
extern const struct argp cli_recall_options;
/* {"image": {"image": [...], "text": [...]}, "text": ...}: of each side that is searched, by the side that asks; null without lists. */
json_t *cli_recall_table(const reco_bank *bank);
void cli_print_recall(const reco_bank *bank);
/* A line on stderr where searches would not be exact. bank NULL: several. */
void cli_say_recall(const cli *c, const reco_bank *bank, double recall);

#endif
