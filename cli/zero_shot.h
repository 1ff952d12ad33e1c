/* cli/zero_shot.h: what eval, classify and explain share: a model, a memory, a layer, and classes told by their names. */
#ifndef RECO_CLI_ZERO_SHOT_H
#define RECO_CLI_ZERO_SHOT_H

#include "cli.h"

#define ZERO_SHOT_MOST 64

typedef struct zero_shot {
    const char *model_dir, *bank_dir, *fusion_name, *class_file, *template_file, *where,
        *images; /* as given */
    const char *banks[ZERO_SHOT_MOST],
        *fusions[ZERO_SHOT_MOST]; /* all that were given; the last is the one above */
    size_t ks[ZERO_SHOT_MOST], nbanks, nfusions, nks;
    bool
        embedded; /* pictures, and what they are asked among, come as embeddings: no model and no classes are needed */
    bool merge; /* classes of one name */
    bool open;  /* classes may be left out */
    cli_readout readout;
    /* after zero_shot_open */
    reco_model *model;
    reco_class_list *list;
    char **templates;
    size_t ntemplates;
    reco_candidates among; /* the classes; none: n is 0 */
    /* after zero_shot_remember */
    reco_memory memory; /* k and sides are those of the options before */
    reco_bank *bank;
    reco_fusion *fusion;
    reco_bank_filter *filter; /* of --where */
    reco_settings s;          /* of pictures among texts */
    reco_sides took;          /* sides on which neighbours take part: none where the layer is `none` */
    bool own;                 /* the sides are what training chose */
    reco_classifier *classifier;
    json_t **of_class; /* [among.n] neighbours of its text, once they were asked for */
    /* after zero_shot_ask */
    const float *asked; /* [n][d] the pictures as they came */
    reco_findings found;
} zero_shot;

static inline bool zero_shot_mixes(const zero_shot *z) { return z->s.mixture.scale[0] > 0; }
/* What CLIP alone says, and what the refined cosines say. */
extern const reco_mixture zero_shot_clip, zero_shot_cosines;

/* --model, --bank, --fusion, --classes, --images, --merge-classes, --templates, --refine, -k, --where as a child parser; its input is the zero_shot. */
extern const struct argp zero_shot_options;

/* The model, and the classes where there are any. */
reco_status zero_shot_open(cli *c, zero_shot *z);
/* Classes that are one become one, or an error that says how. */
reco_status zero_shot_settle(cli *c, zero_shot *z, bool merge);
reco_status zero_shot_templates(cli *c, zero_shot *z);
/* A memory, and the classes refined with it; forget it before another one. */
reco_status zero_shot_remember(cli *c, zero_shot *z, const char *bank, const char *fusion, size_t k,
                               cli_readout *readout);
void zero_shot_forget(zero_shot *z);
/* What is known of n pictures. texts as of reco_classifier_ask. */
reco_status zero_shot_ask(cli *c, zero_shot *z, const float *rows, const float *texts, size_t n);
void zero_shot_close(zero_shot *z);
const char *zero_shot_name(const zero_shot *z, size_t class); /* "" where nobody says */
/* What took part in the prediction of a class for a picture: {"image": [...], "text": [...]}, of the sides that were refined;
 * NULL when a row cannot be read. */
json_t *zero_shot_neighbours(cli *c, zero_shot *z, size_t picture, size_t class);
/* "none (training found ...)" of sides that training chose, else their name alone. */
const char *zero_shot_refined(const zero_shot *z);
/* Of pictures in class folders: the name of the folder, to be freed; NULL where there is none between root and file. */
char *zero_shot_folder(const char *root, const char *path);

#endif
