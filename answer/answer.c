#include "answer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *answer_row(const reco_pair *pair)
{
    json_t *meta = pair->meta ? json_loads(pair->meta, 0, NULL) : NULL;
    return json_pack("{s:I, s:s, s:s?, s:o}", "id", (json_int_t)pair->id, "caption", pair->caption, "uri",
                     pair->uri, "meta", meta ? meta : json_null());
}

json_t *answer_score(float score)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)score);
    return json_real(strtod(text, NULL));
}

/* Do 15 digits tell every number of the user's? */
static bool is_short(const json_t *value, bool users)
{
    if (users && json_is_real(value)) {
        char text[32];
        double number = json_real_value(value);
        snprintf(text, sizeof text, "%.15g", number);
        return !(strtod(text, NULL) < number) && !(strtod(text, NULL) > number);
    }
    const char *key;
    json_t *member;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (!is_short(member, users || strcmp(key, "meta") == 0)) return false;
    }
    json_array_foreach(value, i, member)
    {
        if (!is_short(member, users)) return false;
    }
    return true;
}

size_t answer_digits(const json_t *value, bool users)
{
    return is_short(value, users) ? JSON_REAL_PRECISION(15) : 0;
}

double answer_recall(const reco_bank *bank, float recall)
{
    const reco_search_opts opts = {.recall = recall};
    float among[2] = {reco_bank_expected_recall(bank, RECO_IMAGE, &opts),
                      reco_bank_expected_recall(bank, RECO_TEXT, &opts)};
    return round(1e6 * (double)(among[0] < among[1] ? among[0] : among[1])) / 1e6;
}

json_t *answer_missing(const reco_bank *bank)
{
    json_t *list = json_array();
    const char *name;
    for (size_t i = 0; (name = reco_bank_missing_shard(bank, i)) != NULL; i++)
        json_array_append_new(list, json_string(name));
    return list;
}
