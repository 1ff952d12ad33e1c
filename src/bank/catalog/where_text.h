/* bank/catalog/where_text.h: the text of a condition, split into tokens, and rewritten so that comparisons can be
 * watched while it runs. */
#ifndef RECO_SRC_BANK_WHERE_TEXT_H
#define RECO_SRC_BANK_WHERE_TEXT_H

#include "bank/catalog/sqlite.h"

typedef enum reco_token_kind {
    RECO_TOKEN_WORD,   /* a name or keyword, or a name in quotes */
    RECO_TOKEN_STRING, /* 'x', x'00' */
    RECO_TOKEN_NUMBER,
    RECO_TOKEN_MARK /* anything else */
} reco_token_kind;

typedef struct reco_token {
    const char *at;
    uint32_t bytes;
    uint32_t match; /* of ( ) and CASE END: its other half; else its own number */
    uint8_t kind, level;
    uint16_t guards, ends; /* reco_guard() to be written from here on, up to here */
} reco_token;

/* A comparison that may meet a text with a number. Ranges of tokens, ends not included. */
typedef struct reco_comparison {
    uint32_t from, to;                    /* all of it */
    uint32_t left[2], right[2], upper[2]; /* upper: of BETWEEN, else empty */
    bool by_letters; /* one side is a text column: numbers are compared with it as texts */
    bool text_left;  /* which side was the text, when it was met */
    uint64_t met;    /* how often one was a text and the other a number */
} reco_comparison;

typedef struct reco_where_text reco_where_text;
struct reco_where_text {
    const char *text;
    reco_token *tokens;
    size_t n;
    size_t values; /* at most so many may be held at once */
    reco_comparison *comparisons;
    size_t ncomparisons;
};

/* Cut and check; RECO_E_ARG says what a condition must not hold. Free it whatever this returns. */
reco_status reco_where_cut(reco_ctx *ctx, reco_where_text *w, const char *where);
void reco_where_free(reco_where_text *w);
/* Find the comparisons and what is to be guarded. (where_compare.c) */
reco_status reco_where_compare(reco_ctx *ctx, reco_where_text *w);
/* The condition with reco_guard(X) for every X that can make a function slow, and with reco_note(N, LEFT, RIGHT, UPPER) AND
 * (...) around comparison N. NULL: no memory. */
char *reco_where_rewrite(const reco_where_text *w, bool notes);
/* Say of each comparison that met a text with a number what is wrong and how to put it right; how many there are. */
size_t reco_where_doubts(reco_ctx *ctx, const reco_where_text *w);

/* where_column.c: note in g->missing the name in SQLite's message, where that is of a column that there is none of. */
void reco_where_missing(reco_where_guard *g, const char *message);
/* Has any row a value of this name in its meta? */
reco_status reco_where_is_column(reco_ctx *ctx, reco_catalog *c, const char *name, bool *is);
/* The condition with json_extract(meta, '$."NAME"') for this name; free with reco_free. NULL: it does not stand there, or no memory. */
char *reco_where_extract(reco_ctx *ctx, const reco_where_text *w, const char *name);

/* Is it this word, quoted or not? */
bool reco_token_is(const reco_token *t, const char *word);

#endif
