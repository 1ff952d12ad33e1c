#!/usr/bin/env python3
"""Compare reco with the reference implementation of a model folder: transformers or open_clip, as installed.

Runs `reco model check`, computes the same with the reference in f32, and prints the greatest difference of a pixel,
whether the token ids are equal, and the smallest and the mean cosine of each side. Exits with 1 when one of them misses
its tolerance.

    tools/compare_reference.py MODEL --images DIR --texts FILE [--precision f32] [--processor torchvision]

MODEL may be a whole model or one tower. transformers has two processors of pictures for every model: reco does what the
one with Pillow does; --processor torchvision compares with the other, which transformers 5 takes by default, and whose
pixels differ by a few grey levels (docs/models.md), so that `pixels` fails and the cosines say what that amounts to.

Needs torch, numpy and Pillow, and for a Hugging Face folder transformers, for an open_clip folder open_clip_torch (which
needs ftfy and torchvision). Older ones differ by the pixels of some pictures: Pillow before 13 decodes some JPEG files
otherwise and resizes very tall pictures in another order, and transformers up to 5.3 at least drops the alpha channel
where later ones draw over white. The tower's cosine, from reco's own pixels, tells such cases from wrong weights."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import PIL
import torch
from PIL import Image

COSINE = {"f32": 0.99999, "bf16": 0.999, "int8": 0.99}  # at least, of each row; int8 in the mean
PIXEL = 1e-5  # at most; a step of one grey level is above 0.01


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("model", help="model folder")
    p.add_argument("--images", metavar="DIR|LIST")
    p.add_argument("--texts", metavar="FILE")
    p.add_argument("--precision", default="f32", help="of reco (the reference is always f32); default f32")
    p.add_argument("--kind", choices=["hf", "open_clip"], help="default: open_clip where the folder has open_clip_config.json")
    p.add_argument("--processor", choices=["pil", "torchvision"], default="pil", help="of transformers' pictures; default pil")
    p.add_argument("--reco", default=None, help="the program; default: build/cli/reco beside this file, else reco in the PATH")
    p.add_argument("--out", metavar="DIR", help="keep what reco writes (default: a temporary folder)")
    p.add_argument("--cosine", type=float, help="least cosine; default by precision: " + ", ".join(f"{k} {v}" for k, v in COSINE.items()))
    p.add_argument("--pixel", type=float, default=PIXEL, help=f"greatest difference of a pixel; default {PIXEL}")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if not a.images and not a.texts:
        p.error("want --images, --texts or both")
    if a.cosine is None and a.precision not in COSINE:
        p.error(f"--precision = {a.precision}: say --cosine as well")
    return a


def run_reco(a, out):
    built = pathlib.Path(__file__).resolve().parents[1] / "build" / "cli" / "reco"
    command = [a.reco or (built if built.exists() else "reco"), "model", "check", a.model, "--out", out,
               "--precision", a.precision, "--quiet", "--json"]
    for side in ("images", "texts"):
        if getattr(a, side):
            command += ["--" + side, getattr(a, side)]
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode)
    summary = json.loads((out / "check.json").read_text())
    arrays = {name: np.load(out / (name + ".npy")) for name in ("pixels", "image", "ids", "text")
              if (out / (name + ".npy")).exists()}
    return summary, arrays


class HuggingFace:
    """A folder that transformers reads: both towers, or one of them."""

    def __init__(self, folder, summary, processor="pil"):
        import transformers

        self.name = f"transformers {transformers.__version__}, Pillow {PIL.__version__}, torch {torch.__version__}"
        transformers.utils.logging.disable_progress_bar()
        self.folder, self.context = folder, summary["model"]["context"]
        self.name += f", {processor} processor"
        if summary["images"]:
            self.processor = self.load_processor(transformers, processor)
        if summary["texts"]:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        config = transformers.AutoConfig.from_pretrained(folder)
        architecture = (config.architectures or [""])[0]
        # Of a classifier, which gives logits, the tower is compared.
        classifier = architecture.endswith("ForImageClassification")
        kind = transformers.AutoModel if classifier else getattr(transformers, architecture, transformers.AutoModel)
        self.model = kind.from_pretrained(folder, torch_dtype=torch.float32).eval()

    def load_processor(self, transformers, backend):
        load = transformers.AutoImageProcessor.from_pretrained
        if int(transformers.__version__.split(".")[0]) >= 5:
            return load(self.folder, backend=backend)
        return load(self.folder, use_fast=backend == "torchvision")

    def pixels(self, images):
        return np.asarray(self.processor(images=images, return_tensors="pt")["pixel_values"])

    def ids(self, texts):
        return self.tokenizer(texts, padding="max_length", max_length=self.context, truncation=True, return_tensors="np")["input_ids"]

    def features(self, side, **inputs):
        function = getattr(self.model, f"get_{side}_features", None)
        out = (function or self.model)(**inputs)
        if torch.is_tensor(out):
            return out
        # CLIP's towers alone have a projection, SigLIP's end in their pooling.
        embeds = None if function else getattr(out, f"{side}_embeds", None)
        return out.pooler_output if embeds is None else embeds

    def image(self, pixels):
        return self.features("image", pixel_values=pixels)

    def text(self, ids):
        # Captions attend to the left alone in CLIP, and to their padding as well in SigLIP: no mask in either.
        return self.features("text", input_ids=ids)


class OpenClip:
    def __init__(self, folder, summary, processor=None):
        import open_clip

        self.name = f"open_clip {open_clip.__version__}, Pillow {PIL.__version__}, torch {torch.__version__}"
        self.context = summary["model"]["context"]
        folder = "local-dir:" + str(pathlib.Path(folder).resolve())
        self.model, self.preprocess = open_clip.create_model_from_pretrained(folder, precision="fp32")
        self.model.eval()
        if summary["texts"]:
            self.tokenizer = open_clip.get_tokenizer(folder)

    def pixels(self, images):
        return np.stack([self.preprocess(i).numpy() for i in images])

    def ids(self, texts):
        return self.tokenizer(texts, context_length=self.context).numpy()

    def image(self, pixels):
        return self.model.encode_image(pixels)

    def text(self, ids):
        return self.model.encode_text(ids)


def batches(function, items, size=32):
    return np.concatenate([np.asarray(function(items[i:i + size])) for i in range(0, len(items), size)])


def unit(rows):
    rows = rows.double()
    return (rows / rows.norm(dim=-1, keepdim=True)).numpy()


def opened(path):
    image = Image.open(path)
    image.load()
    return image


def pixels_of(reference, paths, report):
    """The pictures one by one, since older processors fail on those that are not RGB: ([n][3][R][R], which of paths)."""
    rows, kept, report["reference_failures"] = [], [], []
    for i, path in enumerate(paths):
        try:
            rows.append(reference.pixels([opened(path)])[0])
            kept.append(i)
        except (ValueError, RuntimeError, OSError) as error:
            report["reference_failures"].append({"item": path, "reason": str(error).split("\n")[0]})
    if not rows:
        sys.exit(f"compare_reference.py: the reference can read no picture: {report['reference_failures'][0]['reason']}")
    return np.stack(rows), kept


def compare(reference, summary, arrays, a):
    least = a.cosine if a.cosine is not None else COSINE[a.precision]
    report = {"reference": reference.name, "model": summary["model"], "cosine_wanted": least, "pixel_wanted": a.pixel,
              "failures": len(summary["failures"])}
    bad = []

    def cosine(side, key, want):
        rows = arrays[side].astype(np.float64)
        cosines = np.minimum((rows * want).sum(-1), 1)
        of = summary["images" if side == "image" else "texts"]
        report[key] = {"rows": len(rows), "smallest_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean()),
                        "worst": of[int(cosines.argmin())]}
        if not (cosines.mean() if a.precision == "int8" else cosines.min()) >= least:
            bad.append(f"{key} cosine")

    with torch.no_grad():
        if summary["images"]:
            pixels, kept = pixels_of(reference, summary["images"], report)
            for name in ("pixels", "image"):
                arrays[name] = arrays[name][kept]
            summary["images"] = [summary["images"][i] for i in kept]
            away = np.abs(arrays["pixels"] - pixels).reshape(len(pixels), -1).max(-1)
            for key, x in (("image", pixels.astype(np.float32)), ("tower", arrays["pixels"])):
                cosine("image", key, batches(lambda x: unit(reference.image(torch.from_numpy(x))), x))
            report["pixels"] = {"greatest_difference": float(away.max()), "worst": summary["images"][int(away.argmax())],
                                "pictures_over": [p for p, d in zip(summary["images"], away) if not d <= a.pixel]}
            if report["pixels"]["pictures_over"]:
                bad.append("pixels")
        if summary["texts"]:
            ids = np.asarray(batches(reference.ids, summary["texts"]), np.int64)
            same = ids.shape == arrays["ids"].shape and (ids == arrays["ids"]).all(-1)
            report["ids"] = {"equal": bool(np.all(same)),
                             "captions_that_differ": [t for t, s in zip(summary["texts"], np.broadcast_to(same, len(ids))) if not s]}
            if not report["ids"]["equal"]:
                bad.append("ids")
            cosine("text", "text", batches(lambda x: unit(reference.text(torch.from_numpy(x))), ids))
    report["failed"] = bad
    return report


def show(r):
    print(f"{r['model']['name']} ({r['model']['family']}), reco in {r['model']['precision']}, against {r['reference']}")
    if "pixels" in r:
        p, i = r["pixels"], r["image"]
        print(f"pixels   greatest difference {p['greatest_difference']:.3g} ({p['worst']}), {len(p['pictures_over'])} of {i['rows']} over {r['pixel_wanted']:g}")
        for path in p["pictures_over"][:20]:
            print(f"           {path}")
        print(f"image    smallest cosine {i['smallest_cosine']:.7f} ({i['worst']}), mean {i['mean_cosine']:.7f}, {i['rows']} rows")
        t = r["tower"]
        print(f"tower    smallest cosine {t['smallest_cosine']:.7f} ({t['worst']}), mean {t['mean_cosine']:.7f}, from reco's own pixels")
    if "ids" in r:
        d, t = r["ids"], r["text"]
        print(f"ids      {'equal' if d['equal'] else 'DIFFER'} in {t['rows']} captions")
        for text in d["captions_that_differ"][:20]:
            print(f"           {text!r}")
        print(f"text     smallest cosine {t['smallest_cosine']:.7f} ({t['worst']!r}), mean {t['mean_cosine']:.7f}, {t['rows']} rows")
    if r["failures"]:
        print(f"skipped  {r['failures']} inputs that reco could not read")
    for failure in r.get("reference_failures", []):
        print(f"skipped  {failure['item']}, which the reference cannot read: {failure['reason']}")
    print("FAILED: " + ", ".join(r["failed"]) if r["failed"] else "ok")


def main():
    a = arguments()
    with tempfile.TemporaryDirectory(prefix="reco-compare-") as temporary:
        summary, arrays = run_reco(a, pathlib.Path(a.out or temporary))
    kind = a.kind or ("open_clip" if (pathlib.Path(a.model) / "open_clip_config.json").exists() else "hf")
    try:
        reference = (OpenClip if kind == "open_clip" else HuggingFace)(a.model, summary, a.processor)
    except (ImportError, OSError, ValueError, RuntimeError, KeyError) as error:
        sys.exit(f"compare_reference.py: {kind} cannot load {a.model}: {' '.join(str(error).split())[:300]}")
    report = compare(reference, summary, arrays, a)
    print(json.dumps(report)) if a.json else show(report)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
