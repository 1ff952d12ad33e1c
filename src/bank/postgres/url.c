#include "bank/postgres/postgres.h"

int reco_bank_is_server(const char *path)
{
    return strncmp(path, "postgresql://", 13) == 0 || strncmp(path, "postgres://", 11) == 0;
}

const char *reco_pg_url_end(const char *url)
{
    const char *end = strchr(url, ',');
    while (end && !reco_bank_is_server(end + 1)) end = strchr(end + 1, ',');
    return end ? end : url + strlen(url);
}
