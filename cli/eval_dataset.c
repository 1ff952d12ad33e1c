/* --dataset: CLIP_benchmark's folder. */
#include "eval.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* DIR/NAME, where it is there. */
static reco_status find_dataset_file(const eval_args *a, const char *name, char **out)
{
    if (asprintf(out, "%s/%s", a->embeddings, name) < 0) {
        *out = NULL;
        return RECO_E_NOMEM;
    }
    if (access(*out, F_OK) == 0) return RECO_OK;
    free(*out);
    *out = NULL;
    return RECO_OK;
}

static reco_status read_type(eval_args *a)
{
    char *path, line[64] = "";
    reco_status status = find_dataset_file(a, "dataset_type.txt", &path);
    FILE *file = path ? fopen(path, "re") : NULL;
    if (file && fgets(line, sizeof line, file)) line[strcspn(line, " \t\r\n")] = 0;
    if (file) fclose(file);
    free(path);
    if (strcasecmp(line, "retrieval") == 0) a->retrieval = true;
    return status;
}

reco_status eval_dataset(eval_args *a)
{
    zero_shot *z = &a->z;
    reco_status status = read_type(a);
    if (status != RECO_OK || a->retrieval) return status;
    if (!z->class_file) {
        status = find_dataset_file(a, "classnames.txt", &a->own[0]);
        z->class_file = a->own[0];
        if (status == RECO_OK && !z->class_file) {
            cli_error("%s: has no classnames.txt, and --classes is missing", a->embeddings);
            status = RECO_E_NOTFOUND;
        }
    }
    if (status == RECO_OK && !z->template_file) {
        status = find_dataset_file(a, "zeroshot_classification_templates.txt", &a->own[1]);
        z->template_file = a->own[1];
    }
    return status;
}
