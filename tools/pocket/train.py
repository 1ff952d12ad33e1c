#!/usr/bin/env python3
"""Trains the pocket CLIP: two augmented views of each caption's drawings, against the text and
against each other. The seed and the count of steps settle the result, not the clock.

    train.py --work DIR --out DIR [--steps N] [--seed N] [--threads N]
"""
import argparse
import math
import pathlib
import random
import time

import torch
from torch.nn import functional

import bpe
import data
import export
from model import SHAPE, Clip

VOCABULARY = 2200
BATCH = 160
RATE, DECAY, WARM = 1e-3, 0.1, 200
AVERAGE = 0.995
KEPT_PATCHES, KEPT_UNTIL = 24, 0.9  # of 36 patches, for this part of the steps
SIDED = {"left", "right", "clockwise", "anticlockwise", "clock", "letter", "keycap", "o'clock"}


def normalise(pictures):
    """Pictures between 0 and 1 as the model wants them."""
    mean = torch.tensor(export.MEAN).view(1, 3, 1, 1)
    return (pictures - mean) / torch.tensor(export.STD).view(1, 3, 1, 1)


def uniform(count, low, high, *more):
    return torch.rand(count, *more) * (high - low) + low


def augment(pictures, flippable):
    """Other drawings of the same things: bent, turned, recoloured, with a piece cut out."""
    count, side = len(pictures), SHAPE["side"]
    turn = uniform(count, -1, 1).pow(3) * math.radians(35)
    width, height = uniform(count, 0.85, 1.3), uniform(count, 0.85, 1.3)
    both = uniform(count, 0.9, 1.2)
    mirror = torch.where((torch.rand(count) < 0.3) & flippable, -1.0, 1.0)
    slant = uniform(count, -0.2, 0.2)
    place = torch.zeros(count, 2, 3)
    place[:, 0, 0] = turn.cos() * width * both * mirror
    place[:, 0, 1] = -turn.sin() * height * both + slant
    place[:, 1, 0] = turn.sin() * width * both * mirror
    place[:, 1, 1] = turn.cos() * height * both
    place[:, :, 2] = uniform(count, -0.15, 0.15, 2)
    grid = functional.affine_grid(place, (count, 3, side, side), align_corners=False)
    bend = torch.randn(count, 2, 5, 5) * uniform(count, 0, 0.09).view(-1, 1, 1, 1)
    bend = functional.interpolate(bend, (side, side), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    ink = functional.grid_sample(1 - pictures, grid, "bicubic", "zeros", align_corners=False)
    pictures = (1 - ink).clamp(0, 1)

    mix = torch.eye(3) + torch.randn(count, 3, 3) * uniform(count, 0, 0.35).view(-1, 1, 1)
    mix = mix / mix.sum(2, keepdim=True).clamp(min=0.5)  # white stays about white
    pictures = torch.einsum("nij,njhw->nihw", mix, pictures)
    grey = pictures.mean(1, keepdim=True)
    share = (torch.rand(count) < 0.2).float().view(-1, 1, 1, 1)
    pictures = pictures * (1 - share) + grey * share
    contrast = uniform(count, 0.6, 1.4).view(-1, 1, 1, 1)
    centre = pictures.mean((1, 2, 3), keepdim=True)
    pictures = (pictures - centre) * contrast + centre
    pictures = (pictures + uniform(count, -0.1, 0.1).view(-1, 1, 1, 1)).clamp(0, 1)

    along = torch.arange(side).view(1, -1)
    half = uniform(count, 0, 9).view(-1, 1) * (torch.rand(count, 1) < 0.4)
    inside_y = (along - uniform(count, 0, side).view(-1, 1)).abs() < half
    inside_x = (along - uniform(count, 0, side).view(-1, 1)).abs() < half
    hole = (inside_y[:, :, None] & inside_x[:, None, :]).float()[:, None]
    return pictures * (1 - hole) + torch.rand(count, 3, 1, 1) * hole


class Captions:
    """Draws captions and pairs of their pictures."""

    def __init__(self, about, tokenizer, rng):
        self.groups, self.hands, self.rng = about["groups"], about["hands"], rng
        self.tokenizer, self.known = tokenizer, {}
        self.weights = torch.tensor([2.0 if g["emoji"] else 1.4 if len(g["pictures"]) > 1 else 1.0
                                     for g in self.groups])
        self.flippable = [not SIDED & set(g["title"].split()) for g in self.groups]

    def text(self, group):
        words, title = group["keywords"], group["title"]
        if not words or self.rng.random() < (0.6 if group["emoji"] else 0.5):
            return title
        some = self.rng.sample(words, min(len(words), self.rng.randint(1, 4)))
        return ", ".join(some if self.rng.random() < 0.25 else [title] + some)

    def two(self, group):
        pictures = group["pictures"]
        if len(pictures) == 1:
            return pictures * 2
        if group["emoji"] and self.rng.random() < 0.4:
            asked = [p for p in pictures if self.hands[p] in ("emojione", "noto")]
            if len(asked) == 2:
                return asked
        return self.rng.sample(pictures, 2)

    def batch(self):
        chosen = torch.multinomial(self.weights, BATCH).tolist()
        groups = [self.groups[number] for number in chosen]
        views = [self.two(group) for group in groups]
        flippable = torch.tensor([self.flippable[number] for number in chosen])
        tokens, ends = rows(self.tokenizer, [self.text(group) for group in groups])
        return [v[0] for v in views] + [v[1] for v in views], flippable.repeat(2), tokens, ends


def rows(tokenizer, texts):
    """Token rows, padded with end marks to the longest, and the place of each end mark."""
    found = [tokenizer.encode(text, SHAPE["context"]) for text in texts]
    length = max(map(len, found))
    tokens = torch.tensor([row + [tokenizer.end] * (length - len(row)) for row in found])
    return tokens, torch.tensor([len(row) - 1 for row in found])


def contrast(left, right, scale):
    logits = left @ right.T * scale
    own = torch.arange(len(left))
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def rate(step, steps, top):
    if step < WARM:
        return top * (step + 1) / WARM
    return top * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - WARM) / (steps - WARM))))


@torch.no_grad()
def figures(model, stored, about, tokenizer):
    """Accuracies over all names, EmojiOne's drawings asking: by name and by nearest Noto one."""
    def vectors(key):
        pixels = torch.from_numpy(stored[key]).permute(0, 3, 1, 2).float() / 255
        return torch.cat([model.images(normalise(part)) for part in pixels.split(256)])

    asked, memory = vectors("emojione"), vectors("noto")
    named = model.texts(*rows(tokenizer, about["names"]))
    seen = set(about["seen"])
    old = torch.arange(len(asked)) < about["old"]
    known = torch.tensor([name in seen for name in about["names"]])
    own = torch.arange(len(asked))
    out = {}
    for kind, bank in (("clip", named), ("nearest", memory)):
        right = ((asked @ bank.T).argmax(1) == own).float()
        for part, mask in (("old", old), ("seen", known), ("unseen", old & ~known), ("new", ~old)):
            out[f"{kind}_{part}"] = round(100 * right[mask].mean().item(), 1)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="scratch, reused")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the model's folder")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=float, default=RATE, help="the highest learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=400, help="steps between exports")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--until", type=int, help="stop after this step, to go on with --resume")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    rng = random.Random(arguments.seed)

    stored, about = data.prepare(arguments.work)
    stored = {key: stored[key] for key in stored.files}
    lines = [" | ".join([g["title"], ", ".join(g["keywords"])] if g["keywords"] else [g["title"]])
             for g in about["groups"]]
    tokenizer = bpe.Tokenizer(bpe.learn(lines, VOCABULARY))
    pictures = torch.from_numpy(stored["pictures"]).permute(0, 3, 1, 2).contiguous()
    captions = Captions(about, tokenizer, rng)

    model = Clip(tokenizer.size)
    own_scale = torch.nn.Parameter(torch.tensor(2.3))
    average = Clip(tokenizer.size)
    average.load_state_dict(model.state_dict())
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1] + [own_scale]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY},
                                   {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.98))
    checkpoint, first = arguments.work / "checkpoint.pt", 0
    print(f"{len(pictures)} pictures, {len(lines)} captions, {tokenizer.size} tokens,"
          f" {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    if arguments.resume and checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=False)
        first = kept["step"]
        model.load_state_dict(kept["model"])
        average.load_state_dict(kept["average"])
        optimizer.load_state_dict(kept["optimizer"])
        own_scale.data.copy_(kept["own_scale"])
        torch.set_rng_state(kept["torch"])
        rng.setstate(kept["python"])
    started, losses = time.time(), []
    for step in range(first, arguments.steps):
        chosen, flippable, tokens, ends = captions.batch()
        views = normalise(augment(pictures[chosen].float() / 255, flippable))
        kept = None
        if step < KEPT_UNTIL * arguments.steps:
            patches = (SHAPE["side"] // SHAPE["patch"]) ** 2
            kept = torch.rand(len(views), patches).argsort(1)[:, :KEPT_PATCHES]
        one, two = model.images(views, kept).chunk(2)
        text = model.texts(tokens, ends)
        scale, between = model.logit_scale.exp(), own_scale.exp()
        loss = (contrast(one, text, scale) + contrast(two, text, scale)) / 2 + \
            contrast(one, two, between)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, arguments.steps, arguments.rate)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
            own_scale.clamp_(max=math.log(50))
            share = min(AVERAGE, (1 + step) / (10 + step))
            for mean, weight in zip(average.parameters(), model.parameters()):
                mean.lerp_(weight, 1 - share)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"{step + 1} loss {sum(losses) / len(losses):.3f}"
                  f" {(time.time() - started) / (step + 1 - first):.3f} s a step"
                  f" scales {scale.item():.1f} {between.item():.1f}", flush=True)
            losses = []
        last = step + 1 == arguments.steps
        stop = step + 1 == arguments.until
        if (step + 1) % arguments.every == 0 or last or stop:
            print(step + 1, figures(average, stored, about, tokenizer), flush=True)
            folder = arguments.out if last else arguments.work / "model-latest"
            export.write_model(folder, average.state_dict(), tokenizer, lines, about["seen"])
            torch.save({"step": step + 1, "model": model.state_dict(),
                        "average": average.state_dict(), "own_scale": own_scale.data,
                        "optimizer": optimizer.state_dict(), "torch": torch.get_rng_state(),
                        "python": rng.getstate()}, checkpoint)
        if stop:
            break


if __name__ == "__main__":
    main()
