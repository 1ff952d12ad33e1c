#!/usr/bin/env python3
"""Write tests/golden/image and tests/golden/text: small awkward inputs and what the reference makes of them.

Needs Pillow >= 13 (older ones always resize horizontally first), numpy, transformers >= 5, ftfy and regex. Run from
the repository's root; the output depends on the versions of these packages alone, no randomness."""
import collections
import html
import html.entities
import io
import json
import pathlib
import struct
import unicodedata
import zlib

import ftfy
import numpy as np
import regex
from PIL import Image, ImageOps
from transformers import CLIPTokenizer, TokenizersBackend

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


# ---- pictures -------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def samples(pixels, depth):
    """[h][w][bands] to PNG scanlines with filter 0."""
    lines = b""
    for row in pixels:
        flat = row.reshape(-1)
        if depth == 16:
            lines += b"\0" + flat.astype(">u2").tobytes()
        elif depth == 8:
            lines += b"\0" + flat.astype(np.uint8).tobytes()
        else:
            bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            lines += b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()
    return lines


def png(pixels, colour, depth, extra=b"", interlaced=False):
    """A PNG of any kind, since Pillow writes few of them."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    h, w = pixels.shape[:2]
    if interlaced:
        passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        data = b""
        for y, x, dy, dx in passes:
            part = pixels[y::dy, x::dx]
            if part.size:
                data += samples(part, depth)
    else:
        data = samples(pixels, depth)
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(data, 9))
            + chunk(b"IEND", b""))


def scene(w, h, bands, top=255):
    """Gradients, edges and a fine pattern, so that every filter tap and rounding shows."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    out = []
    for b in range(bands):
        v = 0.5 + 0.25 * np.sin((x * (b + 1) + y * 2) / 5.0) + 0.25 * np.cos((y * (b + 2) - x) / 7.0)
        v = np.where((x + y * (b + 1)) % (9 + b) < 2, 1 - v, v)
        v = np.where((x - w / 2) ** 2 + (y - h / 2) ** 2 < (min(w, h) / (3 + b)) ** 2, (b % 2) * 0.98, v)
        out.append(v)
    return np.clip(np.stack(out, -1) * (top + 1), 0, top).astype(np.uint16)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures():
    rgb = Image.fromarray(scene(61, 43, 3).astype(np.uint8))
    grey = Image.fromarray(scene(50, 37, 1).astype(np.uint8)[..., 0])
    rgba = Image.fromarray(scene(45, 52, 4).astype(np.uint8), "RGBA")
    cmyk = Image.fromarray(scene(40, 48, 4).astype(np.uint8), "CMYK")
    palette = chunk(b"PLTE", bytes(scene(16, 1, 3).astype(np.uint8).reshape(-1)))
    alphas = chunk(b"tRNS", bytes([0, 90, 255, 17]))
    yield "rgb.jpg", saved(rgb, "JPEG", quality=80)
    yield "rgb-444-progressive.jpg", saved(rgb, "JPEG", quality=90, progressive=True, subsampling=0)
    yield "rgb-422.jpg", saved(rgb.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=60, subsampling=1)
    yield "grey.jpg", saved(grey, "JPEG", quality=75)
    yield "cmyk.jpg", saved(cmyk, "JPEG", quality=85)
    yield "lossy.webp", saved(rgb, "WEBP", quality=70)
    yield "alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    frames = [rgba, rgba.transpose(Image.Transpose.ROTATE_180)]
    yield "animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=50)
    yield "bilevel.png", png(scene(33, 29, 1, 1), 0, 1)
    yield "bilevel-interlaced.png", png(scene(33, 29, 1, 1), 0, 1, interlaced=True)
    yield "grey-2.png", png(scene(35, 31, 1, 3), 0, 2, interlaced=True)
    yield "grey-4.png", png(scene(31, 35, 1, 15), 0, 4)
    yield "grey-key.png", png(scene(36, 36, 1), 0, 8, chunk(b"tRNS", struct.pack(">H", 0)))
    yield "grey-16.png", png(scene(32, 47, 1, 400), 0, 16)
    yield "grey-16-wide.png", png(scene(47, 30, 1, 65535), 0, 16, interlaced=True)
    yield "rgb-key.png", png(scene(41, 33, 3), 2, 8, chunk(b"tRNS", struct.pack(">HHH", 0, 249, 0)))
    yield "rgb-16.png", png(scene(33, 41, 3, 65535), 2, 16)
    yield "palette-1.png", png(scene(39, 34, 1, 1), 3, 1, chunk(b"PLTE", bytes([200, 30, 40, 5, 250, 90])))
    yield "palette-4-alpha.png", png(scene(34, 39, 1, 15), 3, 4, palette + alphas, interlaced=True)
    yield "palette-short.png", png(scene(37, 37, 1, 60), 3, 8, palette)
    yield "grey-alpha.png", png(scene(44, 33, 2), 4, 8)
    yield "grey-alpha-16.png", png(scene(33, 44, 2, 65535), 4, 16)
    yield "rgba.png", png(scene(52, 38, 4), 6, 8, interlaced=True)
    yield "rgba-16.png", png(scene(38, 40, 4, 65535), 6, 16)
    yield "one.png", png([[[10, 200, 30]]], 2, 8)
    yield "tall.png", png(scene(9, 300, 3), 2, 8)
    yield "wide.png", png(scene(301, 8, 3), 2, 8)
    yield "very-tall-shrunk.png", png(scene(40, 131, 3), 2, 8)


# ---- preprocessing, in the words of torchvision, open_clip and transformers -----------------------------------


def shortest(image, size):
    w, h = image.size
    return (size, int(size * h / w)) if w <= h else (int(size * w / h), size)


def pad(image, borders, fill):
    bands = len(image.getbands())
    out = ImageOps.expand(image, borders, fill=(fill,) * bands if bands > 1 else fill)
    if image.mode == "P":
        out.putpalette(image.getpalette())
    return out


def crop_torchvision(image, crop, fill=0):
    w, h = image.size
    x, y = max(crop - w, 0), max(crop - h, 0)
    if x or y:
        image = pad(image, (x // 2, y // 2, (x + 1) // 2, (y + 1) // 2), fill)
    w, h = image.size
    left, top = round((w - crop) / 2), round((h - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def crop_transformers(a, crop):
    h, w = a.shape[:2]
    out = np.zeros((max(h, crop), max(w, crop), 3), np.uint8)
    y, x = -((h - out.shape[0]) // 2), -((w - out.shape[1]) // 2)
    out[y:y + h, x:x + w] = a
    y, x = (out.shape[0] - crop) // 2, (out.shape[1] - crop) // 2
    return out[y:y + crop, x:x + crop]


def over_white(image):
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, (255,) * 4)
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def openai(image, size, crop, filter):
    return np.array(crop_torchvision(image.resize(shortest(image, size), filter), crop).convert("RGB"))


def hugging_face(image, size, crop, filter):
    image = over_white(image)
    return crop_transformers(np.array(image.resize(shortest(image, size), filter)), crop)


def longest(image, size, filter, fill):
    w, h = image.size
    ratio = max(w, h) / size
    return np.array(crop_torchvision(image.resize((max(1, round(w / ratio)), max(1, round(h / ratio))), filter), size,
                                     fill).convert("RGB"))


def squash(image, size, filter):
    return np.array(image.resize((size, size), filter).convert("RGB"))


SETTINGS = {  # as in tests/unit/image/golden.c
    "openai": lambda i: openai(i, 32, 32, Image.Resampling.BICUBIC),
    "openai-pad": lambda i: openai(i, 20, 25, Image.Resampling.BILINEAR),
    "hf": lambda i: hugging_face(i, 32, 29, Image.Resampling.BICUBIC),
    "hf-pad": lambda i: hugging_face(i, 15, 22, Image.Resampling.BICUBIC),
    "longest": lambda i: longest(i, 32, Image.Resampling.BICUBIC, 77),
    "squash": lambda i: squash(i, 24, Image.Resampling.BILINEAR),
}


def make_images():
    folder = ROOT / "image"
    folder.mkdir(parents=True, exist_ok=True)
    names, outputs = [], {name: [] for name in SETTINGS}
    for name, data in pictures():
        (folder / name).write_bytes(data)
        names.append(name)
        for setting, make in SETTINGS.items():
            image = Image.open(io.BytesIO(data))
            image.load()
            outputs[setting].append(make(image))
    (folder / "index.txt").write_text("".join(n + "\n" for n in names))
    for setting, rows in outputs.items():  # [n][side][side][3] u8, no header
        (folder / (setting + ".rgb")).write_bytes(np.stack(rows).tobytes())


# ---- captions -------------------------------------------------------------------------------------------------

TEXTS = [
    "", "   ", "x", "a photo of a cat", "The quick brown fox jumps over the lazy dog.", "the theatre there, then",
    "it's they're I'll we've he'd don't I'M", "''''s '' 't ' s --'d", "tabs\tand\n new  lines\r\n",
    "1234 no. 5, \u00bd \u2167", "na\u00efve caf\u00e9 \u2014 d\u00e9j\u00e0 vu \u2026",
    "e\u0301\u0323 A\u030a \u1112\u1161\u11ab", "\u0130stanbul \u01c5 \u1e9e \u00df",
    "\u0391\u03a3 \u03a3\u0391\u03a3. \u03a3", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
    "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "\u0661\u0662\u0663 \u096a\u096b", "a\u0085b\u00a0c\u2028d\u3000e", "\0a\x01b\x1fc\x7f", "hash # tag ## ###",
    "<|startoftext|> special <|endoftext|> tokens", "glued<|endoftext|>to<|startoftext|>",
    "<|STARTOFTEXT|>'s <|EndOfText|>", "<start_of_text> and <END_OF_TEXT>'s", "<|startoftext <|endoftext|",
    "a_b-c/d\\e@f#g$h%i^j&k*l(m)n=o+p", "the " * 90, "w" * 300, "supercalifragilisticexpialidocious",
]
CLEANED = [  # for open_clip's cleaning
    "\u201cquoted\u201d \u2018single\u2019 don\u2019t \u02bcn", "&lt;b&gt;bold&lt;/b&gt; &amp;amp; Tom &amp; Jerry",
    "&amp;amp;lt; &amp;amp;amp;lt;", "<b>bold</b> &amp; &eacute;", "&EACUTE;T&Eacute; &SZLIG; &nbsp;x&ensp;y",
    "&notit; &ampx &copy 2020 &unknown; &;", "&#233;&#xe9;&#X41 &#128; &#0; &#1; &#xd800; &#99999999;",
    "&#59; &#12ab; a&#10;b", "\ufb01ne \ufb02ow \ufb05 \u01c4 \u0133 \u0149",
    "\uff26\uff35\uff2c\uff2c \uff57\uff49\uff44\uff54\uff48\uff01 \uff76\uff9e\uffe3\uffa1 \uff5f\uffe6",
    "\x1b[36;44mblue\x1b[0m", "bom\ufeff \u206a \ufff9x\ufffb \ufffc", "line\u2028sep\u2029para\r\nend\rmac",
    "<one\n&amp; two\n&lt;", "&amp; one\n<two &amp;\n&amp; three", "'\u017f \u017f",
    "\u03a3\u0391\u03a3 \u03a3 \u0391\u03a3' \u0391\u03a3\u0301", "&fjlig; &FJLIG; &NVLT; &nvlt; &hArr; &HARR;",
]
ADDED = [  # for tokens that were added
    "a cat", "cats concat", "cat_ -cat- cat\u0301 \u2167cat", "cat\u200d cat\u203f \u24d0cat \U0001f130cat", "\u65e5cat cat\u00bd cat\u00b2 \u00aacat",
    "CAT Cat", "to New  York and new\tyork, NEW\u2003YORK!", "newyork new york", "Xyzzy xyzzyx XYZZY", "xyz xyzz zzy", "cafe\u0301 caf\u00e9 CAF\u00c9 caf\u00e9s",
    "<tok><tok> a<tok>b  <tok>  c", "<TOK> <Tok>", "the <tok> new york <tok> cat", " dog dog  dogdog", "<|STARTOFTEXT|> <|startoftext|> <|EndOfText|><|endoftext|>",
    "cat<|endoftext|>cat", "a<|ENDOFTEXT|>!a !<|StartOfText|>a", "catcat cat cat", "end", "ends END", "the [CLS]other [cls] THE the_a",
]
MORE_BYTES = ["6162c3a9", "61ff62", "e282", "e28261", "eda080", "f09f98", "c0af", "f4908080", "80bf61", "f0808080"]


def letters():
    """GPT-2's printable letter of each byte, in the vocabulary's order."""
    shown = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def join(word, pair):
    """The word with every occurrence of the pair merged, from the left."""
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def symbols_of(word):
    letter = letters()
    out = [letter[b] for b in word.encode()]
    return (*out[:-1], out[-1] + "</w>")


def learn_merges(count):
    words = collections.Counter()
    for text in TEXTS[3:] + CLEANED:
        words.update(symbols_of(w) for w in regex.findall(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", text.lower()))
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        merges.append(max(pairs, key=lambda p: (pairs[p], p)))
        joined = collections.Counter()
        for word, n in words.items():
            joined[join(word, merges[-1])] += n
        words = joined
    return merges


def open_clip_ids(text, vocab, merges):
    """open_clip's SimpleTokenizer, with another vocabulary."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = " ".join(text.split()).lower()
    ranks = {m: i for i, m in enumerate(merges)}
    bos, eos = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    ids = [bos]
    pattern = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    for word in regex.findall(pattern, text, regex.IGNORECASE):
        if word in ("<start_of_text>", "<end_of_text>"):
            ids.append(bos if word == "<start_of_text>" else eos)
            continue
        word = symbols_of(word)
        while len(word) > 1:
            best = min(zip(word, word[1:]), key=lambda p: ranks.get(p, len(ranks)))
            if best not in ranks:
                break
            word = join(word, best)
        ids += [vocab[s] for s in word]
    return ids[:76] + [eos]


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def make_texts():
    folder = ROOT / "text"
    specials = ["<|startoftext|>", "<|endoftext|>"]
    merges = learn_merges(180)
    symbols = list(letters().values())
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + specials
    vocab = {t: i for i, t in enumerate(dict.fromkeys(tokens))}

    full = folder / "full"
    full.mkdir(parents=True, exist_ok=True)
    write_json(full / "vocab.json", vocab)
    lines = "".join(f"{a} {b}\n" for a, b in merges)
    (full / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    write_json(full / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": specials[0],
        "eos_token": {"content": specials[1], "__type": "AddedToken"}, "unk_token": specials[1], "pad_token": "!"})

    # tokenizer.json alone, without the letters of most bytes: those become the unknown token
    merges_ascii = [m for m in merges if "".join(m).isascii()]
    known = [chr(b) for b in range(33, 127)]
    tokens = known + [s + "</w>" for s in known] + ["".join(m) for m in merges_ascii] + specials
    small = CLIPTokenizer(vocab={t: i for i, t in enumerate(dict.fromkeys(tokens))}, merges=merges_ascii)
    (folder / "json").mkdir(exist_ok=True)
    write_json(folder / "json" / "tokenizer.json", json.loads(small.backend_tokenizer.to_str()))

    # added tokens with all flags: of tokenizer.json, to which vocab.json has nothing to say, and of added_tokens_decoder
    n = len(small)
    flags = [("cat", {"single_word": True}), ("New  York", {"normalized": True}), ("xyzzy", {"single_word": True, "normalized": True}),
             ("xyz", {"rstrip": True}), ("caf\u00e9", {"normalized": True, "lstrip": True}), (" dog", {"normalized": True}),
             ("<tok>", {"lstrip": True, "rstrip": True, "special": True})]
    every = ("single_word", "lstrip", "rstrip", "normalized", "special")
    added = [{"id": n + i, "content": c, **dict.fromkeys(every, False), **f} for i, (c, f) in enumerate(flags)]
    document = json.loads(small.backend_tokenizer.to_str())
    document["added_tokens"] += added
    (folder / "added").mkdir(exist_ok=True)
    write_json(folder / "added" / "tokenizer.json", document)
    write_json(folder / "added" / "vocab.json", {t: i for i, t in enumerate(["a", "a</w>", *specials])})
    (folder / "added" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "decoder").mkdir(exist_ok=True)
    write_json(folder / "decoder" / "vocab.json", document["model"]["vocab"])
    (folder / "decoder" / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges_ascii))
    token = {"normalized": True, "lstrip": False, "rstrip": False, "single_word": False}
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added}
    decoder[str(n + len(added))] = {"content": "End"}  # normalized, since it does not say special
    write_json(folder / "decoder" / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "bos_token": {"content": specials[0], "__type": "AddedToken", **token},
        "eos_token": {"content": specials[1], "__type": "AddedToken", **token}, "pad_token": specials[1],
        "added_tokens_decoder": decoder})
    write_json(folder / "decoder" / "special_tokens_map.json", {"eos_token": "!"})  # not looked at

    # older files, which leave some tokens without an id; and a class that runs tokenizer.json as it is
    named = dict(zip(("bos_token", "eos_token", "pad_token", "unk_token"), specials + 2 * specials[1:]))
    (folder / "older").mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / "older" / name).write_text((folder / "decoder" / name).read_text())
    write_json(folder / "older" / "added_tokens.json", {"<tok>": n + 2, "CAT": n, "New  York": n + 1, specials[1]: n - 1})
    write_json(folder / "older" / "tokenizer_config.json", {
        **named, "sep_token": {"content": "the", "__type": "AddedToken", **token, "single_word": True}, "cls_token": "[CLS]",
        "image_token": "New  York", "additional_special_tokens": ["xyz", {"content": "the", "__type": "AddedToken", **token}]})
    write_json(folder / "older" / "special_tokens_map.json", {
        "mask_token": {"content": "<tok>", **token, "lstrip": True}, "pad_token": "!", "extra_special_tokens": ["Caf\u00e9"]})
    (folder / "as-file").mkdir(exist_ok=True)
    write_json(folder / "as-file" / "tokenizer.json", document)
    write_json(folder / "as-file" / "tokenizer_config.json", {
        **named, "tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "the",
        "added_tokens_decoder": {str(n): {"content": "cat", **token}, str(n + len(added)): {"content": "[CLS]", **token}}})
    (folder / "as-file-older").mkdir(exist_ok=True)  # as transformers 4 wrote it
    split, by_bytes = document["pre_tokenizer"]["pretokenizers"]
    split["pattern"]["Regex"] = split["pattern"]["Regex"][len(r"<\|startoftext\|>|<\|endoftext\|>|"):]
    del by_bytes["use_regex"]
    write_json(folder / "as-file-older" / "tokenizer.json", document)
    write_json(folder / "as-file-older" / "tokenizer_config.json", {**named, "tokenizer_class": "PreTrainedTokenizerFast"})

    cases = []
    readers = {"full": CLIPTokenizer.from_pretrained(full), "json": CLIPTokenizer.from_pretrained(folder / "json")}
    for data in [t.encode() for t in TEXTS + CLEANED] + [bytes.fromhex(b) for b in MORE_BYTES]:
        text = data.decode("utf-8", "replace")
        for name, reader in readers.items():
            ids = reader(text, truncation=True, max_length=77)["input_ids"]
            cases.append({"folder": name, "rules": 1, "hex": data.hex(), "ids": ids})
        cases.append({"folder": "full", "rules": 2, "hex": data.hex(), "ids": open_clip_ids(text, vocab, merges)})
    for name in ("added", "decoder", "older", "as-file", "as-file-older"):
        reader = (TokenizersBackend if name.startswith("as-file") else CLIPTokenizer).from_pretrained(folder / name)
        for text in ADDED:
            ids = reader(text, truncation=True, max_length=77)["input_ids"]
            cases.append({"folder": name, "rules": 1, "hex": text.encode().hex(), "ids": ids})
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    (folder / "cases.json").write_text("[\n" + lines + "\n]\n")

# ---- HTML's named characters, for src/text/entities.h --------------------------------------------------------


def literal(text):
    """A C string literal's inside; what would not show is escaped."""
    out = ""
    for c in text:
        shows = c.isprintable() and not c.isspace() and unicodedata.combining(c) == 0 and c not in '\\"?'
        if shows and ord(c) < 0x10000:
            out += c
        elif ord(c) < 128:
            out += f"\\{ord(c):03o}"
        else:
            out += f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
    return out


def make_entities():
    lines, line, at, starts = [], "", 0, {}
    for name, text in sorted(html.entities.html5.items()):
        starts.setdefault(name[0], at)
        at += len(name.encode()) + len(text.encode()) + 2
        item = f"{name}\\0{literal(text)}\\0"
        if len(line) + len(item) > 150:
            lines.append(line)
            line = ""
        line += item
    lines.append(line)
    offsets = ", ".join(f"['{letter}'] = {start}" for letter, start in starts.items())
    path = ROOT.parents[1] / "src" / "text" / "entities.h"
    path.write_text("/* text/entities.h: HTML5's named characters, in pairs of name and text; for html.c alone.\n"
                    " * Made by tools/golden/make_image_text.py from Python's html.entities. */\n"
                    "/* clang-format off */\n"
                    "static const char entities[] =\n" + "\n".join(f'    "{x}"' for x in lines) + ";\n"
                    "/* Where the names of a first letter begin. */\n"
                    f"static const uint16_t entity_starts[128] = {{{offsets}}};\n"
                    "/* clang-format on */\n", encoding="utf-8")


if __name__ == "__main__":
    make_images()
    make_texts()
    make_entities()
