/* server/connections.h: sockets, and how long each may do nothing. */
#ifndef RECO_SERVER_CONNECTIONS_H
#define RECO_SERVER_CONNECTIONS_H

#include "internal.h"

#include <microhttpd.h>

typedef enum serve_phase { SERVE_IDLE, SERVE_READING, SERVE_BUSY } serve_phase;

/* How many connections there may be; as many descriptors are made possible. */
size_t serve_connections_bound(const serve *s);
/* A MHD_NotifyConnectionCallback. */
void serve_connection_notify(void *s, struct MHD_Connection *connection, void **state,
                             enum MHD_ConnectionNotificationCode what);
/* Between requests or at its headers; at the body; with a request that is there whole. */
void serve_connection_is(serve *s, struct MHD_Connection *connection, serve_phase phase);

/* http.c: what libmicrohttpd calls for each piece of a request, and once it is over. */
enum MHD_Result serve_handle(void *s, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *data, size_t *size,
                             void **state);
void serve_completed(void *s, struct MHD_Connection *connection, void **state,
                     enum MHD_RequestTerminationCode why);

#endif
