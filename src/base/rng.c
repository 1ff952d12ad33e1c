/* xoshiro256** by Blackman and Vigna, public domain algorithm; seeded with splitmix64 as its authors advise. */
#include "base/base.h"

#include <math.h>

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void reco_rng_seed(reco_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) rng->s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t reco_rng_next(reco_rng *rng)
{
    uint64_t *s = rng->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

size_t reco_rng_below(reco_rng *rng, size_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = reco_rng_next(rng);
    while (x >= limit);
    return (size_t)(x % n);
}

double reco_rng_uniform(reco_rng *rng) { return (double)(reco_rng_next(rng) >> 11) * 0x1p-53; }

double reco_rng_normal(reco_rng *rng)
{
    double u = 1.0 - reco_rng_uniform(rng), v = reco_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void reco_rng_shuffle(reco_rng *rng, uint32_t *items, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = reco_rng_below(rng, i);
        uint32_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}
