/* server/page.h: the files of page/, as the build puts them into the program. */
#ifndef RECO_SERVER_PAGE_H
#define RECO_SERVER_PAGE_H

#include <stddef.h>

typedef struct serve_file {
    const char *name;
    const void *data;
    size_t bytes;
    const char *etag;
} serve_file;
extern const serve_file serve_files[];
extern const size_t serve_nfiles;

#endif
