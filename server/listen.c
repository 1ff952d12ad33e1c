/* Where the server listens, and with which limits. */
#include "connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { SPARE = 64 }; /* connections that are just being ended */

/* The address to listen on. */
static bool resolve(const serve_opts *o, struct sockaddr_storage *at, char *error)
{
    char port[8];
    snprintf(port, sizeof port, "%u", o->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    int bad = getaddrinfo(o->host ? o->host : "127.0.0.1", port, &hints, &found);
    if (bad) {
        snprintf(error, SERVE_ERROR_BYTES, "--listen: \"%s\": %s", o->host, gai_strerror(bad));
        return false;
    }
    memcpy(at, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static bool is_local(const struct sockaddr_storage *at)
{
    if (at->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)at)->sin_addr.s_addr) >> 24 == 127;
    return at->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)at)->sin6_addr);
}

static char *read_pem(const char *path, char *error)
{
    FILE *in = fopen(path, "r");
    char *text = calloc(1, 1 << 20);
    size_t n = in && text ? fread(text, 1, (1 << 20) - 1, in) : 0;
    if (in) fclose(in);
    if (n) return text;
    snprintf(error, SERVE_ERROR_BYTES, "%s cannot be read", path);
    free(text);
    return NULL;
}

reco_status serve_listen(serve *s, struct MHD_Daemon **daemon, char *error)
{
    const serve_opts *o = s->opts;
    struct sockaddr_storage at = {0};
    char *cert = NULL, *key = NULL;
    reco_status status = RECO_E_ARG;
    if (!resolve(o, &at, error)) return status;
    if (!is_local(&at) && !o->token_file) {
        snprintf(error, SERVE_ERROR_BYTES,
                 "other machines can reach %s (--listen), so --token-file is required", o->host);
        return status;
    }
    s->bound = serve_connections_bound(s);
    if (o->cert && (!(cert = read_pem(o->cert, error)) || !(key = read_pem(o->key, error)))) goto out;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (cert ? MHD_USE_TLS : 0U) |
                     (at.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0U);
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, key},
                                   {MHD_OPTION_END, 0, NULL}};
    *daemon = MHD_start_daemon(
        flags, (uint16_t)o->port, NULL, NULL, serve_handle, s, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at,
        MHD_OPTION_NOTIFY_COMPLETED, serve_completed, s, MHD_OPTION_NOTIFY_CONNECTION,
        serve_connection_notify, s, MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->bound + SPARE,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ceil(serve_idle_seconds(s)),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536, MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024U,
        MHD_OPTION_ARRAY, cert ? tls : &tls[2], MHD_OPTION_END);
    status = *daemon ? RECO_OK : RECO_E_IO;
    if (!*daemon)
        snprintf(error, SERVE_ERROR_BYTES, "cannot listen on %s:%u: %s", o->host ? o->host : "127.0.0.1",
                 o->port, strerror(errno));
out:
    free(cert); /* it has copies of its own */
    free(key);
    return status;
}
