/* cli/cli.h: what the commands share. The command line uses the public headers alone. */
#ifndef RECO_CLI_H
#define RECO_CLI_H

#include "answer.h"

#include "reco/reco.h"

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Options that every command takes, and what runs them. */
typedef struct cli {
    int threads;
    bool json, quiet, strict;
    bool in_order; /* plain arguments come to the parser where they stand, not after all options */
    reco_precision precision;
    bool exif; /* pictures are turned upright */
    reco_ctx *ctx;
    const char *bank;            /* of commands that take BANK through cli_bank */
    reco_bank_open_opts servers; /* through cli_server_options and cli_recall_options */
    double recall; /* the least that a bank opened by cli_open_memory is searched at; 0: none is open */
    double wait;   /* seconds for another writer of a bank; set by who writes */
    uint64_t
        truncated; /* texts of this command that are longer than the model's context, where it counts them itself */
    json_t *failed; /* the first thousand items that were skipped, for --json */
    double shown_at, began_at;
    const char *shown;
    reco_table_opts table; /* of commands that read tables, through cli_table_options */
    bool bar;              /* a progress bar is on the line */
    bool bytes;            /* progress counts bytes */
    /* Of a job of many parts, which is at work, "" for none, and the share that is done: on a terminal the bar is the job's, and
     * elsewhere its parts say nothing. Their information is dropped, and of their warnings each is said once. */
    char within[96];
    double whole;
    json_t *said;
} cli;

/* Each takes argv[0] = "reco COMMAND" and returns the exit code. */
int cmd_model(int argc, char **argv);
int cmd_model_info(int argc, char **argv);
int cmd_model_check(int argc, char **argv);
int cmd_model_pull(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_bank(int argc, char **argv);
int cmd_bank_compact(int argc, char **argv); /* these by cmd_bank */
int cmd_bank_merge(int argc, char **argv);
int cmd_bank_delete(int argc, char **argv);
int cmd_bank_export(int argc, char **argv);
int cmd_bank_get(int argc, char **argv);
int cmd_bank_index(int argc, char **argv);
int cmd_bank_info(int argc, char **argv);
int cmd_bank_list(int argc, char **argv);
int cmd_bank_undelete(int argc, char **argv);
int cmd_bank_verify(int argc, char **argv);
int cmd_search(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_refine(int argc, char **argv);
int cmd_classify(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_study(int argc, char **argv);
int cmd_serve(int argc, char **argv); /* where libmicrohttpd was there */

/* --json, --threads, --quiet as a child parser; its input is the cli. */
extern const struct argp cli_common;
/* The same, and the one plain argument BANK. */
extern const struct argp cli_bank;
/* --precision with --exif, and --strict, likewise. */
extern const struct argp cli_model_options, cli_strict_option;
/* --wait, likewise; sets the default too. */
extern const struct argp cli_wait_option;
/* Of commands that open a bank to search in it by cli_open_memory: what is asked of servers. */
extern const struct argp cli_server_options;
/* Into an answer: the recall of the searches, and which of the bank's servers it lacks, where it may lack some. bank NULL: none is open. */
void cli_tell_search(const cli *c, const reco_bank *bank, json_t *answer);
/* How tables of pairs, and of labels, are read; likewise, into table. */
extern const struct argp cli_table_options, cli_labels_options;
/* A warning when values of the user's columns were lost. */
void cli_table_result(cli *c, const reco_stream_result *r);

/* The library reads no environment; RECO_MAX_ISA is for trying out here what another processor does. false: it is no level, which was
 * said. */
bool cli_capped(reco_isa *isa);
/* Where there is --config FILE, arguments with the options of that file before the others, to be freed where they are not argv itself;
 * NULL: something is wrong with the file, which was said. */
char **cli_configure(const struct argp *argp, int *argc, char **argv);
/* argp_parse, with one line about what is wrong and no password in it. */
int cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input);
/* Parse with `options`; usage errors exit with 2. Then create the context; NULL when that failed. */
bool cli_begin(cli *c, int argc, char **argv, const struct argp *argp, void *input);
/* Print the error if there is one, release; returns the exit code. */
int cli_end(cli *c, reco_status status);
/* One line on stderr: "reco: message". */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Print the object on one line of stdout and release it. */
void cli_print(json_t *value);
/* A JSON string of a name that the user gave, for json_pack's "o": what is not UTF-8 becomes U+FFFD. */
json_t *cli_text(const char *text);
/* A word that may be a bank's path, without what lets into its servers. */
json_t *cli_bank_text(const char *path);
/* A row of a bank as a line of text. */
void cli_show_row(const reco_pair *pair);
/* Text from a bank on one line of a terminal, which does not obey what stands in it. */
void cli_put(const char *text);
/* A line of stdout, with '?' for what a terminal would obey. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The end of a noun: "1 row", "2 rows". */
static inline const char *cli_s(uint64_t n) { return n == 1 ? "" : "s"; }
void cli_failure(void *user, uint64_t row, const char *item, const char *reason);
/* Exit code after `failures` skipped items: 0, or 1 with --strict; says how many on stderr. */
int cli_skipped(cli *c, uint64_t failures, const char *where);
bool cli_not_utf8(const char *text);
/* Exit code after texts that were longer than the model's context, as above: `what` they are, "caption". */
int cli_truncated(cli *c, const reco_model *model, uint64_t texts, const char *what);
/* A warning when captions were not UTF-8. */
void cli_repaired(cli *c, uint64_t captions);

/* Before the work: `out` is none of the inputs (NULL ones are passed over) nor within one of them, and can be written. It may
 * lie within the model's folder. kind as of reco_check_output. */
reco_status cli_output(cli *c, const char *out, int kind, const char *model, const char *const *inputs,
                       size_t n);

reco_status cli_open_model(cli *c, reco_model **model, const char *dir, reco_sides sides);
/* Bank and fusion (a file or a control's name) that belong together, and to the model when there is one. */
reco_status cli_open_memory(cli *c, const reco_model *model, reco_bank **bank, const char *bank_path,
                            reco_fusion **fusion, const char *fusion_name, size_t k);

/* Parsers of option values; argp_error on nonsense. */
void cli_stray(struct argp_state *state,
               const char *arg); /* an argument that nobody takes: ends the program */
size_t cli_size(struct argp_state *state, const char *what, const char *text, size_t low, size_t high);
double cli_number(struct argp_state *state, const char *what, const char *text, double low, double high);
reco_sides cli_sides(struct argp_state *state, const char *text);
const char *cli_sides_name(reco_sides sides);
/* The same for a person, who is told why nothing is refined: `fusion` is a checkpoint whose own choice this is. */
const char *cli_refined(const reco_fusion *fusion, reco_sides sides, bool own);
reco_dtype cli_dtype(struct argp_state *state, const char *text);
/* "I/N" of --shard. */
void cli_shard(struct argp_state *state, const char *text, reco_shard *shard);
#define CLI_SHARD_HELP "Process only part I of N of the input (docs/scale.md)"
/* A least cosine. Rows are stored as halves, so that a row's cosine to itself is 1 within some 0.0002: above 0.9995 there is no
 * more to ask for. */
float cli_similarity(struct argp_state *state, const char *what, const char *text);
/* image or text, of this option. */
reco_side cli_side(struct argp_state *state, const char *option, const char *text);
/* argp_error when a required option is missing. */
void cli_need(struct argp_state *state, const void *value, const char *option);

/* ---- file.c ---- */

/* A file that appears when it is whole; a device or a pipe is written to as it is. */
typedef struct cli_file {
    FILE *out;
    const char *path;
    char *temp, *target;
    bool device;
} cli_file;
reco_status cli_file_begin(cli_file *f, const char *path); /* end it also after an error */
/* In place where status is RECO_OK, else gone; returns status, or RECO_E_IO with the reason said. */
reco_status cli_file_end(cli_file *f, reco_status status);
/* A folder that this command made, and all in it. */
void cli_remove_folder(const char *path);

/* ---- mixture.c ---- */

/* --mixture: how is auto (NULL too), off, or two weights as they were given. */
typedef struct cli_readout {
    const char *how;
    float weights[2]; /* of CLIP and of what is refined */
    reco_mixture mixture;
} cli_readout;
#define CLI_CLIP_SCALE 100 /* of an encoder that is not known */
#define CLI_MIXTURE_HELP                                                                                   \
    "Weights A,B of CLIP and of the refined embeddings (the vote gets the rest), off, or auto (default: "  \
    "auto, as training chose)"
void cli_parse_readout(struct argp_state *state, cli_readout *readout, const char *arg);
/* How a memory is read out, which refers to the readout then. scale: the model's own, or 0. */
void cli_set_mixture(cli_readout *readout, reco_memory *memory, float scale);
json_t *cli_weight(float value); /* a number of 6 digits */
/* {"clip": a, "refined": b, "vote": ..., "scales": [...]}, or null where there is none. */
json_t *cli_mixture(const reco_mixture *mixture);
void cli_print_mixture(const reco_mixture *mixture); /* its weights, without an end of line */

/* The hooks of the context. */
int cli_progress(void *user, const char *what, uint64_t done, uint64_t total);
void cli_log(void *user, reco_log_level level, const char *message);
void cli_clear_bar(cli *c);
void cli_clock(char text[32], double seconds); /* "1:02:03", "2:03" */
void cli_catch_signals(void);
bool cli_stopped(void); /* a signal has asked to stop */
extern const char cli_help_text[];

#endif
