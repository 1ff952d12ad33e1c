/* Fetching what strangers name: which addresses are public, which hosts and redirects are followed, how much and how long. */
#include "fetch/internal.h"
#include "../io/fixture.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

static int listener;
static char here[64]; /* 127.0.0.1:port */
static int asked;

static void say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0) return;
}

/* One connection after the other, each for one request. */
static void *answer(void *user)
{
    (void)user;
    for (;;) {
        char request[4096], reply[512];
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return NULL;
        ssize_t n = recv(fd, request, sizeof request - 1, 0);
        request[n > 0 ? n : 0] = 0;
        asked++;
        if (strncmp(request, "GET /good", 9) == 0)
            say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\na\1\2\3z");
        else if (strncmp(request, "GET /large", 10) == 0)
            say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789012345678901234567890123456789");
        else if (strncmp(request, "GET /near", 9) == 0)
            say(fd,
                "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        else if (strncmp(request, "GET /away", 9) == 0) {
            snprintf(
                reply, sizeof reply,
                "HTTP/1.1 302 Found\r\nLocation: http://localhost:%s/good\r\nConnection: close\r\n\r\n",
                strchr(here, ':') + 1);
            say(fd, reply);
        } else if (strncmp(request, "GET /slow", 9) == 0) {
            say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
            for (int i = 0; i < 20; i++) {
                say(fd, "x");
                usleep(100000);
            }
        } else
            say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        close(fd);
    }
}

static bool is_public(const char *text)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    if (strchr(text, ':')) {
        assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
        return reco_address_is_public((struct sockaddr *)&six);
    }
    assert_int_equal(inet_pton(AF_INET, text, &four.sin_addr), 1);
    return reco_address_is_public((struct sockaddr *)&four);
}

static void addresses(void **state)
{
    (void)state;
    static const char *const no[] = {"0.0.0.0",
                                     "10.1.2.3",
                                     "100.64.0.1",
                                     "100.127.255.255",
                                     "127.0.0.1",
                                     "127.255.255.255",
                                     "169.254.169.254",
                                     "172.16.0.1",
                                     "172.31.255.255",
                                     "192.0.0.8",
                                     "192.0.2.1",
                                     "192.88.99.1",
                                     "192.168.1.1",
                                     "198.18.0.1",
                                     "198.19.255.255",
                                     "198.51.100.7",
                                     "203.0.113.9",
                                     "224.0.0.1",
                                     "240.0.0.1",
                                     "255.255.255.255",
                                     "::",
                                     "::1",
                                     "::ffff:8.8.8.8",
                                     "::8.8.8.8",
                                     "64:ff9b::808:808",
                                     "100::1",
                                     "fc00::1",
                                     "fd12::1",
                                     "fe80::1",
                                     "fec0::1",
                                     "ff02::1",
                                     "2001::1",
                                     "2001:1ff::1",
                                     "2001:db8::1",
                                     "2002:808:808::1",
                                     "3fff::1"};
    static const char *const yes[] = {"1.1.1.1",         "8.8.8.8",      "9.255.255.255",   "11.0.0.0",
                                      "100.63.255.255",  "100.128.0.0",  "126.255.255.255", "128.0.0.1",
                                      "172.15.255.255",  "172.32.0.0",   "192.0.1.1",       "192.167.1.1",
                                      "198.17.255.255",  "198.20.0.0",   "223.255.255.255", "2001:200::1",
                                      "2606:4700::1111", "2a00:1450::1", "3fff:1000::1"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (is_public(no[i])) fail_msg("%s", no[i]);
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!is_public(yes[i])) fail_msg("%s", yes[i]);
}

static reco_status get(const char *path, const reco_download_opts *more, bool nearby, char *out)
{
    unsigned char *data;
    size_t n;
    const char *const hosts[] = {"example.org", here};
    reco_download_opts opts = more ? *more : (reco_download_opts){0};
    char url[256];
    opts.hosts = hosts;
    opts.nhosts = 2;
    snprintf(url, sizeof url, "http://%s%s", here, path);
    reco_status status = reco_download_near(ctx, *path == '/' ? url : path, &opts, nearby, &data, &n);
    if (out && data) snprintf(out, 64, "%zu %s", n, (char *)data);
    reco_free(data);
    return status;
}

static void downloads(void **state)
{
    (void)state;
    char got[64], url[128];
    OK(get("/good", NULL, true, got));
    assert_string_equal(got, "5 a\1\2\3z");
    OK(get("/near", NULL, true, got));
    assert_string_equal(got, "5 a\1\2\3z");
    failed(get("/none", NULL, true, NULL), RECO_E_NOTFOUND, "HTTP 404");
    failed(get("/away", NULL, true, NULL), RECO_E_ARG, "localhost:");
    failed(get("/large", &(reco_download_opts){.max_bytes = 39}, true, NULL), RECO_E_NOMEM, "39 bytes");
    OK(get("/large", &(reco_download_opts){.max_bytes = 40}, true, NULL));
    double began = reco_now();
    failed(get("/slow", &(reco_download_opts){.seconds = 0.5}, true, NULL), RECO_E_IO, "in time");
    assert_true(reco_now() - began < 1.5);

    /* What is refused is not asked. */
    int before = asked;
    failed(get("/good", NULL, false, NULL), RECO_E_ARG, "private address");
    failed(get("http://127.0.0.1/good", NULL, true, NULL), RECO_E_ARG, "fetching from its host");
    snprintf(url, sizeof url, "http://user@%s/good", here);
    failed(get(url, NULL, true, NULL), RECO_E_ARG, "");
    snprintf(url, sizeof url, "http://example.org:%s/good", strchr(here, ':') + 1);
    failed(get(url, NULL, true, NULL), RECO_E_ARG, "fetching from its host");
    snprintf(url, sizeof url, "http://x%s/good", here);
    failed(get(url, NULL, true, NULL), RECO_E_ARG, "fetching from its host");
    failed(get("file:///etc/passwd", NULL, true, NULL), RECO_E_ARG, "");
    failed(get("ftp://example.org/a", NULL, true, NULL), RECO_E_ARG, "");
    failed(get("nothing", NULL, true, NULL), RECO_E_ARG, "no");
    assert_int_equal(asked, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses), cmocka_unit_test(downloads)};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    pthread_t thread;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 8) != 0 || getsockname(listener, (struct sockaddr *)&at, &length) != 0 ||
        pthread_create(&thread, NULL, answer, NULL) != 0)
        return 1;
    snprintf(here, sizeof here, "127.0.0.1:%u", ntohs(at.sin_port));
    int bad = cmocka_run_group_tests(tests, set_up, tear_down);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    return bad;
}
