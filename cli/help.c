#include "cli.h"

const char cli_help_text[] =
    "Usage: reco COMMAND ...\n"
    "A frozen vision-text model with a memory: look things up, fuse what is found.\n"
    "\n"
    "  reco model info|check MODEL                 what a model folder is, what it computes\n"
    "  reco model pull NAME --out DIR              a model folder from a hub\n"
    "  reco embed --model M --images DIR --out E   pictures or captions to embeddings\n"
    "  reco bank build|add|update|delete|undelete|list|get|export|info|index|compact|merge|verify\n"
    "                                              the memory of image-text pairs\n"
    "  reco search --model M --bank B --text T     what the memory holds that is like this\n"
    "  reco train --bank B --out F                 learn to fuse what is retrieved\n"
    "  reco refine --bank B --fusion F ...         embeddings in, refined embeddings out\n"
    "  reco classify --model M --bank B ...        name pictures\n"
    "  reco eval --model M --bank B ...            CLIP and RECO side by side\n"
    "  reco explain --model M --bank B ...         why an answer comes out, as a page\n"
    "  reco study CONFIG.toml --out DIR            a grid of ablations, one table, plots\n"
#ifdef RECO_SERVE
    "  reco serve --model M --bank B ...           answer many clients over HTTP, with a page\n"
#endif
    "\n"
    "Every command has --help with an example, --json and --threads. Exit codes: 0 done, 1 failed, 2 "
    "usage.\n";
