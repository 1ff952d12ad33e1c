#include "io/internal.h"

#define MOST 64 /* bytes of a name that are compared */

/* Best first: where several are there, a row takes the first that says something. A file before a URL, a caption before a
 * longer description. Without case, blanks, "_" and "-". docs/format.md shows this list. */
static const char *const images[] = {
    "image",    "imagepath",  "filepath", "filename", "imagefile", "imagefilename", "imagename",
    "imgpath",  "imgfile",    "imgname",  "img",      "picture",   "photo",         "path",
    "file",     "uri",        "imageuri", "url",      "imageurl",  "imgurl",        "imagelink",
    "imagesrc", "pictureurl", "photourl", "src",      NULL};
static const char *const texts[] = {
    "text",     "caption",   "captions",     "title",       "alttext", "alt",         "comment",
    "sentence", "sentences", "imagecaption", "captiontext", "txt",     "description", "imagedescription",
    "prompt",   NULL};
static const char *const labels[] = {
    "label",      "class",   "classname", "labelname",  "category", "categoryname", "target",     "labels",
    "classlabel", "labelid", "classid",   "categoryid", "targetid", "classindex",   "labelindex", NULL};
static const char *const *const names[RECO_COLUMNS] = {images, texts, labels};

static void reduce(char out[MOST], const char *name)
{
    size_t n = 0;
    for (const char *c = name; *c && n < MOST - 1; c++) {
        if (strchr(" \t\r_-", *c)) continue;
        if (strncmp(c, "\xef\xbb\xbf", 3) == 0) {
            c += 2;
            continue;
        }
        out[n++] = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    }
    out[n] = 0;
}

int reco_column_rank(reco_column kind, const char *name)
{
    char plain[MOST];
    reduce(plain, name);
    for (int i = 0; names[kind][i]; i++)
        if (strcmp(plain, names[kind][i]) == 0) return i;
    return -1;
}

bool reco_column_same(const char *a, const char *b)
{
    char x[MOST], y[MOST];
    if (strcmp(a, b) == 0) return true;
    reduce(x, a);
    reduce(y, b);
    return strlen(a) < MOST && strlen(b) < MOST && strcmp(x, y) == 0;
}

const char *reco_column_given(reco_column kind, const reco_table_opts *table)
{
    if (!table) return NULL;
    return kind == RECO_COLUMN_IMAGE  ? table->image_column
           : kind == RECO_COLUMN_TEXT ? table->text_column
                                      : table->label_column;
}

/* Letters to change, to put in or to leave out, two neighbours that changed places counting as one. */
static size_t name_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), rows[3][MOST + 1];
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *one = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = reco_min(reco_min(one[j], now[j - 1]) + 1, one[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = reco_min(now[j], two[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

const char *reco_column_near(reco_column kind, const char *name)
{
    char plain[MOST];
    reduce(plain, name);
    const char *best = NULL;
    size_t least = 3;
    for (int i = 0; names[kind][i]; i++) {
        size_t far = name_distance(plain, names[kind][i]), length = strlen(names[kind][i]);
        bool holds = length > 3 && strstr(plain, names[kind][i]) != NULL; /* "picture_of" */
        if (far * 3 > length && !holds) continue;
        if (holds) far = reco_min(far, 2);
        if (far < least) {
            least = far;
            best = names[kind][i];
        }
    }
    return best;
}
