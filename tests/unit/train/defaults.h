/* RECO_TRAIN_OPTS_INIT but for the layer, as the beginning of an initialiser. */
#define DEFAULTS                                                                                           \
    .weight_decay = NAN, .warmup = NAN, .clip = NAN, .neighbour_dropout = NAN, .min_similarity = -1,       \
    .sides = RECO_SIDES_DEFAULT
