/* How long a connection may do nothing but exist. Sockets are bounded: at the bound the one that has kept its place longest without a
 * whole request goes, so that whoever holds thousands of them, or sends a byte a second, keeps nobody else out. */
#include "connections.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { CONNECTIONS = 12000, LEAST = 16, OTHER_FILES = 256 };

struct serve_connection {
    int fd;
    double since; /* it has waited for its next request to come whole */
    bool reading; /* the headers of that are there */
    bool busy;    /* all of it is */
    serve_connection *next, **link;
};

size_t serve_connections_bound(const serve *s)
{
    struct rlimit limit;
    size_t most = s->opts->connections ? s->opts->connections : CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return most;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    size_t files = limit.rlim_cur < OTHER_FILES + LEAST ? LEAST : (size_t)limit.rlim_cur - OTHER_FILES;
    return files < most ? files : most;
}

/* The socket is closed by libmicrohttpd, once it finds that nothing more comes. */
static void shut_connection(serve_connection *c)
{
    shutdown(c->fd, SHUT_RDWR);
    c->busy = true; /* it is not ended twice */
}

static void make_place(serve *s)
{
    serve_connection *oldest = NULL;
    if (s->nconnections < s->bound) return;
    for (serve_connection *c = s->connections; c; c = c->next)
        if (!c->busy && (!oldest || c->since < oldest->since)) oldest = c;
    if (oldest) shut_connection(oldest);
}

void serve_connection_notify(void *user, struct MHD_Connection *connection, void **state,
                             enum MHD_ConnectionNotificationCode what)
{
    serve *s = user;
    serve_connection *c = *state;
    pthread_mutex_lock(&s->connections_lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        make_place(s);
        *state = c = info ? calloc(1, sizeof *c) : NULL;
        if (c) {
            *c = (serve_connection){.fd = info->connect_fd,
                                    .since = serve_now(),
                                    .next = s->connections,
                                    .link = &s->connections};
            if (c->next) c->next->link = &c->next;
            s->connections = c;
        }
        s->nconnections++;
    } else {
        s->nconnections--;
        if (c) *c->link = c->next;
        if (c && c->next) c->next->link = c->link;
        free(c);
        *state = NULL;
    }
    pthread_mutex_unlock(&s->connections_lock);
}

void serve_connection_is(serve *s, struct MHD_Connection *connection, serve_phase phase)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    serve_connection *c = info ? info->socket_context : NULL;
    if (!c) return;
    pthread_mutex_lock(&s->connections_lock);
    c->reading = phase == SERVE_READING;
    c->busy = phase == SERVE_BUSY;
    c->since = serve_now();
    pthread_mutex_unlock(&s->connections_lock);
}

void serve_connections_sweep(serve *s)
{
    double now = serve_now(), most = serve_idle_seconds(s);
    pthread_mutex_lock(&s->connections_lock);
    for (serve_connection *c = s->connections; c; c = c->next)
        if (!c->busy && now - c->since > (c->reading ? 10 : 1) * most) shut_connection(c);
    pthread_mutex_unlock(&s->connections_lock);
}
