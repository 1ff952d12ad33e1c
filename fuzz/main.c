/* Replays files through a fuzz target, for compilers without libFuzzer and for the tests: each file as it is, cut at every
 * part, and with single bytes changed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { MOST = 1 << 24, CUTS = 40, FLIPS = 200 };

static void replay(const uint8_t *data, size_t bytes)
{
    /* Exactly as large as it claims, so that a sanitizer sees a read past its end. */
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!copy) abort();
    if (bytes) memcpy(copy, data, bytes);
    LLVMFuzzerTestOneInput(copy, bytes);
    free(copy);
}

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(MOST);
    if (!file || !data) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return 1;
    }
    size_t n = fread(data, 1, MOST, file);
    fclose(file);
    replay(data, n);
    for (size_t i = 0; i < CUTS; i++) replay(data, n * i / CUTS);
    uint32_t random = 1;
    for (size_t i = 0; i < FLIPS && n > 0; i++) {
        random = random * 1664525u + 1013904223u;
        size_t at = i < FLIPS / 2 ? i % n : random % n; /* headers first, then anywhere */
        uint8_t kept = data[at];
        data[at] = (uint8_t)(random >> 24);
        replay(data, n);
        data[at] = kept;
    }
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int bad = 0;
    for (int i = 1; i < argc; i++) bad |= replay_file(argv[i]);
    printf("%d files replayed\n", argc - 1);
    return bad || argc < 2;
}
