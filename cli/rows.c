#include "cli.h"

json_t *cli_row(const reco_pair *pair)
{
    json_t *meta = pair->meta ? json_loads(pair->meta, 0, NULL) : NULL;
    return json_pack("{s:I, s:s, s:s?, s:o}", "id", (json_int_t)pair->id, "caption", pair->caption, "uri",
                     pair->uri, "meta", meta ? meta : json_null());
}

void cli_put(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c == '\n')
            fputs("\\n", stdout);
        else if (*c < 0x20 || *c == 0x7f)
            printf("\\x%02x", *c);
        else
            putchar(*c);
}

void cli_show_row(const reco_pair *pair)
{
    const char *const rest[] = {pair->uri, pair->meta};
    printf("%8lld  ", (long long)pair->id);
    cli_put(pair->caption);
    for (int i = 0; i < 2; i++) {
        if (!rest[i]) continue;
        fputs("  ", stdout);
        cli_put(rest[i]);
    }
    putchar('\n');
}
