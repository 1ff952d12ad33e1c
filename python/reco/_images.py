"""Input pictures: paths, PIL images, arrays and bytes in the form that the extension takes."""

from __future__ import annotations

import io
import os
from typing import Any, Iterable, Iterator, Sequence, Union

import numpy as np
from numpy.typing import NDArray

#: A path, the content of a file, pixels uint8 [h][w][3] (RGB) or [h][w], a PIL image, or {"bytes": ..., "path": ...} as data sets have it.
Image = Any
Item = Union[str, bytes, NDArray[np.uint8]]


def is_one(images: Any) -> bool:
    """Return whether this is one picture, not several."""
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, dict)) or is_pil(images):
        return True
    return getattr(images, "ndim", None) in (2, 3)


def is_pil(image: Any) -> bool:
    return hasattr(image, "getbands") and hasattr(image, "tobytes")


def in_memory(image: Any) -> bool:
    """Return whether this is pixels or the content of a file, not a path."""
    if isinstance(image, dict):
        return image.get("bytes") is not None
    return isinstance(image, (bytes, bytearray, memoryview, np.ndarray)) or is_pil(image) or hasattr(image, "__dlpack__")


def name_of(image: Any) -> str:
    """Return the name of the picture in messages."""
    if isinstance(image, dict):
        image = image.get("path") or "bytes"
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image) if isinstance(os.fspath(image), str) else os.fsdecode(image)
    if is_pil(image):
        return str(getattr(image, "filename", "") or "a PIL image")
    return "bytes" if isinstance(image, (bytes, bytearray, memoryview)) else "an array"


def _of_pil(image: Any) -> Item:
    """Return RGB pixels as they are. Other modes are resized and flattened in their own ways, which the library knows, so it gets a PNG."""
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    return np.asarray(image.convert("RGB"))


def _of_array(a: NDArray[Any]) -> Item:
    if a.dtype != np.uint8:
        raise TypeError(f"a picture of {a.dtype}, want uint8 [height][width][3]")
    if a.ndim == 1:
        return np.ascontiguousarray(a)
    if a.ndim == 2 or (a.ndim == 3 and a.shape[2] == 1):
        a = np.repeat(a.reshape(a.shape[0], a.shape[1], 1), 3, axis=2)
    if a.ndim != 3 or a.shape[2] != 3:
        raise ValueError(f"a picture of shape {list(a.shape)}, want [height][width][3]")
    return np.ascontiguousarray(a)


def item_of(image: Image) -> Item:
    if isinstance(image, str):
        return image
    if isinstance(image, dict):
        image = image["bytes"] if image.get("bytes") is not None else image["path"]
    if isinstance(image, os.PathLike):
        return os.fsdecode(image)
    if isinstance(image, (bytes, str)):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if is_pil(image):
        return _of_pil(image)
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if hasattr(image, "__dlpack__"):
        return _of_array(np.from_dlpack(image))
    raise TypeError(f"a picture can't be of type {type(image).__name__}")


def count(images: Any) -> int:
    """Return the number of pictures; 0 if it is not known yet."""
    return 1 if is_one(images) else len(images) if hasattr(images, "__len__") else 0


def chunks(images: Union[Iterable[Image], Image], size: int) -> Iterator[list[Image]]:
    if is_one(images):
        yield [images]
        return
    if isinstance(images, Sequence):
        for i in range(0, len(images), size):
            yield list(images[i:i + size])
        return
    held: list[Image] = []
    for image in images:
        held.append(image)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
