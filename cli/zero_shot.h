/* cli/zero_shot.h: what eval and classify share: a model, a memory, a layer, and classes told by their names. */
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
    bool open;  /* classes may be left out: nclasses is then 0, and embed, refine and vote are not for it */
    cli_readout readout;
    reco_memory memory;
    /* after zero_shot_open */
    reco_model *model;
    reco_bank *bank;
    reco_fusion *fusion;
    reco_bank_filter *filter; /* of --where */
    reco_settings s;          /* of pictures among texts */
    reco_class_list *list;
    const char *const *classes; /* [nclasses] names, of list */
    char **templates;
    size_t nclasses, ntemplates, d;
    reco_sides took;   /* sides on which neighbours take part: none where the layer is `none` */
    bool own;          /* the sides are what training chose */
    json_t **of_class; /* [nclasses] neighbours of its text, once they were asked for */
    /* after zero_shot_embed */
    float *plain, *refined; /* [nclasses][d] */
    size_t reach;           /* neighbours of a picture that are found: those fused, and those that vote */
    int64_t *ids;           /* room for the neighbours of n pictures: [n][reach] */
    float *scores;          /* [n][reach] */
    size_t *counts;         /* [n] */
    uint32_t *of;           /* [n][reach] whose captions the neighbours of pictures have */
    size_t *heard;          /* [n] how many of these vote */
} zero_shot;

static inline bool zero_shot_mixes(const zero_shot *z) { return z->s.mixture.scale[0] > 0; }
static inline bool zero_shot_votes(const zero_shot *z) { return z->s.voters > 0; }

/* --model, --bank, --fusion, --classes, --images, --merge-classes, --templates, --refine, -k, --where as a child parser; its input is the zero_shot. */
extern const struct argp zero_shot_options;

reco_status zero_shot_open(cli *c, zero_shot *z);
/* The classes, by CLIP alone and with the memory; n: pictures to come. */
reco_status zero_shot_embed(cli *c, zero_shot *z, size_t n);
/* Of all pictures, those from `first` on: refined, where their side is, and their neighbours found. */
reco_status zero_shot_refine(cli *c, zero_shot *z, const float *rows, size_t first, size_t n,
                             float *improved);
/* Then, once: which classes the neighbours of the n pictures vote for. */
reco_status zero_shot_vote(cli *c, zero_shot *z, size_t n);
void zero_shot_close(zero_shot *z);
/* What took part in the prediction of a class for a picture: {"image": [...], "text": [...]}, of the sides that were refined;
 * NULL when a row cannot be read. */
json_t *zero_shot_neighbours(cli *c, zero_shot *z, size_t picture, size_t class);
/* "none (training found ...)" of sides that training chose, else their name alone. */
const char *zero_shot_refined(const zero_shot *z);
/* Of pictures in class folders: the name of the folder, to be freed; NULL where there is none between root and file. */
char *zero_shot_folder(const char *root, const char *path);

#endif
