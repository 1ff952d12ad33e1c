/* text/builtin.h: clip_merges.txt as a string; embed.py makes the definition. */
#ifndef RECO_SRC_BUILTIN_H
#define RECO_SRC_BUILTIN_H

extern const char reco_clip_merges[];

#endif
