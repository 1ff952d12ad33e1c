#include "io/internal.h"

#define XXH_STATIC_LINKING_ONLY /* for the size of XXH3_state_t */
#include <unistd.h>
#include <xxhash.h>

#define BLOCK ((size_t)1 << 20)

struct reco_hash {
    XXH3_state_t state;
};

uint64_t reco_hash64(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

void reco_hash128(const void *data, size_t bytes, unsigned char out[16])
{
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(data, bytes));
    memcpy(out, digest.digest, sizeof digest.digest);
}

reco_status reco_hash_new(reco_ctx *ctx, reco_hash **out)
{
    *out = reco_alloc(ctx, 1, sizeof **out, "hash");
    if (!*out) return RECO_E_NOMEM;
    XXH3_128bits_reset(&(*out)->state);
    return RECO_OK;
}

void reco_hash_update(reco_hash *h, const void *data, size_t bytes)
{
    if (bytes) XXH3_128bits_update(&h->state, data, bytes);
}

void reco_hash_hex(reco_hash *h, char hex[33])
{
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&h->state));
    for (size_t i = 0; i < sizeof digest.digest; i++) snprintf(hex + 2 * i, 3, "%02x", digest.digest[i]);
    reco_free(h);
}

reco_status reco_hash_file(reco_ctx *ctx, const char *path, char hex[33])
{
    int fd;
    hex[0] = 0;
    RECO_TRY(reco_io_open(ctx, &fd, NULL, path, false));
    reco_status status = RECO_E_NOMEM;
    reco_hash *h = NULL;
    uint8_t *block = reco_alloc(ctx, BLOCK, 1, "file buffer");
    if (!block) goto out;
    RECO_GO(reco_hash_new(ctx, &h));
    for (size_t got = 1; got;) {
        RECO_GO(reco_io_read(ctx, fd, block, BLOCK, &got, path));
        reco_hash_update(h, block, got);
    }
    reco_hash_hex(h, hex);
    h = NULL;
out:
    reco_free(h);
    reco_free(block);
    close(fd);
    return status;
}
