/* A document is refused or loads, and never exhausts the stack. */
#include "io_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    json_t *json;
    if (reco_json_load(fuzz_ctx(), &json, fuzz_file(".json", data, bytes)) == RECO_OK) json_decref(json);
    return 0;
}
