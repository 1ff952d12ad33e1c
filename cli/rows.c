#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void cli_put(const char *text)
{
    int control;
    for (size_t left = strlen(text), n; left; text += n, left -= n) {
        n = reco_text_next(text, left, &control);
        const unsigned char *c = (const unsigned char *)text;
        if (!control)
            fwrite(text, 1, n, stdout);
        else if (*text == '\n')
            fputs("\\n", stdout);
        else if (n == 1)
            printf("\\x%02x", *c);
        else if (n < 4)
            printf("\\u%04x", n == 2 ? (*c & 0x1fU) << 6 | (c[1] & 0x3fU)
                                     : (*c & 0xfU) << 12 | (c[1] & 0x3fU) << 6 | (c[2] & 0x3fU));
        else
            fputs("\\ufffd", stdout);
    }
}

void cli_say(const char *format, ...)
{
    char *line;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0) return;
    reco_text_clean(line);
    puts(line);
    free(line);
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
