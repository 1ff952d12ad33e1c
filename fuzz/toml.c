/* A configuration is refused or read, and then every entry has its key, its value and a line of the file. */
#include "io/toml.h"
#include "io_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    reco_toml toml;
    if (reco_toml_read(fuzz_ctx(), &toml, fuzz_file(".toml", data, bytes)) == RECO_OK)
        for (size_t i = 0; i < toml.n; i++) {
            const reco_toml_entry *e = &toml.entries[i];
            if (!e->table || !e->key || !e->value || e->line == 0 || e->line > bytes) abort();
        }
    reco_toml_free(&toml);
    return 0;
}
