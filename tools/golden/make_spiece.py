#!/usr/bin/env python3
"""SentencePiece models of every kind, with texts and ids by the sentencepiece library: tests/golden/text/spiece/.

Needs sentencepiece and protobuf from PyPI:
    python3 tools/golden/make_spiece.py
Larger ones, on more texts, and the test that compares:
    python3 tools/golden/make_spiece.py --out /tmp/spiece --texts 10000 --pieces 8000 --corpus FILE...
    RECO_TEST_SPIECE=/tmp/spiece build/tests/unit/unit-text-spiece
"""
import argparse
import json
import pathlib
import random
import unicodedata

import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as model_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = {"Latin": (0x41, 0x7a), "accents": (0xc0, 0x24f), "Greek": (0x370, 0x3ff), "Cyrillic": (0x400, 0x4ff), "Armenian": (0x530, 0x58f),
           "Hebrew": (0x590, 0x5ff), "Arabic": (0x600, 0x6ff), "Devanagari": (0x900, 0x97f), "Bengali": (0x980, 0x9ff), "Tamil": (0xb80, 0xbff),
           "Thai": (0xe00, 0xe7f), "Tibetan": (0xf00, 0xfff), "Georgian": (0x10a0, 0x10ff), "Jamo": (0x1100, 0x11ff), "Ethiopic": (0x1200, 0x137f),
           "Khmer": (0x1780, 0x17ff), "symbols": (0x2000, 0x2bff), "kana": (0x3040, 0x30ff), "Han": (0x4e00, 0x9fff), "Hangul": (0xac00, 0xd7a3),
           "compatibility": (0xfb00, 0xfdff), "widths": (0xff00, 0xffef), "letters of mathematics": (0x1d400, 0x1d7ff), "emoji": (0x1f300, 0x1faff)}
WORDS = """a photo of the small red disc on white table lamp window cat dog tent garden with is model image caption Hello WORLD don't it's 3.14 $5
    C++ foo_bar na\u00efve stra\u00dfe \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u043f\u0440\u0438\u0432\u0435\u0442 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u30ac\u30ae \ufb01ne \u00bd \u2163 \u2103""".split()
SPACES = [" ", "  ", "   ", "\t", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2581", "\u2581\u2581", " \u2581", "\n", "\r\n", "\u2028", "\ufeff", "\u00ad"]
ATOMS = ["\u200d", "\ufe0f", "\u0301", "e\u0301", "A\u030a", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\uff48\uff45\uff4c\uff4c\uff4f",
         "\uff8a\uff9f", "\u30ab\u3099", "<unk>", "</s>", "<s>", "<0x41>", "\ufffd", "\ue000", "\U0010ffff", "\u2026", "\ufdfa", "\u0130", "\u017f", "\u212a",
         "\x01", "\x7f", "\x85", "<sym>", "<sym2>", "[X]", "user defined", "ab"]
USER = ["<sym>", "<sym2>", "[X]", "user defined", "ab", "\u2581z", "foo\u2581bar"]
# A part of nmt_nfkc_cf, keys that begin with others among them: the whole is 240 kB.
RULES = {"\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ", "\r": " ", "\u200b": " ", "\ufffd": " ", "\u0001": "", "\u007f": "", "\ufb01": "fi", "\u00bd": "1\u20442",
         "e\u0301": "\u00e9", "A\u030a": "\u00e5", "\u30ab\u3099": "\u30ac", "\uff8a": "\u30cf", "\uff8a\uff9f": "\u30d1", "\u2026": "...", "\ufdfa": "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647",
         "WORLD": "  world ", "H": "h", "Hel": "hel"}


def texts(n, rng):
    def word():
        low, high = SCRIPTS[rng.choice(scripts)]
        points = [chr(rng.randint(low, high)) for _ in range(rng.randint(1, 9))]
        return "".join(c for c in points if unicodedata.category(c) != "Cs")

    out = [" ", "  ", "\u2581", "\u3000", "a", "\u2581a\u2581", "a\u2581 ", "\u0001", "x" * 200, "\u65e5" * 100, "  a  b  "]
    while len(out) < n:
        scripts, text = rng.sample(sorted(SCRIPTS), rng.randint(1, 3)), rng.choice(["", "", rng.choice(SPACES)])
        for _ in range(rng.randint(1, 12)):
            text += rng.choice([rng.choice(WORDS), word(), word(), rng.choice(ATOMS)])
            if rng.random() < 0.9: text += rng.choice([" ", rng.choice(SPACES)])
        if text and "\0" not in text: out.append(text)
    return out


def models(folder, pieces, corpus, rng):
    lines = pathlib.Path(__file__).read_text().split("\n") + [" ".join(rng.sample(WORDS, 6)) for _ in range(200)]
    for path in corpus: lines += pathlib.Path(path).read_text(errors="ignore").split("\n")
    rules = folder / "rules.tsv"
    rules.write_text("".join(" ".join(f"{ord(c):X}" for c in k) + "\t" + " ".join(f"{ord(c):X}" for c in v) + "\n" for k, v in RULES.items()))

    def train(name, **options):
        options = {"normalization_rule_tsv": str(rules), "model_type": "unigram", **options}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([line for line in lines if line.strip()]), model_prefix=str(folder / name), minloglevel=2,
            vocab_size=pieces, hard_vocab_limit=False, character_coverage=0.98, **options)
        (folder / f"{name}.vocab").unlink()

    plain = {"normalization_rule_tsv": "", "normalization_rule_name": "identity"}
    train("unigram")
    train("unigram-user", user_defined_symbols=USER, byte_fallback=True, remove_extra_whitespaces=False)
    train("unigram-suffix", treat_whitespace_as_suffix=True, split_by_whitespace=False)
    train("unigram-plain", add_dummy_prefix=False, remove_extra_whitespaces=False, **plain)
    train("bpe", model_type="bpe", user_defined_symbols=USER)
    train("bpe-bytes", model_type="bpe", byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, split_digits=True,
          allow_whitespace_only_pieces=True, **plain)
    train("char", model_type="char")
    rules.unlink()
    for name in ("unigram", "bpe"):  # what training does not give
        model = model_pb2.ModelProto()
        model.ParseFromString((folder / f"{name}.model").read_bytes())
        for piece in model.pieces:
            if piece.type == 1 and len(piece.piece) > 1 and rng.random() < 0.3: piece.type = 5  # UNUSED
        (folder / f"{name}-unused.model").write_bytes(model.SerializeToString())
        model.ParseFromString((folder / f"{name}.model").read_bytes())
        for piece in model.pieces:
            if piece.type == 1: piece.score = round(piece.score)  # equal sums
        model.normalizer_spec.escape_whitespaces = False
        (folder / f"{name}-ties.model").write_bytes(model.SerializeToString())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "golden" / "text" / "spiece")
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--pieces", type=int, default=400)
    parser.add_argument("--corpus", nargs="*", default=[])
    args = parser.parse_args()
    rng = random.Random(11)
    args.out.mkdir(parents=True, exist_ok=True)
    models(args.out, args.pieces, args.corpus, rng)
    said = texts(args.texts, rng)
    paths = sorted(args.out.glob("*.model"))
    ids = {path.name: [sentencepiece.SentencePieceProcessor(model_file=str(path)).encode(text) for text in said] for path in paths}
    (args.out / "cases.json").write_text(json.dumps({"texts": said, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
