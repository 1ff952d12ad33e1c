/* Which addresses are of the public Internet (IANA's registries of special-purpose addresses, RFC 6890 and its updates). */
#include "fetch/internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static bool is_special(uint32_t address)
{
    static const struct {
        uint32_t from;
        int bits;
    } blocks[] = {{0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},  {0xA9FE0000, 16},
                  {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24}, {0xC0586300, 24}, {0xC0A80000, 16},
                  {0xC6120000, 15}, {0xC6336400, 24}, {0xCB007100, 24}, {0xE0000000, 3}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if ((address ^ blocks[i].from) >> (32 - blocks[i].bits) == 0) return true;
    return false;
}

bool reco_address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return !is_special(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
    if (address->sa_family != AF_INET6) return false;
    const unsigned char *a = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr;
    if (a[0] >> 5 != 1) return false;                           /* 2000::/3 is what is global */
    if (a[0] == 0x20 && a[1] == 0x02) return false;             /* 6to4, which may lead to any IPv4 */
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] < 2) return false; /* 2001::/23: Teredo and the like */
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) return false; /* documentation */
    return !(a[0] == 0x3f && a[1] == 0xff && a[2] < 0x10);                          /* likewise */
}
