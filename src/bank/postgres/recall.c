/* What the servers' indexes were measured to find, and what a search sets so that they find it. */
#include "bank/postgres/pg.h"

#include <math.h>

#define KINDS 2
static const struct {
    const char *begin, *setting;
    int most;
} kinds[KINDS] = {{"hnsw ", "ef_search", 1000}, {"ivfflat ", "probes", 32768}};

static int kind_of(const char *index)
{
    for (int i = 0; i < KINDS; i++)
        if (strncmp(index, kinds[i].begin, strlen(kinds[i].begin)) == 0) return i;
    return 0;
}

const char *pg_setting_name(const char *index) { return kinds[kind_of(index)].setting; }

/* The first that reaches it; 0: none does. Lowers *reached to what was measured there. */
static int first_of(const pg_points *p, float recall, int depth, float *reached)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->at[i].recall[depth] >= recall - 1e-6f) {
            *reached = fminf(*reached, p->at[i].recall[depth]);
            return p->at[i].setting;
        }
    return 0;
}

int pg_plan(const reco_bank *bank, reco_side side, const reco_search_opts *opts, float *reached)
{
    const pg_recalls *r = &pg_of(bank)->recalls;
    const size_t depth = opts->k + opts->nexclude;
    float recall = opts->recall > 0 ? opts->recall : bank->recall > 0 ? bank->recall : r->wanted;
    int setting = 0;
    *reached = 1;
    /* Of rows that a filter leaves, an index may find none. */
    if (recall >= 1 || opts->filter || depth > PG_DEPTH_MANY) return 0;
    for (reco_side asked = 0; asked < 2; asked++) {
        if (opts->asked != RECO_ASKED_EITHER && opts->asked != (reco_asked)(asked + 1)) continue;
        const pg_points *p = &r->points[side][asked];
        float least = 1, t = (float)fmax(0, log10((double)depth / PG_DEPTH_FEW));
        int few = first_of(p, recall, 0, &least), many = t > 0 ? first_of(p, recall, 1, &least) : few;
        if (!few || !many) return *reached = 1, 0;
        if (many > few) few += (int)ceilf(t * (float)(many - few));
        if (few > setting) setting = few;
        *reached = fminf(*reached, least);
    }
    /* An HNSW index gives no more rows than this. */
    return kind_of(r->index[side]) ? setting
                                   : (int)reco_min(1000, reco_max((size_t)setting, depth + PG_MARGIN));
}

float pg_expected(const reco_bank *bank, reco_side side, const reco_search_opts *opts)
{
    float reached;
    pg_plan(bank, side, opts, &reached);
    return reached;
}

size_t pg_table(const reco_bank *bank, reco_side side, reco_asked asked, reco_recall_point *points,
                size_t max)
{
    const pg_recalls *r = &pg_of(bank)->recalls;
    const pg_points *p = &r->points[side][asked == RECO_ASKED_EITHER ? side : (reco_side)(asked - 1)];
    size_t n = 0;
    for (; n < p->n && n < max; n++)
        points[n] = (reco_recall_point){p->at[n].recall[0], (float)p->at[n].setting, 0};
    return n;
}

/* ---- as they are kept ---- */

json_t *pg_pack_recalls(const pg_recalls *r)
{
    json_t *all = json_pack("{s:f, s:I}", "recall", (double)r->wanted, "rows", (json_int_t)r->rows);
    for (reco_side side = 0; side < 2; side++) {
        json_t *of = *r->index[side] ? json_pack("{s:s}", "index", r->index[side]) : NULL;
        for (int asked = 0; of && asked < 2; asked++) {
            json_t *list = json_array();
            const pg_points *p = &r->points[side][asked];
            for (size_t i = 0; i < p->n; i++)
                json_array_append_new(list,
                                      json_pack("[i, f, f]", p->at[i].setting, (double)p->at[i].recall[0],
                                                (double)p->at[i].recall[1]));
            json_object_set_new(of, pg_side_names[asked], list);
        }
        if (of) json_object_set_new(all, pg_side_names[side], of);
    }
    return all;
}

static bool read_points(const json_t *list, int most, pg_points *p)
{
    for (size_t i = 0; i < json_array_size(list) && i < PG_POINTS; i++) {
        const json_t *point = json_array_get(list, i);
        json_int_t setting = json_integer_value(json_array_get(point, 0));
        p->at[i].setting = (int)setting;
        for (size_t depth = 0; depth < 2; depth++)
            p->at[i].recall[depth] = (float)json_number_value(json_array_get(point, depth + 1));
        if (setting < 1 || setting > most || !(p->at[i].recall[0] >= 0 && p->at[i].recall[0] <= 1) ||
            !(p->at[i].recall[1] >= 0 && p->at[i].recall[1] <= 1) || (i && setting <= p->at[i - 1].setting))
            return false;
        p->n++;
    }
    return p->n > 0;
}

void pg_read_recalls(const json_t *all, pg_recalls *r)
{
    *r = (pg_recalls){.wanted = (float)json_number_value(json_object_get(all, "recall")),
                      .rows = json_integer_value(json_object_get(all, "rows"))};
    bool good = r->wanted > 0 && r->wanted <= 1 && r->rows > 0;
    for (int side = 0; good && side < 2; side++) {
        const json_t *of = json_object_get(all, pg_side_names[side]);
        const char *index = json_string_value(json_object_get(of, "index"));
        if (!index) continue;
        snprintf(r->index[side], sizeof r->index[side], "%s", index);
        for (int asked = 0; asked < 2; asked++)
            good &= read_points(json_object_get(of, pg_side_names[asked]), kinds[kind_of(index)].most,
                                &r->points[side][asked]);
    }
    if (!good) *r = (pg_recalls){0}; /* not ours, or damaged: searches are exact */
}

bool pg_is_index(const pg_set *set, reco_side side, const char *index)
{
    for (size_t i = 0; i < set->n; i++)
        if (!set->shards[i].failed && strcmp(set->shards[i].index[side], index) != 0) return false;
    return true;
}

void pg_settle_recalls(reco_ctx *ctx, const pg_set *set, pg_recalls *r, reco_bank_info *info)
{
    for (reco_side side = 0; side < 2; side++) {
        const char *name = pg_side_names[side];
        if (!*r->index[side]) continue;
        if (!pg_is_index(set, side, r->index[side])) {
            reco_log(ctx, RECO_LOG_WARN,
                     "the recall of reco_pair.%s was measured with index %s, which is not on every server "
                     "now; searching all rows until reco bank index measures it again",
                     name, r->index[side]);
            r->points[side][0].n = r->points[side][1].n = 0;
            continue;
        }
        if (info->rows > 2 * r->rows)
            reco_log(
                ctx, RECO_LOG_WARN,
                "the recall of reco_pair.%s was measured with %lld rows, there are %lld now; run reco bank "
                "index again",
                name, (long long)r->rows, (long long)info->rows);
        snprintf(info->index_setting[side], sizeof info->index_setting[side], "%s",
                 pg_setting_name(r->index[side]));
        info->list_rows = info->rows;
        info->list_recall = r->wanted;
    }
}
