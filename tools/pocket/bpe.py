"""CLIP's byte-pair encoding, learned from captions: bytes, words' ends, merges, two specials."""
import re
from collections import Counter, defaultdict

WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE)
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters():
    """The printable letter that stands for each byte, as in GPT-2; in the vocabulary's order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in shown}
    hidden = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + at) for at, byte in enumerate(hidden)})
    return letters


LETTERS = byte_letters()


def split(text):
    """The words of a text, each a tuple of letters with the end marked."""
    text = " ".join(text.split()).lower()
    for word in WORDS.findall(text):
        letters = [LETTERS[byte] for byte in word.encode("utf-8")]
        yield tuple(letters[:-1] + [letters[-1] + "</w>"])


def joined(word, pair):
    """The word with each occurrence of the pair made one."""
    out, at = [], 0
    while at < len(word):
        if word[at:at + 2] == pair:
            out.append(word[at] + word[at + 1])
            at += 2
        else:
            out.append(word[at])
            at += 1
    return tuple(out)


def learn(texts, size):
    """Merges that bring the vocabulary to the given size; ties go to the first in order."""
    counted = Counter(word for text in texts for word in split(text))
    words, counts = list(counted), list(counted.values())
    pairs, where = Counter(), defaultdict(set)
    tokens = {letter + end for letter in LETTERS.values() for end in ("", "</w>")}

    def count(number, sign):
        for pair in zip(words[number], words[number][1:]):
            pairs[pair] += sign * counts[number]
            where[pair].add(number)

    for number in range(len(words)):
        count(number, 1)
    merges = []
    while len(merges) < size - 2 * len(LETTERS) - 2:
        best = min((pair for pair in pairs if "".join(pair) not in tokens),
                   key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        tokens.add("".join(best))
        for number in sorted(where.pop(best)):
            count(number, -1)
            words[number] = joined(words[number], best)
            count(number, 1)
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        letters = list(LETTERS.values())
        tokens = letters + [letter + "</w>" for letter in letters]
        tokens += ["".join(pair) for pair in self.merges] + [START, END]
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.rank = {pair: number for number, pair in enumerate(self.merges)}
        self.start, self.end = self.ids[START], self.ids[END]
        self.size = len(tokens)

    def encode(self, text, context):
        """Token numbers from start to end mark, cut to the context."""
        out = [self.start]
        for word in split(text):
            while len(word) > 1:
                best = min(zip(word, word[1:]), key=lambda p: self.rank.get(p, len(self.rank)))
                if best not in self.rank:
                    break
                word = joined(word, best)
            out += [self.ids[token] for token in word]
        return out[:context - 1] + [self.end]
