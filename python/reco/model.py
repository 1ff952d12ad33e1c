"""Frozen vision-text models: from pictures and captions to unit vectors."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, Sequence, Union

import numpy as np
from numpy.typing import NDArray

from . import _core, _images
from ._arrays import Floats, Path, to_numpy
from ._images import Image
from ._progress import Hook, Progress, Shown

_IMAGES, _TEXTS = 1024, 8192  # at a time


@dataclass(frozen=True)
class Failure:
    """A picture or pair that was skipped."""

    index: int  #: which of the inputs, from 0
    item: str  #: its path, or what it is
    reason: str


class Embeddings(np.ndarray[Any, np.dtype[np.float32]]):
    """float32 [n][d], unit rows, of the inputs that could be embedded, in order.

    Slices and results of computations with it behave like ordinary arrays: ``failed``, ``index`` and ``truncated`` are empty there."""

    failed: tuple[Failure, ...] = ()  #: inputs that have no row, and why
    index: Optional[NDArray[np.int64]] = None  #: [n] which input each row is of
    truncated: Optional[NDArray[np.bool_]] = None  #: [n] of texts: more tokens than the model's context, and was truncated

    def __array_finalize__(self, obj: Any) -> None:
        pass

    @staticmethod
    def of(rows: Floats) -> "Embeddings":
        """Wrap an array, without a copy."""
        return rows.view(Embeddings)


def _shifted(hook: Optional[Hook], base: int, total: int) -> Optional[Hook]:
    if hook is None:
        return None
    inner: Hook = hook
    return lambda what, done, _: inner(what, base + done, total)


class Model:
    """An open model folder of Hugging Face or open_clip.

    Parameters
    ----------
    path
        The folder.
    precision
        ``"auto"`` (bf16 if the processor supports it, else f32), ``"f32"``, ``"bf16"`` or ``"int8"``.
    sides
        ``"image"`` or ``"text"``: open only this tower, to save memory.
    exif
        Rotate pictures according to their EXIF orientation.

    A model may be shared between threads.
    """

    def __init__(self, path: Path, *, precision: str = "auto", sides: str = "both", exif: bool = False) -> None:
        without = {"both": "none", "image": "text", "text": "image"}.get(sides)
        if without is None:
            raise ValueError(f"sides = {sides!r}, want both, image or text")
        options = {"precision": precision, "sides": sides, "exif": int(exif)}
        self.path = os.fsdecode(path)
        self._options = options
        self._handle = _core.model_open(self.path, {"precision": precision, "without": without, "exif": int(exif)}, None)
        #: What the library says of the model: family, name, d, image_size, context, precision, parameters, ...
        self.info: dict[str, Any] = _core.model_info(self._handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._options)

    def __repr__(self) -> str:
        i = self.info
        return f"<reco.Model {i['name']!r}: {i['family']}, d = {i['d']}, {i['precision']}>"

    @property
    def d(self) -> int:
        """Width of the embeddings."""
        return int(self.info["d"])

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def logit_scale(self) -> float:
        """exp(logit_scale); cosines times this number are CLIP's logits."""
        return float(self.info["logit_scale"])

    def fingerprint(self) -> str:
        """A hash of all tensors in 32 hex digits, which banks and checkpoints record. Reads the weights again."""
        return _core.model_fingerprint(self._handle)

    def encode_image(self, images: Union[Image, Iterable[Image]], *, progress: Progress = False, max_bytes: int = 0,
                     max_pixels: int = 0) -> Embeddings:
        """Embed pictures. Decoding and the model run on all threads.

        Parameters
        ----------
        images
            One or several pictures, each a path, the content of a file (bytes), pixels (uint8 [h][w][3], RGB), or a PIL image.
        max_bytes, max_pixels
            Limits on a picture; 0: 256 MiB and 178,956,970 pixels.

        Returns
        -------
        Embeddings
            float32 [n][d], a row for each picture that could be read. ``.failed`` says which could not and why (a warning does, too),
            and ``.index`` [n] which picture each row belongs to.
        """
        blocks: list[Floats] = []
        indexes: list[NDArray[np.int64]] = []
        failed: list[Failure] = []
        base, total = 0, _images.count(images)
        with Shown(progress) as hook:
            for chunk in _images.chunks(images, _IMAGES):
                rows, index, bad = self._embed_images(chunk, base, _shifted(hook, base, total), (max_bytes, max_pixels))
                blocks.append(rows)
                indexes.append(index)
                failed += bad
                base += len(chunk)
        out = Embeddings.of(blocks[0] if len(blocks) == 1 else np.concatenate(blocks) if blocks else np.zeros((0, self.d), np.float32))
        out.index = np.concatenate(indexes) if indexes else np.zeros(0, np.int64)
        out.failed = tuple(failed)
        if failed:
            first = failed[0]
            warnings.warn(f"{len(failed)} of {base} pictures could not be embedded (.failed has them), the first: number {first.index}: "
                          f"{first.reason}", stacklevel=2)
        return out

    def _embed_images(self, chunk: list[Image], base: int, hook: Optional[Hook],
                      limits: tuple[int, int]) -> tuple[Floats, NDArray[np.int64], list[Failure]]:
        items: list[_images.Item] = []
        broken: dict[int, str] = {}
        for i, image in enumerate(chunk):
            try:
                items.append(_images.item_of(image))
            except (OSError, SyntaxError) as error:  # PIL reads late
                broken[i] = str(error)
                items.append(b"")
        rows, index = np.empty((len(items), self.d), np.float32), np.empty(len(items), np.int64)
        n, bad = _core.model_embed_pictures(self._handle, items, rows, index, limits, hook)
        failed = [Failure(base + i, _images.name_of(chunk[i]), broken.get(i, why)) for i, _, why in bad]
        return rows[:n], index[:n] + base, failed

    def encode_text(self, texts: Union[str, Iterable[str]], *, progress: Progress = False) -> Embeddings:
        """Embed captions.

        Returns
        -------
        Embeddings
            float32 [n][d]. ``.truncated`` [n] says which captions have more tokens than the model's context.
        """
        items = [texts] if isinstance(texts, str) else list(texts)
        rows, cut = np.empty((len(items), self.d), np.float32), np.zeros(len(items), np.uint8)
        with Shown(progress) as hook:
            for i in range(0, max(1, len(items)), _TEXTS):
                _core.model_embed_texts(self._handle, items[i:i + _TEXTS], rows[i:i + _TEXTS], cut[i:i + _TEXTS])
                if hook is not None:
                    hook("embedding", min(len(items), i + _TEXTS), len(items))
        out = Embeddings.of(rows)
        out.truncated = cut.astype(bool)
        out.index = np.arange(len(items))
        return out

    def encode(self, sentences: Any, batch_size: int = 32, show_progress_bar: Optional[bool] = None, *,
               convert_to_numpy: bool = True, convert_to_tensor: bool = False, normalize_embeddings: bool = True, device: Any = None,
               **_: Any) -> Any:
        """Works like ``SentenceTransformer.encode``: strings are texts, PIL images (and arrays) are pictures; a single input gives a
        vector [d], a list [n][d]. Rows always have norm 1; ``batch_size`` and ``device`` are ignored. A picture that cannot be read is an error."""
        one = isinstance(sentences, str) or _images.is_one(sentences)
        items = [sentences] if one else list(sentences)
        out = np.empty((len(items), self.d), np.float32)
        texts = [i for i, item in enumerate(items) if isinstance(item, str)]
        pictures = [i for i, item in enumerate(items) if not isinstance(item, str)]
        if texts:
            out[texts] = self.encode_text([items[i] for i in texts], progress=bool(show_progress_bar))
        if pictures:
            out[pictures] = _all_good(self.encode_image([items[i] for i in pictures], progress=bool(show_progress_bar)))
        result = out[0] if one else out
        if convert_to_tensor:
            import torch

            return torch.from_numpy(result)
        return result if convert_to_numpy or one else list(result)

    def get_sentence_embedding_dimension(self) -> int:
        """Same as in sentence-transformers."""
        return self.d

    def tokenize(self, texts: Union[str, Sequence[str]]) -> NDArray[np.int32]:
        """Return token ids int32 [n][context], padded as the reference's tokenizer pads."""
        items = [texts] if isinstance(texts, str) else list(texts)
        ids = np.zeros((len(items), int(self.info["context"])), np.int32)
        _core.model_tokens(self._handle, items, ids)
        return ids

    def embed_tokens(self, ids: Any) -> Floats:
        """Embed token ids [n][context]; returns unit rows [n][d]."""
        a = np.ascontiguousarray(to_numpy(ids), dtype=np.int32)
        if a.ndim != 2 or a.shape[1] != self.info["context"]:
            raise ValueError(f"token ids of shape {list(a.shape)}, want [n][{self.info['context']}]")
        out = np.empty((len(a), self.d), np.float32)
        _core.model_embed_tokens(self._handle, a, len(a), out)
        return out

    def preprocess(self, image: Image) -> Floats:
        """Return the image tower's input for a picture, float32 [3][R][R]."""
        size = int(self.info["image_size"])
        out = np.empty((3, size, size), np.float32)
        _core.model_pixels(self._handle, _images.item_of(image), out)
        return out

    def embed_pixels(self, pixels: Any) -> Floats:
        """Embed preprocessed pictures [n][3][R][R]; returns unit rows [n][d]."""
        size = int(self.info["image_size"])
        a = np.ascontiguousarray(to_numpy(pixels), dtype=np.float32)
        if a.ndim != 4 or a.shape[1:] != (3, size, size):
            raise ValueError(f"pixels of shape {list(a.shape)}, want [n][3][{size}][{size}]")
        out = np.empty((len(a), self.d), np.float32)
        _core.model_embed_pixels(self._handle, a, len(a), out)
        return out


def _reopen(path: str, options: dict[str, Any]) -> Model:
    return Model(path, precision=options["precision"], sides=options["sides"], exif=bool(options["exif"]))


def _all_good(rows: Embeddings) -> Embeddings:
    """Where each input must have its row."""
    from .errors import BadFormat

    if rows.failed:
        raise BadFormat("; ".join(f"picture {f.index}: {f.reason}" for f in rows.failed[:5]))
    return rows


Encoder = Callable[[Any], Floats]
