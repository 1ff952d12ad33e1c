#include "cli.h"

json_t *cli_row(const reco_pair *pair)
{
    json_t *meta = pair->meta ? json_loads(pair->meta, 0, NULL) : NULL;
    return json_pack("{s:I, s:s, s:s?, s:o}", "id", (json_int_t)pair->id, "caption", pair->caption, "uri",
                     pair->uri, "meta", meta ? meta : json_null());
}

void cli_show_row(const reco_pair *pair)
{
    printf("%8lld  %s%s%s%s%s\n", (long long)pair->id, pair->caption, pair->uri ? "  " : "",
           pair->uri ? pair->uri : "", pair->meta ? "  " : "", pair->meta ? pair->meta : "");
}
