/* reco serve */
#include "recall.h"

#include "server.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_MODEL = 0x100,
    KEY_BANK,
    KEY_FUSION,
    KEY_LISTEN,
    KEY_READ_ONLY,
    KEY_TOKENS,
    KEY_CERT,
    KEY_KEY,
    KEY_ORIGIN,
    KEY_BODY,
    KEY_QUEUE,
    KEY_CONNECTIONS,
    KEY_TIMEOUT,
    KEY_PORT_FILE,
    KEY_CONTENT,
    KEY_CONFIG,
    KEY_RATE,
    KEY_FETCH,
    KEY_DATA
};

enum { MOST_HOSTS = 256 };

typedef struct args {
    cli *common;
    serve_opts serve;
    const char **banks, *hosts[MOST_HOSTS];
    bool configured;
} args;

/* HOST:PORT, [HOST]:PORT or PORT. */
static void listen_on(args *a, struct argp_state *state, char *text)
{
    char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
    a->serve.port = (unsigned)cli_size(state, "--listen: port", port, 0, 65535);
    if (!colon) return;
    *colon = 0;
    size_t n = strlen(text);
    bool bracket = n > 1 && *text == '[' && text[n - 1] == ']';
    if (bracket) text[n - 1] = 0;
    if (*text) a->serve.host = text + bracket;
}

static error_t parse_serve_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 4; i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_MODEL:
        a->serve.model = arg;
        return 0;
    case KEY_BANK:
        a->banks[a->serve.nbanks++] = arg;
        return 0;
    case KEY_FUSION:
        a->serve.fusion = arg;
        return 0;
    case KEY_DATA:
        a->serve.data = arg;
        return 0;
    case KEY_LISTEN:
        listen_on(a, state, arg);
        return 0;
    case KEY_READ_ONLY:
        a->serve.read_only = true;
        return 0;
    case KEY_TOKENS:
        a->serve.token_file = arg;
        return 0;
    case KEY_RATE:
        a->serve.rate = arg;
        return 0;
    case KEY_FETCH:
        for (char *rest = NULL, *host = strtok_r(arg, ",", &rest); host;
             host = strtok_r(NULL, ",", &rest)) {
            if (a->serve.nfetch_hosts == MOST_HOSTS)
                argp_error(state, "--fetch-hosts: more than %d hosts", MOST_HOSTS);
            a->hosts[a->serve.nfetch_hosts++] = host;
        }
        return 0;
    case KEY_CERT:
        a->serve.cert = arg;
        return 0;
    case KEY_KEY:
        a->serve.key = arg;
        return 0;
    case KEY_ORIGIN:
        a->serve.origin = arg;
        return 0;
    case KEY_BODY:
        a->serve.body = cli_size(state, "--max-body", arg, 1, 1024) << 20;
        return 0;
    case KEY_QUEUE:
        a->serve.queue = cli_size(state, "--queue", arg, 1, 100000);
        return 0;
    case KEY_CONNECTIONS:
        a->serve.connections = cli_size(state, "--connections", arg, 16, 1000000);
        return 0;
    case KEY_TIMEOUT:
        a->serve.patience = cli_number(state, "--timeout", arg, 0.001, 3600);
        return 0;
    case KEY_PORT_FILE:
        a->serve.port_file = arg;
        return 0;
    case KEY_CONFIG:
        if (!a->configured) argp_error(state, "want --config in full");
        return 0;
    case KEY_CONTENT:
        a->serve.show_content = true;
        return 0;
    case ARGP_KEY_END:
        if (!a->serve.model && !a->serve.nbanks) argp_error(state, "want --model, --bank or both");
        if (a->serve.fusion && !a->serve.nbanks) argp_error(state, "--fusion goes with --bank");
        if (!a->serve.cert != !a->serve.key) argp_error(state, "--tls-cert and --tls-key go together");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"config", KEY_CONFIG, "FILE.toml", 0,
     "File of options under their names here, such as bank = [\"a.bank\"]; options on the command line "
     "take precedence",
     1},
    {"model", KEY_MODEL, "DIR", 0, "Model folder; without one, queries must be vectors or rows", 1},
    {"bank", KEY_BANK, "BANK", 0, "A bank to serve (may be given again; the first is the default)", 1},
    {"fusion", KEY_FUSION, "FILE|NAME", 0, "Layer that refines queries", 1},
    {"data", KEY_DATA, "DIR", 0,
     "Folder for the pictures added to a postgresql:// bank and the audit log of its changes (default: "
     "$XDG_DATA_HOME/reco or ~/.local/share/reco)",
     1},
    {"listen", KEY_LISTEN, "[HOST:]PORT", 0,
     "Address to listen on (default: 127.0.0.1:1234; port 0: any free port)", 2},
    {"port-file", KEY_PORT_FILE, "FILE", 0, "Write the port to this file once the server is listening", 2},
    {"token-file", KEY_TOKENS, "FILE", 0,
     "Tokens of the clients, in lines \"NAME TOKEN\"; required if other machines can reach the server", 2},
    {"rate", KEY_RATE, "N[:BURST]", 0,
     "Requests per second, and burst size, for each token whose line has no third word; requests beyond it "
     "get 429",
     2},
    {"tls-cert", KEY_CERT, "PEM", 0, "TLS certificate (with --tls-key)", 2},
    {"tls-key", KEY_KEY, "PEM", 0, "Private key of the certificate (with --tls-cert)", 2},
    {"cors", KEY_ORIGIN, "ORIGIN", 0,
     "Origin of the pages that may use clip-retrieval's endpoints (default: *; empty: only the server's "
     "own)",
     2},
    {"fetch-hosts", KEY_FETCH, "HOST[:PORT],...", 0,
     "Hosts from which pictures may be fetched if a request gives a URL (default: none; never private "
     "addresses)",
     2},
    {"read-only", KEY_READ_ONLY, NULL, 0, "Refuse requests that add or delete pairs", 2},
    {"max-body", KEY_BODY, "MIB", 0, "Largest request (default: 32 MiB)", 3},
    {"queue", KEY_QUEUE, "N", 0, "Requests that may wait; requests beyond it get 503 (default: 1024)", 3},
    {"connections", KEY_CONNECTIONS, "N", 0,
     "Connections at a time; beyond it, the one idle longest is closed (default: 12000)", 3},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "How long a request may wait (default: 60)", 3},
    {"log-content", KEY_CONTENT, NULL, 0,
     "Log the content of requests (default: only the kind of request and the client)", 3},
    {0},
};
static const struct argp_child children[] = {{&cli_model_options, 0, NULL, 0},
                                             {&cli_server_options, 0, NULL, 0},
                                             {&cli_recall_options, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse_serve_option,
    NULL,
    "Serve many clients over HTTP: search, refine, embed, and change the bank.\v"
    "The web page is at http://127.0.0.1:1234/. The server logs one JSON object per request on standard "
    "error, unless --quiet is given. SIGHUP reloads the fusion layer and the tokens; SIGTERM finishes the "
    "running requests and stops.\n"
    "Example:\n  reco serve --model clip/ --bank shop.bank --fusion fusion.safetensors",
    children,
    NULL,
    NULL};

/* Where a program keeps the data of its user; NULL: nobody says. To be freed. */
static char *home_of_data(void)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool given = data && *data == '/';
    char *path = NULL;
    if (!given && !(home && *home == '/')) return NULL;
    return asprintf(&path, "%s%s/reco", given ? data : home, given ? "" : "/.local/share") < 0 ? NULL
                                                                                               : path;
}

int cmd_serve(int argc, char **argv)
{
    cli c = {0};
    char *data = home_of_data();
    args a = {.common = &c, .serve = {.port = 1234, .data = data}};
    char **all = cli_configure(&argp, &argc, argv);
    if (!all) {
        free(data);
        return 1;
    }
    a.configured = all != argv;
    a.banks = calloc((size_t)argc, sizeof *a.banks);
    if (!a.banks || !cli_begin(&c, argc, all, &argp, &a)) {
        free(a.banks);
        free(data);
        if (all != argv) free(all);
        return 1;
    }
    a.serve.banks = a.banks;
    a.serve.fetch_hosts = a.hosts;
    a.serve.open = c.servers;
    a.serve.precision = c.precision;
    a.serve.exif = c.exif;
    a.serve.threads = c.threads;
    a.serve.log = c.quiet ? NULL : stderr;
    (void)cli_capped(&a.serve.max_isa); /* cli_begin has complained already */
    char error[SERVE_ERROR_BYTES];
    reco_status status = serve_run(&a.serve, error);
    if (status != RECO_OK) cli_error("%s", *error ? error : reco_status_name(status));
    free(a.banks);
    free(data);
    if (all != argv) free(all);
    return cli_end(&c, status);
}
