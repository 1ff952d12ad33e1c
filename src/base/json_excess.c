#include "base/base.h"

#define MAX_DEPTH 100
#define MAX_VALUES 4000000 /* a value of two bytes may cost jansson 250 */

const char *reco_json_excess(const char *text, size_t bytes, size_t *line, size_t *byte)
{
    size_t depth = 0, values = 0;
    bool quoted = false;
    *line = 1;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        *byte = i;
        if (c == '\n') ++*line;
        if (c == '"') quoted = !quoted;
        if (quoted) {
            i += c == '\\';
            continue;
        }
        depth += c == '[' || c == '{';
        depth -= depth && (c == ']' || c == '}');
        values += c == '[' || c == '{' || c == ',';
        if (depth > MAX_DEPTH) return "more than 100 levels deep";
        if (values > MAX_VALUES) return "more than 4000000 values";
    }
    return NULL;
}
