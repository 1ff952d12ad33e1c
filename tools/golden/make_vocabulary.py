"""What the makers of model goldens share: the smallest vocabulary with every part, and the conversion to RGB."""
import json

import numpy as np
from PIL import Image

MERGES = ["a t</w>", "c at</w>", "p h", "o t", "ph ot", "phot o</w>"]


def vocabulary(folder, begin="<|startoftext|>", end="<|endoftext|>"):
    """Bytes, bytes that end a word, a few merges, special tokens."""
    codes = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars = [chr(c) for c in codes] + [chr(256 + i) for i in range(256 - len(codes))]
    names = chars + [c + "</w>" for c in chars] + [m.replace(" ", "") for m in MERGES]
    names += [begin, end]
    (folder / "vocab.json").write_text(json.dumps({n: i for i, n in enumerate(names)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 20, "bos_token": begin,
        "eos_token": end, "unk_token": end, "pad_token": end}))
    return len(names)


def rgb(path):
    """As transformers 5 converts: what is transparent lies on white."""
    picture = Image.open(path)
    if picture.mode == "RGB":
        return np.asarray(picture)
    picture = picture.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
