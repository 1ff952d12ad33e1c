/* --mixture, and how a mixture is shown. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool cli_readout_is_auto(const cli_readout *r) { return !r->how || strcmp(r->how, "auto") == 0; }

void cli_parse_readout(struct argp_state *state, cli_readout *r, const char *arg)
{
    r->how = arg;
    if (strcmp(arg, "auto") == 0 || strcmp(arg, "off") == 0) return;
    char *end;
    r->weights[0] = strtof(arg, &end);
    if (end != arg && *end == ',') {
        const char *second = end + 1;
        r->weights[1] = strtof(second, &end);
        if (end != second && !*end && r->weights[0] >= 0 && r->weights[1] >= 0 &&
            r->weights[0] + r->weights[1] <= 1 + 1e-6f)
            return;
    }
    argp_error(state, "--mixture = %s, want auto, off, or two weights A,B of 0 or more, together at most 1",
               arg);
}

void cli_set_mixture(cli_readout *r, reco_memory *memory, float scale)
{
    memory->mixture = cli_readout_is_auto(r) ? NULL : &r->mixture;
    r->mixture = (reco_mixture){0};
    if (memory->mixture && strcmp(r->how, "off") != 0)
        reco_mixture_of(&r->mixture, memory->fusion, r->weights[0], r->weights[1], scale);
}

void cli_print_mixture(const reco_mixture *m)
{
    float vote = fmaxf(0, 1 - m->clip - m->refined);
    printf("CLIP %.2g, refined %.2g, vote %.2g", (double)m->clip, (double)m->refined,
           (double)(roundf(1e6f * vote) / 1e6f));
}

/* Six digits: weights are tenths, and 0.4 is shown as that. */
json_t *cli_weight(float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", (double)value);
    return json_real(strtod(text, NULL));
}

json_t *cli_mixture(const reco_mixture *m)
{
    if (!(m->scale[0] > 0)) return json_null();
    float vote = 1 - m->clip - m->refined;
    return json_pack("{s:o, s:o, s:o, s:[o, o, o], s:o}", "clip", cli_weight(m->clip), "refined",
                     cli_weight(m->refined), "vote", cli_weight(vote < 1e-6f ? 0 : vote), "scales",
                     cli_weight(m->scale[0]), cli_weight(m->scale[1]), cli_weight(m->scale[2]), "voters",
                     m->voters ? json_integer(m->voters) : json_null());
}
