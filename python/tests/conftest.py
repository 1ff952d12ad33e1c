"""What the tests share: a tiny model with random weights, pictures made here, a bank of them. RECO names the program to compare with."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import struct
import subprocess
import zlib
from typing import Any, Callable, Optional

import numpy as np
import pytest

import reco

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MODEL = SOURCE / "tests" / "golden" / "small" / "hf-quickgelu"
OTHER = SOURCE / "tests" / "golden" / "small" / "hf-gelu-bf16"
POCKET = SOURCE / "demo" / "model"
WORDS = ["red", "green", "blue", "round", "square", "old", "new", "small"]


def picture(seed: int, height: int = 26, width: int = 30) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [h][w][3]: a few coloured rectangles."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(256, size=3), np.uint8)
    for _ in range(4):
        x, y = rng.integers(width), rng.integers(height)
        pixels[y:y + rng.integers(4, 20), x:x + rng.integers(4, 20)] = rng.integers(256, size=3)
    return pixels


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="session")
def model() -> reco.Model:
    return reco.Model(MODEL, precision="f32")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{i:02}.png" for i in range(40)]
    for i, path in enumerate(paths):
        path.write_bytes(png(picture(i)))
    return [str(path) for path in paths]


@pytest.fixture(scope="session")
def records(photos: list[str]) -> list[dict[str, Any]]:
    return [{"image": p, "text": f"a {WORDS[i % 8]} {WORDS[i // 8]} thing", "brand": "Fiat" if i % 4 == 0 else "Opel", "price": 10 * i}
            for i, p in enumerate(photos)]


@pytest.fixture
def bank(tmp_path: pathlib.Path, model: reco.Model, records: list[dict[str, Any]]) -> reco.Bank:
    return reco.Bank.build(tmp_path / "a.bank", model=model, pairs=records)


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> tuple[reco.Bank, Any, Any]:
    """A bank of 900 vectors of width 32, where a caption comes 20 times, and its vectors."""
    rng = np.random.default_rng(1)
    centres = unit(rng.normal(size=(45, 32)))
    image = unit(np.repeat(centres, 20, 0) + 0.15 * rng.normal(size=(900, 32))).astype(np.float32)
    text = unit(np.repeat(centres + 0.05 * rng.normal(size=(45, 32)), 20, 0)).astype(np.float32)
    pairs = [{"text": f"thing {i // 20}"} for i in range(900)]
    return reco.Bank.build(tmp_path_factory.mktemp("vectors") / "v.bank", image=image, text=text, pairs=pairs), image, text


def _program() -> Optional[str]:
    named = os.environ.get("RECO")
    built = [SOURCE / folder / "cli" / "reco" for folder in ("build-gcc", "build")]
    return named or next((str(path) for path in built if path.exists()), None) or shutil.which("reco")


@pytest.fixture(scope="session")
def cli() -> Callable[..., Any]:
    """Run the program; what it prints with --json."""
    program = _program()
    if program is None:
        pytest.skip("no program reco to compare with")

    def run(*args: Any) -> Any:
        done = subprocess.run([program, *map(str, args), "--json"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def demo() -> pathlib.Path:
    """The demo's emoji: RECO_DEMO_DATA, or where the demo or scripts/test-python has put them."""
    for folder in (os.environ.get("RECO_DEMO_DATA"), SOURCE / "demo" / "out" / "emoji", SOURCE / "build-python-venv" / "emoji"):
        if folder and (pathlib.Path(folder) / "classes.txt").exists():
            return pathlib.Path(folder)
    pytest.skip("the demo's emoji are not there: scripts/demo makes them")
