"""A replacement for open_clip: code that was written for it runs on plain CLIP or on the refined model. Needs torch.

    from reco import open_clip
    model, _, preprocess = open_clip.create_model_and_transforms("clip/", bank="shop.bank", fusion="fusion.safetensors")
    tokenizer = open_clip.get_tokenizer("clip/")

clip-benchmark uses it through its table of model types:

    reco.open_clip.register()    # then --model_type reco --model clip/ --pretrained bank=shop.bank,fusion=f.safetensors
"""

from __future__ import annotations

import os
from typing import Any, Iterator, Optional, Sequence, Union

from ._arrays import Path
from .bank import Bank
from .fusion import Fusion
from .model import Model

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "pure_bf16": "bf16", "fp16": "auto", "pure_fp16": "auto", "amp": "auto", "amp_bf16": "auto"}


class Processor:
    """Turns a picture into pixels (float32 [3][R][R]) and texts into token ids (int64 [n][context]): open_clip's transforms and
    tokenizer in one object, which decides by the type of its argument."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.context_length = int(model.info["context"])

    def __call__(self, what: Any, context_length: Optional[int] = None) -> Any:
        import torch

        if isinstance(what, str) or (isinstance(what, Sequence) and all(isinstance(w, str) for w in what)):
            if context_length not in (None, self.context_length):
                raise ValueError(f"context_length = {context_length}, want {self.context_length}")
            return torch.from_numpy(self._model.tokenize(what)).long()
        return torch.from_numpy(self._model.preprocess(what))


class CLIP:
    """A model with open_clip's methods. Its rows have norm 1. With a bank and a layer, they are refined on the sides that
    training chose (``refine``: ``"image"``, ``"text"``, ``"both"`` or ``"none"``)."""

    def __init__(self, model: Model, bank: Optional[Bank] = None, fusion: Optional[Fusion] = None, refine: str = "auto") -> None:
        import torch

        if (bank is None) != (fusion is None):
            raise ValueError("want both bank and fusion")
        self.model, self.bank, self.fusion = model, bank, fusion
        self.sides = "none" if fusion is None else fusion.sides if refine == "auto" else refine
        self.context_length = int(model.info["context"])
        self.logit_scale = torch.tensor(model.logit_scale or 1.0).log()
        self.logit_bias = torch.tensor(model.info["logit_bias"]) if model.info["has_logit_bias"] else None

    def _finish(self, x: Any, side: str, like: Any) -> Any:
        import torch

        if self.bank is not None and self.fusion is not None and self.sides in (side, "both"):
            x = self.fusion._refine(self.bank, side, x, 0, None, None)[0]
        return torch.from_numpy(x).to(like.device)

    def encode_image(self, image: Any, normalize: bool = False) -> Any:
        """Embed pixels [n][3][R][R], as the transform gives them; returns rows [n][d]."""
        return self._finish(self.model.embed_pixels(image.float()), "image", image)

    def encode_text(self, text: Any, normalize: bool = False) -> Any:
        """Embed token ids [n][context]; returns rows [n][d]."""
        return self._finish(self.model.embed_tokens(text), "text", text)

    def __call__(self, image: Any = None, text: Any = None) -> tuple[Any, Any, Any]:
        """Return (image rows or None, text rows or None, the scale of the logits)."""
        return (None if image is None else self.encode_image(image), None if text is None else self.encode_text(text), self.logit_scale.exp())

    forward = __call__

    def eval(self) -> "CLIP":
        """Has no effect: the model is frozen."""
        return self

    def train(self, mode: bool = True) -> "CLIP":
        """Has no effect: the model is frozen; reco.train learns the layer."""
        return self

    def to(self, *_: Any, **__: Any) -> "CLIP":
        """Has no effect on the model, which computes on the CPU; rows are returned on the device of the inputs."""
        return self

    cpu = cuda = float = half = bfloat16 = requires_grad_ = to

    def parameters(self) -> Iterator[Any]:
        """Yield one number, for code that asks on which device the model is."""
        yield self.logit_scale


def _folder(name: Path, pretrained: Any) -> str:
    for folder in (name, pretrained):
        if folder and os.path.isdir(os.fsdecode(folder).removeprefix("local-dir:")):
            return os.fsdecode(folder).removeprefix("local-dir:")
    raise ValueError(f"{name!r} is not a model folder (reco model pull fetches one)")


def create_model_and_transforms(model_name: Path, pretrained: Any = None, precision: str = "auto", *, bank: Union[None, Path, Bank] = None,
                                fusion: Union[None, Path, Fusion] = None, refine: str = "auto", **_: Any) -> tuple[CLIP, Processor, Processor]:
    """Return (model, transform, tokenizer). Transform and tokenizer are one object, so code that uses the third as its transform, in
    open_clip's order, also works. ``model_name`` (or ``pretrained``) is a folder; other arguments of open_clip are ignored."""
    model = Model(_folder(model_name, pretrained), precision=_PRECISIONS.get(precision, precision))
    memory = bank if bank is None or isinstance(bank, Bank) else Bank(bank)
    layer = fusion if fusion is None or isinstance(fusion, Fusion) else Fusion(fusion, d=model.d)
    processor = Processor(model)
    return CLIP(model, memory, layer, refine), processor, processor


def create_model_from_pretrained(model_name: Path, pretrained: Any = None, precision: str = "auto", **options: Any) -> tuple[CLIP, Processor]:
    """Return (model, transform)."""
    return create_model_and_transforms(model_name, pretrained, precision, **options)[:2]


def get_tokenizer(model_name: Path, **_: Any) -> Processor:
    """Return the tokenizer of a model folder."""
    return Processor(Model(_folder(model_name, None), sides="text"))


def load_clip(model_name: str, pretrained: str = "", cache_dir: Any = None, device: Any = "cpu", **_: Any) -> tuple[CLIP, Processor, Processor]:
    """Load a model as clip-benchmark does. ``pretrained`` may give ``bank=PATH``, ``fusion=PATH``, ``refine=SIDES`` and ``precision=f32``,
    separated by commas."""
    given = dict(part.split("=", 1) for part in pretrained.split(",") if "=" in part) if isinstance(pretrained, str) else {}
    return create_model_and_transforms(model_name, None, given.get("precision", "auto"), bank=given.get("bank"), fusion=given.get("fusion"),
                                       refine=given.get("refine", "auto"))


def register(name: str = "reco") -> None:
    """Add reco to clip-benchmark's table of model types."""
    from clip_benchmark import models

    models.TYPE2FUNC[name] = load_clip
    if name not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(name)
