/* What a file may be instead of what was expected: a server's or git-lfs's replacement, or another format. */
#include "base/base.h"

#include <strings.h>

typedef struct kind {
    const char *begin; /* how it starts */
    size_t bytes;
    const char *is;
} kind;

#define KIND(begin, is)                                                                                    \
    {                                                                                                      \
        begin, sizeof begin - 1, is                                                                        \
    }

static const char pickle[] =
    "is a Python pickle, as PyTorch saves, which reco does not read: save it as safetensors";
static const char packed[] = "is an archive: unpack it";

static const kind kinds[] = {
    KIND("version https://git-lfs",
         "is a git-lfs pointer, not the file itself: fetch that with `git lfs pull`"),
    KIND("version https://hawser",
         "is a git-lfs pointer, not the file itself: fetch that with `git lfs pull`"),
    KIND("PK\003\004", packed),
    KIND("\x80\002}", pickle),
    KIND("\x80\002c", pickle),
    KIND("\x80\002(", pickle),
    KIND("\x80\002X", pickle),
    KIND("\x80\002\x8a", pickle),
    KIND("\x80\003}", pickle),
    KIND("\x80\004\x95", pickle),
    KIND("\x80\005\x95", pickle),
    KIND("GGUF", "is GGUF, llama.cpp's format, which reco does not read: fetch the model as safetensors"),
    KIND("\x89HDF\r\n\032\n",
         "is HDF5, TensorFlow's format, which reco does not read: save the model as safetensors"),
    KIND("\x1f\x8b", packed),
    KIND("\x28\xb5\x2f\xfd", packed),
    KIND("BZh", packed),
    KIND("\xfd"
         "7zXZ",
         packed),
    KIND("7z\xbc\xaf", packed),
};

/* A page's first word, past white space and a byte-order mark. */
static const char *page(const char *text, size_t n)
{
    static const char html[] =
        "is an HTML page, not the file itself, as servers send if you are not signed in: fetch it again";
    static const kind pages[] = {
        KIND("<!doctype html", html),
        KIND("<html", html),
        KIND("<head", html),
        KIND("<body", html),
        KIND("<script", html),
        KIND("<?xml", "is an XML page, as servers send with an error: fetch it again"),
        KIND("<error", "is an XML page, as servers send with an error: fetch it again")};
    size_t at = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (;;) {
        while (at < n && strchr(" \t\r\n", text[at]) && text[at]) at++;
        if (n - at < 4 || memcmp(text + at, "<!--", 4) != 0) break;
        while (at < n && text[at] != '>') at++;
        if (at < n) at++;
    }
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (n - at >= pages[i].bytes && strncasecmp(text + at, pages[i].begin, pages[i].bytes) == 0)
            return pages[i].is;
    return NULL;
}

const char *reco_content_excuse(const void *data, size_t bytes)
{
    static const char inner[] = "data.pkl";
    if (!data || bytes == 0) return "is empty: fetch it again";
    if (bytes > 262 && memcmp((const char *)data + 257, "ustar", 5) == 0) return packed;
    if (bytes > 4 && memcmp(data, "PK\003\004", 4) == 0 &&
        memmem(data, reco_min(bytes, 256), inner, sizeof inner - 1))
        return "is a zip archive, as PyTorch saves, which reco does not read: save it as safetensors";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (bytes >= kinds[i].bytes && memcmp(data, kinds[i].begin, kinds[i].bytes) == 0)
            return kinds[i].is;
    return page(data, reco_min(bytes, 4096));
}
