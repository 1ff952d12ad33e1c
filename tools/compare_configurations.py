#!/usr/bin/env python3
"""reco against open_clip in every configuration that open_clip carries, and in random ones; random weights, no download.

Each configuration is cut down (two layers, narrow), written as a folder, and read by both. A line per configuration says
`equal` (pixels and ids the same, cosines in f32 above 0.99999), `refused` and by which key, or DIFFERENT, with which the
program exits with 1.

    tools/compare_configurations.py                        all of open_clip's
    tools/compare_configurations.py ViT-B-32 RN50          these
    tools/compare_configurations.py --random 100 --seed 7  made of keys that change the numbers

Needs what compare_reference.py needs for open_clip, and sentencepiece."""
import argparse
import copy
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import types

import compare_reference
import open_clip
import timm
import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMAGES = sorted((ROOT / "tests" / "golden" / "small" / "images").iterdir())
TEXTS = ["a photo of a cat", "it's the 2nd  café!", "x", "and on " * 60, "ﬁancé &amp; co"]
CREATE = timm.create_model


def fill(model, seed):
    """Weights of trained scales, so that a mistake anywhere shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name.startswith("logit_"):
                continue
            if p.ndim == 1:
                gain = name.endswith("weight") and ("norm" in name or "ln_" in name)
                p.copy_((1 if gain else 0) + 0.2 * noise)
            else:
                p.copy_(noise * (0.3 if "embed" in name and p.ndim < 4 else p[0].numel() ** -0.5))
    return model.eval()


def listed(name):
    """(configuration, its timm tower's sizes): cut down where reco may read it."""
    cfg, sizes = copy.deepcopy(open_clip.get_model_config(name)), {}
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    timm_name = vision.get("timm_model_name", "")
    if "multimodal_cfg" in cfg or "hf_model_name" in text or isinstance(vision.get("layers"), list):
        return cfg, None
    text.update(layers=2, width=text["heads"] * 8)
    if not timm_name:
        vision.update(layers=2, width=vision.get("head_width", 64) * 2)
    elif "_siglip_" in timm_name or timm_name.startswith("vit_large_patch14_clip"):
        sizes = dict(embed_dim=8 * (12 if timm_name.startswith("vit_base") else 16), depth=2)
    else:
        return cfg, None
    cfg["embed_dim"] = sizes["embed_dim"] if "_siglip_" in timm_name else 64
    if text.get("proj_type") == "none":
        text["width"] = cfg["embed_dim"]
    return cfg, sizes


def drawn(seed):
    draw = random.Random(seed)

    def some(section, **choices):
        for key, values in choices.items():
            if draw.random() < 0.3:
                section[key] = draw.choice(values)

    head = draw.choice([8, 12, 16])
    vision = dict(image_size=draw.choice([32, 37, 40, [64, 64]]), patch_size=draw.choice([8, 16]), layers=draw.choice([1, 2, 3]),
                  width=head * draw.choice([2, 3, 4]), head_width=head)
    heads = draw.choice([1, 2, 3])
    text = dict(layers=draw.choice([1, 2]), heads=heads, width=heads * draw.choice([8, 16]), context_length=draw.choice([77, 20, 12]))
    cfg = dict(embed_dim=draw.choice([16, 24, 40]), vision_cfg=vision, text_cfg=text)
    for tower in (vision, text):
        some(tower, mlp_ratio=[1, 2.5, 4.9231], ls_init_value=[1e-4, 1.0], norm_kwargs=[{"eps": 1e-6}, {"eps": 1e-3}, {}],
             act_kwargs=[{"approximate": "tanh"}, {}], block_type=["default", "custom"], final_ln_after_pool=[True], qk_norm=[False] * 9 + [True])
    some(vision, pool_type=["tok", "avg", "avg", "none"], no_ln_pre=[True], pos_embed_type=["learnable", "sin_cos_2d"], patch_dropout=[0.5])
    some(text, pool_type=["argmax", "first", "last"], no_causal_mask=[True], proj_bias=[True],
         tokenizer_kwargs=[{"clean": c} for c in ("lower", "whitespace", "canonicalize")])
    if draw.random() < 0.2:
        text.update(pool_type="eos", eos_id=draw.choice([49407, 2]))
    if draw.random() < 0.2:
        text.update(proj_type="none", width=cfg["embed_dim"], heads=2)
    some(cfg, quick_gelu=[True], custom_text=[True], init_logit_bias=[-10.0], nonscalar_logit_scale=[True])
    preprocess = {}
    some(preprocess, resize_mode=["shortest", "longest", "squash"], interpolation=["bilinear", "bicubic", "random"],
         mean=[0.5, [0.1, 0.2, 0.3]], std=[0.5, [0.1, 0.2, 0.3]], fill_color=[128], size=[99])
    return cfg, {}, preprocess


def t5(folder):
    import sentencepiece
    lines = [line.lower() for path in sorted((ROOT / "docs").glob("*.md")) for line in path.read_text().splitlines() if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines + TEXTS), model_prefix=str(folder / "spiece"), vocab_size=1000, character_coverage=1.0, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, normalization_rule_name="identity", hard_vocab_limit=False)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>", "extra_ids": 0,
        "legacy": False}))


def write(folder, cfg, sizes, preprocess, seed):
    """False where open_clip itself does not take the configuration."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": preprocess}))
    if sizes is None:
        return True  # refused before the weights
    timm.create_model = lambda name, **kw: CREATE(name, **sizes, **kw)
    kind = open_clip.model.CustomTextCLIP if cfg.get("custom_text") else open_clip.model.CLIP
    try:
        model = fill(kind(**{k: v for k, v in copy.deepcopy(cfg).items() if k != "custom_text"}), seed)
    except (TypeError, AssertionError, ValueError):
        return False
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    if "siglip" in cfg["text_cfg"].get("hf_tokenizer_name", "").lower():
        t5(folder)
    return True


def compare(folder, reco):
    """(verdict, why)"""
    info = subprocess.run([reco, "model", "info", folder, "--json"], capture_output=True, text=True)
    if info.returncode != 0:
        return "refused", info.stderr.strip().replace(f"reco: {folder}/", "")
    (folder / "images").write_text("".join(f"{p}\n" for p in IMAGES))
    (folder / "texts").write_text("\n".join(TEXTS) + "\n")
    (folder / "out").mkdir()
    texts = json.loads(info.stdout)["tokenizer"] is not None
    a = types.SimpleNamespace(model=folder, images=folder / "images", texts=folder / "texts" if texts else None, precision="f32",
                              reco=reco, cosine=None, pixel=compare_reference.PIXEL)
    summary, arrays = compare_reference.run_reco(a, folder / "out")
    report = compare_reference.compare(compare_reference.OpenClip(folder, summary), summary, arrays, a)
    worst = {k: report[k]["smallest_cosine"] for k in ("tower", "text") if k in report}
    if report["failed"]:
        return "DIFFERENT", f"{', '.join(report['failed'])}: {worst}"
    return ("equal" if texts else "equal, pictures alone"), ", ".join(f"{k} {v:.7f}" for k, v in worst.items())


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("names", nargs="*")
    p.add_argument("--random", type=int, metavar="N")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--reco", default=str(ROOT / "build" / "cli" / "reco"))
    a = p.parse_args()
    every = sorted(path.stem for path in (pathlib.Path(open_clip.__file__).parent / "model_configs").glob("*.json"))
    seeds = range(a.seed, a.seed + a.random) if a.random else []
    cases = [(f"seed {s}", lambda s=s: drawn(s)) for s in seeds] or [(n, lambda n=n: (*listed(n), {})) for n in a.names or every]
    count = {}
    for i, (name, make) in enumerate(cases):
        with tempfile.TemporaryDirectory(prefix="reco-configurations-") as folder:
            made = write(pathlib.Path(folder), *make(), seed=i)
            verdict, why = compare(pathlib.Path(folder), a.reco) if made else ("not open_clip's", "")
        count[verdict] = count.get(verdict, 0) + 1
        print(f"{name:32} {verdict:10} {why}" + (f" {json.dumps(make()[0])}" if verdict == "DIFFERENT" else ""), flush=True)
    print(", ".join(f"{n} {verdict}" for verdict, n in sorted(count.items())))
    return 1 if count.get("DIFFERENT") else 0


if __name__ == "__main__":
    sys.exit(main())
