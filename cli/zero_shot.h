/* cli/zero_shot.h: what eval and classify share: a model, a memory, a layer, and classes told by their names. */
#ifndef RECO_CLI_ZERO_SHOT_H
#define RECO_CLI_ZERO_SHOT_H

#include "cli.h"

typedef struct zero_shot {
    const char *model_dir, *bank_dir, *fusion_name, *class_file, *template_file, *where; /* as given */
    reco_sides sides; /* RECO_SIDES_DEFAULT: the layer's own */
    reco_refine_opts refine;
    /* after zero_shot_open */
    reco_model *model;
    reco_bank *bank;
    reco_fusion *fusion;
    reco_bank_filter *filter; /* of --where; refine holds it too */
    char **classes, **templates;
    size_t nclasses, ntemplates, d, k;
    /* after zero_shot_embed */
    float *plain, *refined; /* [nclasses][d] */
    int64_t *ids;           /* room for the neighbours of n pictures: [n][k] */
    float *scores;          /* [n][k] */
    size_t *counts;         /* [n] */
} zero_shot;

/* --model, --bank, --fusion, --classes, --templates, --refine, -k, --where as a child parser; its input is the zero_shot. */
extern const struct argp zero_shot_options;

reco_status zero_shot_open(cli *c, zero_shot *z);
/* The classes, by CLIP alone and with the memory; n: pictures to come. */
reco_status zero_shot_embed(cli *c, zero_shot *z, size_t n);
void zero_shot_close(zero_shot *z);
/* What was retrieved for a picture, as an array of objects; NULL when a row cannot be read. */
json_t *zero_shot_neighbours(cli *c, const zero_shot *z, size_t picture);

#endif
