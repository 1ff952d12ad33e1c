"""Errors are of one family, carry the message of the library, and cost no memory; Ctrl-C ends what is at work."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable

import numpy as np
import pytest

import reco
from conftest import MODEL, picture


def bad_calls(model: reco.Model, bank: reco.Bank, tmp_path: pathlib.Path) -> list[tuple[type[Exception], Callable[[], Any]]]:
    x = model.encode_text("x")
    e = reco.errors
    return [
        (e.IOFailed, lambda: reco.Model(tmp_path / "none")),
        (ValueError, lambda: reco.Model(MODEL, precision="f64")),
        (e.NotFound, lambda: reco.Bank(tmp_path / "none")),
        (e.InvalidArgument, lambda: bank.search(2 * x)),
        (e.InvalidArgument, lambda: bank.search(np.full((1, 16), np.nan, np.float32))),
        (e.InvalidArgument, lambda: bank.search(x, 0)),
        (ValueError, lambda: bank.search(x, 5000)),
        (ValueError, lambda: bank.search(x[:, :3])),
        (TypeError, lambda: bank.search(["a"])),
        (ValueError, lambda: bank.search(x, side="both")),
        (e.InvalidArgument, lambda: bank.search(x, where="nothing(")),
        (e.NotFound, lambda: bank[10**9]),
        (e.NotFound, lambda: bank.partners([10**9])),
        (e.Error, lambda: reco.Fusion(tmp_path / "none")),
        (e.InvalidArgument, lambda: reco.set_threads(5000)),
        (TypeError, lambda: model.encode_text([3])),  # type: ignore[list-item]
        (ValueError, lambda: model.encode_image([np.zeros((2, 2, 2), np.uint8)])),
        (e.IOFailed, lambda: model.preprocess("/none")),
        (TypeError, lambda: reco.train(bank, tmp_path / "f", lerning_rate=1)),
        (ValueError, lambda: reco.train(bank, tmp_path / "f", layer="deep")),
    ]


def test_family(model: reco.Model, bank: reco.Bank, tmp_path: pathlib.Path) -> None:
    for kind, call in bad_calls(model, bank, tmp_path):
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value)
    assert all(issubclass(k, reco.Error) for k in reco.errors.BY_STATUS)
    with pytest.raises(reco.Error, match="none"):
        reco.Bank(tmp_path / "none")
    with pytest.raises(reco.Error, match="norm"):
        bank.search(2 * model.encode_text("x"))


def resident() -> int:
    """KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def test_constant_memory(model: reco.Model, bank: reco.Bank, tmp_path: pathlib.Path) -> None:
    """10,000 bad calls."""
    calls = [call for _, call in bad_calls(model, bank, tmp_path)]

    def loop(n: int) -> None:
        for i in range(n):
            try:
                calls[i % len(calls)]()
            except Exception:
                pass

    loop(1000)
    gc.collect()
    before = resident()
    loop(10000)
    gc.collect()
    assert resident() - before < 2048, "KiB more after 10,000 bad calls"


def test_every_entry(model: reco.Model, bank: reco.Bank, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is handed to a function of the extension crashes it, or stays: 10,000 calls of as many arguments as it takes,
    good ones and others, in constant memory."""
    from reco import _core

    monkeypatch.chdir(tmp_path)
    writers = {"after_fork", "set_threads", "setup", "train"}  # what they change stays, and it is meant to
    functions = [f for name, f in sorted(vars(_core).items()) if callable(f) and not name.startswith("_") and name not in writers]
    assert len(functions) > 40
    none = str(tmp_path / "none")
    junk: list[Any] = [None, -1, 3, 0.5, "image", none, b"x", [], [none], (1, 2), {}, {"x": 1}, np.zeros(3), np.zeros(16, np.float32),
                       model._handle, bank._handle]
    turn = 0

    def loop(rounds: int) -> None:
        nonlocal turn
        for _ in range(rounds):
            for f in functions:
                for n in (turn % 20, 1):
                    turn += 7
                    with contextlib.suppress(Exception):
                        f(*(junk[(turn * (i + 1) + i * i) % len(junk)] for i in range(n)))

    loop(20)
    gc.collect()
    before = resident()
    loop(10000 // len(functions) // 2)
    gc.collect()
    assert resident() - before < 2048, "KiB more after 10,000 calls"


INTERRUPTED = """
import sys, threading, signal, os, time, reco
signal.signal(signal.SIGINT, signal.default_int_handler)  # of a job in the background it is ignored
model = reco.Model(sys.argv[1])
pictures = [bytes(open(sys.argv[2], "rb").read())] * 400000
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    model._embed_images(pictures, 0, None, (0, 0))
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begin < 20)
"""


def test_interrupt(photos: list[str]) -> None:
    """Ctrl-C in the middle of one call of the library."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(MODEL), photos[0]], capture_output=True, text=True, timeout=120)
    assert done.stdout == "interrupted True\n", done.stderr


def test_other_threads_run(model: reco.Model) -> None:
    """The GIL is released."""
    pictures = [picture(0, 400, 400)] * 1200
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    model.encode_image(pictures)
    seconds = time.monotonic() - begin
    stop.set()
    thread.join()
    assert ticks[0] > 50 * seconds, f"{ticks[0]} ticks in {seconds:.1f} s"
