#include "cli.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

/* The first signal asks the work to stop at a safe point; the second gets the default, which kills. */
static void stop(int signal_number)
{
    stopped = 1;
    signal(signal_number, SIG_DFL);
}

void cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = stop};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_DFL);
}

bool cli_stopped(void) { return stopped; }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_clear_bar(cli *c)
{
    if (c->bar) fputs("\r\033[K", stderr);
    c->bar = false;
}

void cli_clock(char text[32], double seconds)
{
    unsigned long s = seconds > 359999 ? 359999 : (unsigned long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, 32, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, 32, "%lu:%02lu", s / 60, s % 60);
}

static void show_bar(cli *c, double share, const char *line)
{
    int filled = (int)(20 * share);
    fprintf(stderr, "\r\033[K[%.*s%.*s] %s", filled, "####################", 20 - filled,
            "....................", line);
    c->bar = true;
}

static int show_part(cli *c, const char *what, uint64_t done, uint64_t total)
{
    char line[256];
    if (total)
        snprintf(line, sizeof line, "%s: %.60s %.0f%%", c->within, what,
                 100.0 * (double)done / (double)total);
    else
        snprintf(line, sizeof line, "%s: %.60s %llu", c->within, what, (unsigned long long)done);
    show_bar(c, c->whole, line);
    return 0;
}

/* A bar on a terminal; elsewhere a plain line every ten seconds, and one at the end of what took longer than that. */
int cli_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    cli *c = user;
    if (stopped) return 1;
    if (c->quiet) return 0;
    double at = now();
    if (c->shown != what) {
        c->shown = what;
        c->began_at = c->shown_at = at;
    }
    bool terminal = isatty(STDERR_FILENO), end = total && done >= total;
    if (*c->within) return terminal ? show_part(c, what, done, total) : 0;
    if (!terminal && at - c->shown_at < 10 && !(end && at - c->began_at >= 10)) return 0;
    c->shown_at = at;
    double rate = at > c->began_at ? (double)done / (at - c->began_at) : 0;
    char line[256], eta[32] = "-";
    if (total && rate > 0) cli_clock(eta, (double)(total - done) / rate);
    double unit = c->bytes ? 1e6 : 1;
    if (c->bytes && total)
        snprintf(line, sizeof line, "%.100s: %.1f of %.1f MB (%.0f%%), %.1f MB/s, %s left", what,
                 (double)done / unit, (double)total / unit, 100.0 * (double)done / (double)total,
                 rate / unit, eta);
    else if (c->bytes)
        snprintf(line, sizeof line, "%.100s: %.1f MB, %.1f MB/s", what, (double)done / unit, rate / unit);
    else if (!total)
        snprintf(line, sizeof line, "%s: %llu, %.0f/s", what, (unsigned long long)done, rate);
    else
        snprintf(line, sizeof line, "%s: %llu/%llu (%.0f%%), %.0f/s, %s left", what,
                 (unsigned long long)done, (unsigned long long)total, 100.0 * (double)done / (double)total,
                 rate, eta);
    if (!terminal) {
        fprintf(stderr, "%s\n", line);
        return 0;
    }
    show_bar(c, total ? (double)done / (double)total : 0, line);
    if (end) cli_clear_bar(c);
    return 0;
}

void cli_log(void *user, reco_log_level level, const char *message)
{
    cli *c = user;
    if ((c->quiet || *c->within) && level == RECO_LOG_INFO) return;
    if (*c->within && c->said) {
        if (json_object_get(c->said, message)) return;
        json_object_set_new(c->said, message, json_true());
    }
    cli_clear_bar(c);
    fprintf(stderr, "reco: %s%s\n", level == RECO_LOG_WARN ? "warning: " : "", message);
}
