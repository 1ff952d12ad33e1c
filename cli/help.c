#include "cli.h"

const char cli_help_text[] =
    "Usage: reco COMMAND ...\nA frozen vision-text model with a memory: retrieve similar pairs and fuse "
    "them into embeddings.\n\n  reco model info|check MODEL                 describe or check a model "
    "folder\n  reco model pull NAME --out DIR              download a model folder from a hub\n  reco "
    "embed --model M --images DIR --out E   embed pictures or captions\n  reco bank "
    "build|add|update|delete|undelete|list|get|export|info|index|compact|merge|verify\n                    "
    "                          build and change banks of image-text pairs\n  reco search --model M --bank "
    "B --text T     find similar pairs in a bank\n  reco train --bank B --out F                 train the "
    "fusion of what is retrieved\n  reco refine --bank B --fusion F ...         refine embeddings that you "
    "store yourself\n  reco classify --model M --bank B ...        classify pictures\n  reco eval --model "
    "M --bank B ...            compare CLIP with and without the memory\n  reco explain --model M --bank B "
    "...         explain an answer on a page\n  reco study CONFIG.toml --out DIR            run a grid of "
    "ablations, with a table and plots\n"
#ifdef RECO_SERVE
    "  reco serve --model M --bank B ...           serve many clients over HTTP, with a web page\n"
#endif
    "\n"
    "Every command has --help with an example, --json and --threads. Exit codes: 0 done, 1 failed, 2 "
    "usage.\n";
