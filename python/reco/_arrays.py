"""Input arrays: anything that holds numbers becomes a contiguous numpy array, without a copy if type and layout fit."""

from __future__ import annotations

from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
#: numpy arrays (float32, float16, ...), torch tensors and others through DLPack, lists of numbers.
ArrayLike = Any
Path = Any  # str | os.PathLike[str]


def to_numpy(x: ArrayLike) -> NDArray[Any]:
    """Return the array as numpy's. Tensors of torch in CPU memory are read through DLPack, without a copy."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "detach"):  # torch: gradients and accelerators are of no use here
        x = x.detach().cpu()
        if str(x.dtype) == "torch.bfloat16":
            x = x.float()
    if hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    return np.asarray(x)


def rows(x: ArrayLike, d: int, what: str = "embeddings") -> tuple[Floats, bool]:
    """Return (float32 [n][d], whether the input was one row [d]). Contiguous float32 is not copied."""
    a = to_numpy(x)
    if a.dtype.kind not in "fiu":
        raise TypeError(f"{what}: want numbers, not {a.dtype}")
    single = a.ndim == 1
    if single:
        a = a[None]
    if a.ndim != 2 or a.shape[1] != d:
        raise ValueError(f"{what}: shape {list(a.shape[1:] if single else a.shape)}, want [n][{d}]")
    return np.ascontiguousarray(np.asarray(a), dtype=np.float32), single


def ids(x: ArrayLike) -> Ids:
    """Return contiguous int64 of the same shape."""
    a = to_numpy(x)
    if a.size == 0:
        return np.zeros(a.shape, np.int64)
    if a.dtype.kind not in "iu":
        raise TypeError(f"ids: want whole numbers, not {a.dtype}")
    return np.ascontiguousarray(a, dtype=np.int64)


Number = Union[int, float]
