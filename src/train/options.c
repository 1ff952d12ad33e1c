#include "train/train_internal.h"

#include <math.h>

/* Above this, a caption or two is not what decides, and the paper's layer has enough to learn from. */
#define MANY_PAIRS 100000

static reco_status out_of_range(reco_ctx *ctx, const char *what, double value, double low, double high)
{
    return reco_fail(ctx, RECO_E_ARG, "train: %s = %g, want %g..%g", what, value, low, high);
}

static reco_status check_range(reco_ctx *ctx, const char *what, double value, double low, double high)
{
    return value >= low && value <= high ? RECO_OK : out_of_range(ctx, what, value, low, high);
}

/* More neighbours than there are would be slots that stay empty, each paid for in every step. */
static void cap_k(reco_ctx *ctx, reco_train_opts *o, size_t rows)
{
    if (o->k <= rows) return;
    reco_log(ctx, RECO_LOG_WARN,
             "train: k = %zu is lowered to %zu, the number of neighbours that the bank can supply", o->k,
             rows);
    o->k = rows;
}

reco_status reco_train_resolve(reco_ctx *ctx, reco_train_opts *o, size_t n, size_t d, size_t rows)
{
    RECO_TRY(reco_reserved_of(ctx, "train", o->reserved, RECO_RESERVED - 1));
    if (o->layer == RECO_LAYER_DEFAULT)
        o->layer = n < MANY_PAIRS ? RECO_LAYER_RELATIONAL : RECO_LAYER_TRANSFORMER;
    bool transformer = reco_layer_memorises(o->layer); /* the mlp is trained as that is */
    if (o->k == 0) o->k = 10;
    if (o->batch == 0) o->batch = transformer ? 512 : 256;
    o->batch = reco_min(o->batch, n);
    if (o->steps == 0) o->steps = transformer ? reco_max(400, 10 * n / o->batch) : 300;
    if (o->lr == 0) o->lr = transformer ? 1e-3 : 1e-2;
    if (isnan(o->weight_decay)) o->weight_decay = 0.1;
    if (isnan(o->warmup)) o->warmup = 0.05;
    if (isnan(o->clip)) o->clip = 1;
    if (isnan(o->neighbour_dropout)) o->neighbour_dropout = transformer ? 0.1 : 0;
    if (o->max_similarity == 0) o->max_similarity = 0.999f;
    if (o->heads == 0) o->heads = 8;
    if (o->layers == 0) o->layers = 1;
    if (o->hidden == 0) o->hidden = 32;
    if (o->mlp == 0) o->mlp = o->layer == RECO_LAYER_MLP ? 6 * d + 2 : 4 * d;
    if (o->search == RECO_MODALITY_DEFAULT) o->search = RECO_UNI;
    if (o->fuse == RECO_MODALITY_DEFAULT) o->fuse = RECO_CROSS;
    if (o->validation == 0) o->validation = 0.2;
    RECO_TRY(check_range(ctx, "k", (double)o->k, 1, 1024));
    if (rows > 0) cap_k(ctx, o, rows);
    RECO_TRY(check_range(ctx, "batch", (double)o->batch, 2, 65536));
    RECO_TRY(check_range(ctx, "steps", (double)o->steps, 1, 1e8));
    RECO_TRY(check_range(ctx, "lr", o->lr, 1e-9, 10));
    RECO_TRY(check_range(ctx, "weight decay", o->weight_decay, 0, 10));
    RECO_TRY(check_range(ctx, "warmup", o->warmup, 0, 1));
    RECO_TRY(check_range(ctx, "clip", o->clip, 0, 1e9));
    RECO_TRY(check_range(ctx, "neighbour dropout", o->neighbour_dropout, 0, 1));
    RECO_TRY(check_range(ctx, "max similarity", (double)o->max_similarity, -1, 10));
    RECO_TRY(check_range(ctx, "recall", (double)o->recall, 0, 1));
    RECO_TRY(check_range(ctx, "min similarity", (double)o->min_similarity, -1, 1));
    RECO_TRY(check_range(ctx, "validation", o->validation, RECO_VALIDATION_MIN, RECO_VALIDATION_MAX));
    RECO_TRY(check_range(ctx, "heads", o->heads, 1, 1024));
    RECO_TRY(check_range(ctx, "layers", o->layers, 1, 64));
    RECO_TRY(check_range(ctx, "mlp", (double)o->mlp, 1, RECO_FUSION_MAX_MLP));
    RECO_TRY(check_range(ctx, "hidden", (double)o->hidden, 1, RECO_FUSION_MAX_HIDDEN));
    RECO_TRY(check_range(ctx, "scale", (double)o->scale, 0, 1e6));
    if (o->layer <= RECO_LAYER_NONE || o->layer > RECO_LAYER_MLP)
        return reco_fail(ctx, RECO_E_ARG,
                         "train: layer = %d, want one that learns, RECO_LAYER_DEFAULT or RECO_LAYER_AUTO",
                         (int)o->layer);
    if (o->search < RECO_UNI || o->search > RECO_CROSS || o->fuse < RECO_UNI || o->fuse > RECO_CROSS)
        return reco_fail(ctx, RECO_E_ARG, "train: search = %d, fuse = %d, want 0..2", (int)o->search,
                         (int)o->fuse);
    if (o->sides < RECO_SIDES_NONE || o->sides > RECO_SIDES_DEFAULT)
        return reco_fail(ctx, RECO_E_ARG, "train: sides = %d, want 0..4", (int)o->sides);
    return RECO_OK;
}
