#!/usr/bin/env python3
"""Measures a pocket CLIP folder: EmojiOne's drawings ask, all 1,092 names or Noto's drawings answer.

    evaluate.py MODEL --work DIR [--transformers]

Also checks that no caption names a new emoji. --transformers loads the folder with Hugging Face's
classes too and says how far their numbers are from these (needs transformers in the environment).
"""
import argparse
import json
import pathlib

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file

import bpe
import data
from data import demo_emoji
from model import Clip
from train import figures, normalise, rows


def load(folder):
    """The model and tokenizer of a folder that train.py has written."""
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    tokenizer = bpe.Tokenizer(line.split(" ") for line in lines)
    model = Clip(tokenizer.size)
    weights = {name: weight.float() for name, weight in
               load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights)
    return model.eval(), tokenizer


def leaks(folder, found):
    """The captions that name a new emoji, by the training's own filter and by a plain search."""
    lines = (folder / "captions.txt").read_text(encoding="utf-8").splitlines()
    names = [e.name for e in found if not e.old]
    filter_ = data.Names(names)
    return [line for line in lines if
            any(filter_.within(part) for part in line.replace(" | ", ", ").split(", ")) or
            any(f" {name.lower()} " in f" {line.lower()} " for name in names)]


@torch.no_grad()
def compare(folder, model, tokenizer, found):
    """The largest differences to transformers: tokens that differ, then of the two vectors."""
    import transformers
    names = [e.name for e in found]
    theirs = transformers.CLIPModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    their_tokens = transformers.CLIPTokenizer.from_pretrained(folder)
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    batch = their_tokens(names, padding=True, truncation=True, return_tensors="pt")
    tokens, ends = rows(tokenizer, names)
    wrong = sum(a != b for a, b in zip(
        [tokenizer.encode(name, 24) for name in names],
        [[t for t, m in zip(row, mask) if m] for row, mask in
         zip(batch["input_ids"].tolist(), batch["attention_mask"].tolist())]))
    text = theirs.get_text_features(**batch)
    text = getattr(text, "pooler_output", text)
    text = torch.nn.functional.normalize(text, dim=1)
    pictures = [demo_emoji.on_white(e.emojione) for e in found[:200]]
    seen = theirs.get_image_features(**processor(images=pictures, return_tensors="pt"))
    seen = torch.nn.functional.normalize(getattr(seen, "pooler_output", seen), dim=1)
    own = numpy.stack([data.square(picture, trim=False) for picture in pictures])
    pixels = torch.from_numpy(own).permute(0, 3, 1, 2).float() / 255
    return {"token rows that differ": wrong,
            "text": (text - model.texts(tokens, ends)).abs().max().item(),
            "image": (seen - model.images(normalise(pixels))).abs().max().item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="scratch, reused")
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = demo_emoji.load_emoji(arguments.work / "packages")
    model, tokenizer = load(arguments.model)
    stored = {hand: numpy.stack([data.square(Image.open(getattr(e, hand)), trim=False)
                                 for e in found]) for hand in ("emojione", "noto")}
    about = {"names": [e.name for e in found], "old": sum(e.old for e in found),
             "seen": (arguments.model / "seen.txt").read_text(encoding="utf-8").splitlines()}
    result = figures(model, stored, about, tokenizer)
    result["captions naming a new emoji"] = leaks(arguments.model, found)
    if arguments.transformers:
        result["transformers"] = compare(arguments.model, model, tokenizer, found)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
