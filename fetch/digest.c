#include "fetch/internal.h"

#include <openssl/evp.h>

#define BLOCK ((size_t)1 << 20)

static void hex(char *out, const unsigned char *digest, unsigned n)
{
    for (unsigned i = 0; i < n; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* git hashes "blob SIZE", a NUL and the content. */
reco_status reco_digest_file(reco_ctx *ctx, const char *path, char sha256[65], char git[41])
{
    reco_map map;
    RECO_TRY(reco_map_open(ctx, &map, path));
    reco_status status = RECO_E_NOMEM;
    char head[64];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n;
    EVP_MD_CTX *sha = EVP_MD_CTX_new(), *blob = EVP_MD_CTX_new();
    if (!sha || !blob) goto out;
    status = RECO_OK;
    int length = snprintf(head, sizeof head, "blob %zu", map.bytes);
    bool good = (!sha256 || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1) &&
                (!git || (EVP_DigestInit_ex(blob, EVP_sha1(), NULL) == 1 &&
                          EVP_DigestUpdate(blob, head, (size_t)length + 1) == 1));
    for (size_t at = 0, got = 0; good && at < map.bytes; at += got) {
        const unsigned char *block = (const unsigned char *)map.data + at;
        got = reco_min(BLOCK, map.bytes - at);
        good = (!sha256 || EVP_DigestUpdate(sha, block, got) == 1) &&
               (!git || EVP_DigestUpdate(blob, block, got) == 1);
    }
    if (good && sha256 && (good = EVP_DigestFinal_ex(sha, digest, &n) == 1)) hex(sha256, digest, n);
    if (good && git && (good = EVP_DigestFinal_ex(blob, digest, &n) == 1)) hex(git, digest, n);
    if (!good) status = reco_fail(ctx, RECO_E_INTERNAL, "%s: libcrypto refuses to hash", path);
out:
    EVP_MD_CTX_free(sha);
    EVP_MD_CTX_free(blob);
    reco_map_close(&map);
    return status;
}
