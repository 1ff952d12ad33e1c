/* answer/answer.h: what the command line and the server say alike, as JSON. */
#ifndef RECO_ANSWER_H
#define RECO_ANSWER_H

#include "reco/bank.h"

#include <jansson.h>
#include <stdbool.h>

/* {"id", "caption", "uri", "meta"} */
json_t *answer_row(const reco_pair *pair);
/* A number of 9 digits, which say all that a float does. */
json_t *answer_score(float score);
/* The expected recall of this bank's searches, among whichever side it is lower, where `recall` is asked for (0: the bank's own), to
 * six digits. */
double answer_recall(const reco_bank *bank, float recall);
/* The servers whose rows are missing from answers at present: ["HOST:PORT/DATABASE", ...]. */
json_t *answer_missing(const reco_bank *bank);
/* Flags for json_dumps: a user's number comes back as it was written, 0.1 and 1732752000.123456 alike. Users' are those below a key
 * "meta", and with `users` all; of ours 15 digits always tell enough. */
size_t answer_digits(const json_t *value, bool users);

#endif
