"""reco: a frozen vision-text model (CLIP) with a memory of image-text pairs.

    model  = reco.Model("clip/")
    bank   = reco.Bank.build("shop.bank", model=model, pairs="products.csv")
    fusion = reco.train(bank, out="fusion.safetensors").fusion
    clf    = reco.Classifier(model, bank, fusion, classes=["a kettle", "a toaster"])
    clf.predict(["photo.jpg"])

Arrays are numpy's; shapes are written [n][d], row-major. docs/python.md is the manual.
"""

from __future__ import annotations

import logging
import os

from . import _core, errors
from .bank import Bank, Row
from .classifier import Classifier, Explanation
from .errors import Error
from .fusion import Fusion, TrainReport, train
from .model import Embeddings, Failure, Model

_logger = logging.getLogger("reco")


def _log(level: int, message: str) -> None:
    _logger.log(logging.WARNING if level else logging.INFO, "%s", message)


_core.setup(errors.BY_STATUS, _log)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.after_fork)

__version__: str = _core.version()


def set_threads(threads: int) -> None:
    """Set how many threads a call uses: 0, the default, means every processor that the process may use. Calls that are already running keep
    their number."""
    _core.set_threads(threads)


def get_threads() -> int:
    """Return how many threads a call uses, at least 1."""
    return _core.get_threads()


def image_formats() -> list[str]:
    """Return the picture formats that this build reads."""
    return _core.image_formats()


__all__ = [
    "Bank", "Classifier", "Embeddings", "Error", "Explanation", "Failure", "Fusion", "Model", "Row", "TrainReport", "errors", "get_threads",
    "image_formats", "set_threads", "train",
]
