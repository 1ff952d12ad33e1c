"""A bank built by a Ray cluster: a head that does no work and two machines, of which one dies."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import reco
from conftest import MODEL, picture, png

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture
def pairs(tmp_path: pathlib.Path) -> pathlib.Path:
    lines = ["image,text"]
    for i in range(60):
        (tmp_path / f"{i:02}.png").write_bytes(png(picture(i)))
        lines.append(f"{'none' if i == 20 else f'{i:02}'}.png,thing {i}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pairs.csv"


def assert_same(a: reco.Bank, b: reco.Bank) -> None:
    assert list(a) == list(b)
    for side in ("image", "text"):
        assert np.array_equal(a.partners(a.ids(), side), b.partners(b.ids(), side))
    assert (pathlib.Path(a.path) / "failures.jsonl").read_bytes() == (pathlib.Path(b.path) / "failures.jsonl").read_bytes()


def test_one_dies(pairs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from reco import ray as jobs

    whole = reco.Bank.build(tmp_path / "whole", model=reco.Model(MODEL), pairs=pairs)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    killed: list[Any] = []

    def kill() -> None:
        """A machine is lost as soon as both have begun: it holds a part whose lock and commits it leaves behind."""
        parts = tmp_path / "bank.parts"
        while not killed:
            if parts.is_dir() and len(list(parts.glob("*/writer.lock"))) >= 2:
                cluster.remove_node(nodes[0], allow_graceful=False)
                killed.append(nodes[0])
            time.sleep(0.01)

    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        bank = jobs.build(str(tmp_path / "bank"), shards=8, model=str(MODEL), pairs=str(pairs), batch=1, commit=1)
        killer.join(30)
        assert len(killed) == 1
        assert bank.last is not None and bank.last.rows == 59
        assert_same(bank, whole)
        assert bank.verify() == [] and not (tmp_path / "bank.parts").exists()
        with pytest.raises(reco.errors.Exists):
            jobs.build(str(tmp_path / "bank"), shards=8, model=str(MODEL), pairs=str(pairs))
    finally:
        killed.append(None)
        ray.shutdown()
        cluster.shutdown()


def test_command(pairs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The documented command, on this machine alone."""
    whole = reco.Bank.build(tmp_path / "whole", model=reco.Model(MODEL), pairs=pairs)
    run = [sys.executable, "-m", "reco.ray", "build", "--pairs", pairs.name, "--out", "bank", "--model", str(MODEL), "--shards", "3"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(run, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert '"rows": 59' in done.stdout
    assert_same(reco.Bank(tmp_path / "bank"), whole)
    done = subprocess.run([*run[:-1], "0"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 1 and "shards = 0, want at least 1" in done.stderr
