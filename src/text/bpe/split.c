#include "text/bpe/bpe.h"
#include "text/tokenizer.h"
#include "text/unicode/unicode.h"

#include <utf8proc.h>

typedef enum kind { SPACE, LETTER, NUMBER, OTHER } kind;

static kind kind_of_point(int32_t c)
{
    if (c < 0x80) {
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return LETTER;
        if (c >= '0' && c <= '9') return NUMBER;
        return reco_point_space(c) ? SPACE : OTHER;
    }
    if (reco_point_space(c)) return SPACE;
    if (reco_point_letter(c)) return LETTER;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

/* Python's regex takes U+0345 for neither a letter, a number, a space nor anything else where case does not count, as in
 * open_clip's expression: it parts words and is dropped. */
static kind kind_in(reco_text_rules rules, int32_t c)
{
    return rules == RECO_TEXT_OPENCLIP && c == 0x345 ? SPACE : kind_of_point(c);
}

static bool starts_with(const reco_points *text, size_t at, const char *word)
{
    size_t i = 0;
    for (; word[i]; i++)
        if (at + i >= text->n || text->at[at + i] != word[i]) return false;
    return true;
}

/* Length of 's, 't, 're, 've, 'm, 'll or 'd. open_clip's expression ignores case, and the long s folds to s. */
static size_t contraction(const reco_points *text, size_t at, reco_text_rules rules)
{
    static const char *const all[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (starts_with(text, at, all[i])) return strlen(all[i]);
    return rules == RECO_TEXT_OPENCLIP && at + 1 < text->n && text->at[at + 1] == 0x17f ? 2 : 0;
}

/* <begin>|<end>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+, the first alternative that fits; without the
 * first two where few_pieces. */
bool reco_split_next(reco_piece *piece, size_t *at, const reco_points *text, const reco_tokenizer *tok)
{
    reco_text_rules rules = tok->rules;
    bool open_clip = rules == RECO_TEXT_OPENCLIP;
    const char *const special[2] = {open_clip ? "<start_of_text>" : "<|startoftext|>",
                                    open_clip ? "<end_of_text>" : "<|endoftext|>"};
    size_t i = *at, n = 0;
    while (i < text->n && kind_in(rules, text->at[i]) == SPACE) i++;
    *piece = (reco_piece){.begin = i};
    if (i == text->n) return false;
    for (int s = 0; !tok->few_pieces && text->at[i] == '<' && s < 2; s++)
        if (starts_with(text, i, special[s])) {
            n = strlen(special[s]);
            piece->special = s + 1;
            break;
        }
    if (text->at[i] == '\'') n = contraction(text, i, rules);
    if (n == 0) {
        kind first = kind_in(rules, text->at[i]);
        for (n = 1; first != NUMBER && i + n < text->n && kind_in(rules, text->at[i + n]) == first;) n++;
    }
    *at = piece->end = i + n;
    return true;
}
