/* --details: one line per picture. */
#include "eval.h"

#include <stdlib.h>

static json_t *top_json(const eval_args *a, const int64_t *top)
{
    json_t *list = json_array();
    for (int j = 0; j < EVAL_TOP && top[j] >= 0; j++)
        json_array_append_new(list, cli_text(zero_shot_name(&a->z, (size_t)top[j])));
    return list;
}

static reco_status write_rows(cli *c, eval_args *a, const eval_question *q, const eval_method *clip,
                              const eval_method *reco, FILE *file)
{
    for (size_t i = 0; i < q->n; i++) {
        const int64_t *answer = reco->top + i * EVAL_TOP;
        json_t *found = zero_shot_neighbours(c, &a->z, i, (size_t)answer[0]);
        if (!found) return RECO_E_FORMAT; /* the context has the reason */
        json_t *row = json_pack("{s:o, s:o, s:o, s:o, s:o}", "image", cli_text(q->places[i]), "label",
                                cli_text(zero_shot_name(&a->z, q->labels[i])), "clip",
                                top_json(a, clip->top + i * EVAL_TOP), "reco", top_json(a, answer),
                                "neighbours", found);
        if (!row) return RECO_E_NOMEM;
        json_dumpf(row, file, JSON_COMPACT | JSON_REAL_PRECISION(6));
        fputc('\n', file);
        json_decref(row);
    }
    return RECO_OK;
}

reco_status eval_write_details(cli *c, eval_args *a, const eval_question *q, const eval_method *clip,
                               const eval_method *reco)
{
    cli_file file;
    reco_status status = cli_file_begin(&file, a->details);
    if (status == RECO_OK) status = write_rows(c, a, q, clip, reco, file.out);
    return cli_file_end(&file, status);
}
