"""clip-benchmark, unmodified, evaluates reco on a webdataset folder of emoji: its numbers are those of reco eval."""

from __future__ import annotations

import csv
import importlib.util
import json
import pathlib
import subprocess
import sys
import tarfile
from typing import Any

import numpy as np
import pytest

import reco
from conftest import POCKET

RUN = """
import sys
import reco.open_clip
reco.open_clip.register()
from clip_benchmark.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def data(demo: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The layout of clip-benchmark: 240 old emoji and 60 new ones, as EmojiOne drew them."""
    folder = tmp_path_factory.mktemp("wds")
    rows = []
    for name, n in (("labels_old.csv", 240), ("labels_new.csv", 60)):
        with open(demo / name, encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))[:n]
    (folder / "test").mkdir()
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "classnames.txt").write_text("\n".join(r["label"] for r in rows))
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\nan emoji of {c}")
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for i, row in enumerate(rows):
            label = folder / "label"
            label.write_text(str(i))
            tar.add(demo / row["image"], f"s{i:04}.png")
            tar.add(label, f"s{i:04}.cls")
    return folder


@pytest.mark.parametrize("what", ["clip", "trained"])
def test_same_numbers(demo: pathlib.Path, data: pathlib.Path, cli: Any, tmp_path: pathlib.Path, what: str) -> None:
    for name in ("torch", "clip_benchmark", "requests"):  # which it imports and does not ask for
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    try:
        float(np.zeros(1))
    except TypeError:
        pytest.skip(f"clip-benchmark 1.6 makes numbers of arrays, which numpy {np.__version__} refuses: want numpy<2.4")
    model = reco.Model(POCKET, precision="f32")
    bank = reco.Bank.build(tmp_path / "bank", model=model, pairs=demo / "bank_old.csv")
    fusion, sides = ("mean", what) if what != "trained" else (reco.train(bank, tmp_path / "f", layer="relational", steps=30).path, "both")
    given = "precision=f32" + ("" if what == "clip" else f",bank={bank.path},fusion={fusion},refine={sides}")
    done = subprocess.run([sys.executable, "-c", RUN, "eval", "--dataset", "wds/emoji", "--dataset_root", data, "--model_type", "reco",
                           "--model", POCKET, "--pretrained", given, "--no_amp", "--num_workers", "1", "--output", tmp_path / "theirs.json"],
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads((tmp_path / "theirs.json").read_text())["metrics"]
    said = cli("eval", "--model", POCKET, "--precision", "f32", "--dataset", data, "--bank", bank.path, "--fusion", fusion, "--refine",
               "none" if what == "clip" else sides, "--mixture", "off")
    ours = said["clip" if what == "clip" else "reco"]
    assert theirs["acc1"] == pytest.approx(ours["acc1"], abs=1e-9) and theirs["acc5"] == pytest.approx(ours["acc5"], abs=1e-9)
    assert theirs["mean_per_class_recall"] == pytest.approx(ours["mean_per_class"], abs=1e-9)
    assert theirs["acc1"] > 0.1 and (what == "clip" or theirs != said["clip"])
