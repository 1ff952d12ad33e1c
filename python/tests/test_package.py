"""The package as a whole: types, what it needs, what a call costs."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import time
from typing import Any, Callable

import numpy as np
import pytest

import reco
from conftest import SOURCE


def test_typed() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run([sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", "/dev/null"], cwd=SOURCE,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert (pathlib.Path(reco.__file__).parent / "py.typed").exists()


def test_needs_numpy_alone() -> None:
    """Nothing but numpy and the standard library is loaded by using it."""
    code = ("import sys, numpy; before = set(sys.modules)\nimport reco\n"
            "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert set(done.stdout.split()) <= {"numpy", "reco"}, done.stdout + done.stderr


def test_same_version() -> None:
    found = re.search(r"version: '([^']+)'", (SOURCE / "meson.build").read_text())
    assert found and reco.__version__ == found[1]


def test_documented() -> None:
    """Every public thing has a docstring."""
    for name in reco.__all__:
        thing = getattr(reco, name)
        assert thing.__doc__, name
        for part, member in vars(thing).items() if isinstance(thing, type) else ():
            if not part.startswith("_") and callable(member):
                assert member.__doc__ or part in ("get_params", "set_params"), f"{name}.{part}"


def least(whole: Callable[[], Any], bare: Callable[[], Any], loops: int) -> tuple[float, float]:
    """Microseconds of processor time a call, the least of several runs in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(9):
        for call, into in zip((whole, bare), times):
            begin = time.thread_time()
            for _ in range(loops):
                call()
            into.append(time.thread_time() - begin)
    return 1e6 * min(times[0]) / loops, 1e6 * min(times[1]) / loops


def test_overhead(model: reco.Model, vectors: tuple[reco.Bank, Any, Any], tmp_path: pathlib.Path) -> None:
    """What Python adds to a call of the extension, which does the work, is less than 50 microseconds."""
    from reco import _core

    _, image, text = vectors
    bank = reco.Bank.build(tmp_path / "b", image=image[:1], text=text[:1], pairs=[{"text": "x"}])
    x = np.ascontiguousarray(image[:1])
    ids, scores = np.empty((1, 10), np.int64), np.empty((1, 10), np.float32)
    pixels, out, rows = np.zeros((24, 24, 3), np.uint8), np.empty((1, 16), np.float32), np.empty(1, np.int64)
    reco.set_threads(1)
    try:
        whole, bare = least(lambda: bank.search(x, 10),
                            lambda: _core.bank_search(bank._handle, "image", x, 1, 10, None, None, False, 0.0, ids, scores, None), 1000)
        image_whole, image_bare = least(lambda: model.encode_image(pixels),
                                        lambda: _core.model_embed_pictures(model._handle, [pixels], out, rows, (0, 0), None), 200)
    finally:
        reco.set_threads(0)
    print(f"search {whole:.1f} us, of which the extension {bare:.1f}; a picture {image_whole:.1f} and {image_bare:.1f}")
    assert whole - bare < 50 and image_whole - image_bare < 50
