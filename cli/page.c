/* Pieces of a page that stands alone: no scripts, nothing fetched, pictures within. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

/* Colours that tell something do so beside a sign or a word; contrast is 4.5:1 at least in both schemes. */
static const char style[] =
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1b1f24;--soft:#57606a;"
    "--line:#d8dee4;--bar:#cfe3f7;--vote:#fbe2c4;--own:#eceef1;--good:#116329;--bad:#a40e26;"
    "--mark:#0b57b0}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--card:#181c22;--text:#e6e9ed;"
    "--soft:#9aa4af;--line:#313842;--bar:#1d4266;--vote:#5a3b12;--own:#262c34;--good:#6bd58b;"
    "--bad:#ff9b9b;--mark:#8abfff}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:76rem;padding:1.5rem 1rem 3rem;background:var(--bg);"
    "color:var(--text);font:16px/1.45 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "h1{font-size:1.6rem;margin:0 0 .3rem}\n"
    "h2{font-size:1.2rem;margin:1.6rem 0 .6rem}\n"
    "h3{font-size:.92rem;margin:0 0 .35rem;font-weight:600}\n"
    "p{margin:.3rem 0;max-width:62rem}\n"
    ".soft,.facts,footer,th{color:var(--soft)}\n"
    ".soft{font-weight:400}\n"
    ".facts,details{font-size:.92rem}\n"
    ".facts b{color:var(--text);font-weight:600}\n"
    "details{margin:.6rem 0 1.2rem}\n"
    "summary{cursor:pointer;color:var(--mark)}\n"
    ".tables{display:flex;flex-wrap:wrap;gap:0 2.5rem;align-items:flex-start}\n"
    ".tables>section{min-width:0;overflow-x:auto}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:.7rem;"
    "padding:1rem 1.1rem;margin:0 0 1rem}\n"
    ".query{display:flex;gap:1rem;align-items:center;margin-bottom:1rem}\n"
    ".query>div{min-width:0}\n"
    ".name{font-weight:600;overflow-wrap:anywhere}\n"
    ".pic{display:flex;align-items:center;justify-content:center;background:#fff;border:1px "
    "solid var(--line);border-radius:.45rem;overflow:hidden;flex:none}\n"
    ".pic img{display:block;max-width:100%;max-height:100%}\n"
    ".pic.none{background:var(--own);color:var(--soft);font-size:.72rem;text-align:center;"
    "line-height:1.25}\n"
    ".big{width:116px;height:116px}\n"
    ".small{width:100%;height:84px}\n"
    ".verdict{font-size:1.1rem;margin:.25rem 0 0}\n"
    ".arrow{color:var(--soft);padding:0 .5rem}\n"
    ".right{color:var(--good);font-weight:600}\n"
    ".wrong{color:var(--bad);font-weight:600}\n"
    ".experts{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));"
    "gap:.9rem 1.4rem;margin-bottom:1.1rem}\n"
    "ol{list-style:none;margin:0;padding:0}\n"
    "li{position:relative;display:flex;justify-content:space-between;gap:.6rem;"
    "padding:.16rem .5rem;margin-bottom:.2rem;border-radius:.3rem;overflow:hidden;"
    "font-size:.92rem;background:var(--own)}\n"
    "li i,.meter i{position:absolute;inset:0 auto 0 0;width:var(--p);background:var(--bar)}\n"
    ".vote i{background:var(--vote)}\n"
    "li span{position:relative;min-width:0;overflow:hidden;text-overflow:ellipsis;"
    "white-space:nowrap}\n"
    "li b{position:relative;font-weight:400;font-variant-numeric:tabular-nums}\n"
    ".answer li,.answer li b{font-weight:600}\n"
    "section.found{margin-top:.9rem}\n"
    ".strip{display:flex;gap:.7rem;overflow-x:auto;padding-bottom:.4rem}\n"
    "figure{margin:0;width:104px;flex:none;font-size:.78rem;line-height:1.25}\n"
    "figcaption{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;"
    "overflow:hidden;overflow-wrap:anywhere;margin-top:.25rem}\n"
    ".meter{position:relative;height:1.15rem;border-radius:.25rem;background:var(--own);"
    "overflow:hidden;margin-top:.2rem}\n"
    ".meter span{position:relative;padding-left:.35rem;font-variant-numeric:tabular-nums;"
    "line-height:1.15rem}\n"
    "table{border-collapse:collapse;background:var(--card);border:1px solid var(--line)}\n"
    "td,th{padding:.35rem .8rem;border-bottom:1px solid var(--line);text-align:left}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "th{font-weight:600;font-size:.88rem}\n"
    "tr.answer td{font-weight:600}\n"
    "footer{font-size:.85rem;margin-top:2rem}\n";

void page_text(FILE *out, const char *text)
{
    int control;
    for (size_t left = text ? strlen(text) : 0, n; left; text += n, left -= n) {
        n = reco_text_next(text, left, &control);
        if (control)
            fputs(*text == '\n' || *text == '\t' ? " " : "\xef\xbf\xbd", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else if (*text == '\'')
            fputs("&#39;", out);
        else
            fwrite(text, 1, n, out);
    }
}

void page_head(FILE *out, const char *title)
{
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
          "style-src "
          "'unsafe-inline'\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta "
          "name=\"color-scheme\" "
          "content=\"light dark\">\n<title>",
          out);
    page_text(out, title);
    fprintf(out, "</title>\n<style>\n%s</style></head><body>\n<h1>", style);
    page_text(out, title);
    fputs("</h1>\n", out);
}

static void base64(FILE *out, const unsigned char *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        unsigned long v = (unsigned long)data[i] << 16 | (left > 1 ? (unsigned long)data[i + 1] << 8 : 0) |
                          (left > 2 ? (unsigned long)data[i + 2] : 0);
        putc(digits[v >> 18], out);
        putc(digits[v >> 12 & 63], out);
        putc(left > 1 ? digits[v >> 6 & 63] : '=', out);
        putc(left > 2 ? digits[v & 63] : '=', out);
    }
}

void page_picture(cli *c, FILE *out, const char *path, const char *alt, size_t edge)
{
    unsigned char *jpeg = NULL;
    size_t bytes = 0;
    const char *size = edge > 200 ? "big" : "small";
    if (!path || reco_image_thumbnail(c->ctx, path, NULL, edge, c->exif, &jpeg, &bytes) != RECO_OK) {
        fprintf(out, "<div class=\"pic none %s\">no picture<br>at hand</div>", size);
        return;
    }
    fprintf(out, "<div class=\"pic %s\"><img alt=\"", size);
    page_text(out, alt);
    fputs("\" src=\"data:image/jpeg;base64,", out);
    base64(out, jpeg, bytes);
    fputs("\"></div>", out);
    reco_free(jpeg);
}
