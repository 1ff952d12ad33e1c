"""Refinement and training give what the program gives."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import reco
from conftest import unit


def test_refine(vectors: tuple[reco.Bank, Any, Any]) -> None:
    """The mean of the query and its neighbours' partners, by numpy."""
    bank, image, text = vectors
    mean = reco.Fusion.open("mean", d=32, k=4)
    assert (mean.layer, mean.k) == ("mean", 4) and "mean" in repr(mean)
    x = image[::90]
    _, ids = bank.search(x, 4)
    want = unit(x + bank.partners(ids, side="text").sum(axis=1))
    got = mean.refine(bank, image=x)
    assert got.shape == x.shape and np.abs(got - want).max() < 1e-5
    both = mean.refine(bank, image=x, text=text[:2])
    assert np.array_equal(both[0], got) and both[1].shape == (2, 32)
    assert np.abs(mean.refine(bank, image=x[0]) - got[0]).max() == 0
    assert np.array_equal(mean.refine(bank, image=x, min_similarity=1.5), x)  # nothing counts: bit for bit
    some = mean.refine(bank, image=x, where="id < 100", k=2)
    _, ids = bank.search(x, 2, where="id < 100")
    assert np.abs(some - unit(x + bank.partners(ids).sum(axis=1))).max() < 1e-5
    ids, scores, weights = mean.weigh(bank, "image", x[0])
    assert len(ids) == 4 and len(weights) == 5 and abs(weights.sum() - 1) < 1e-5
    with pytest.raises(ValueError):
        mean.refine(bank)
    with pytest.raises(reco.errors.Mismatch):
        reco.Fusion("mean", d=16).refine(bank, image=x)
    with pytest.raises(reco.errors.Error):
        reco.Fusion("meen", d=16)


@pytest.fixture(scope="module")
def trained(vectors: tuple[reco.Bank, Any, Any], tmp_path_factory: pytest.TempPathFactory) -> reco.TrainReport:
    told: list[str] = []
    out = tmp_path_factory.mktemp("train") / "f.safetensors"
    report = reco.train(vectors[0], out, layer="relational", steps=20, seed=3, progress=lambda what, done, total: told.append(what))
    assert told
    return report


def test_train(vectors: tuple[reco.Bank, Any, Any], trained: reco.TrainReport, cli: Any, tmp_path: pathlib.Path) -> None:
    bank = vectors[0]
    said = cli("train", "--bank", bank.path, "--out", tmp_path / "f", "--layer", "relational", "--steps", 20, "--seed", 3)
    table = said["recall_at_1"]
    ours = (trained.clip, trained.image, trained.text, trained.both)
    assert ours == pytest.approx((table["clip"], table["image"], table["text"], table["both"]), rel=1e-12)
    assert (trained.layer, trained.sides, trained.pairs) == (said["layer"], said["refine"], said["pairs"])
    fusion, theirs = trained.fusion, reco.Fusion(tmp_path / "f")
    assert fusion.config == theirs.config
    assert np.array_equal(fusion.refine(bank, image=vectors[1][:50]), theirs.refine(bank, image=vectors[1][:50]))
    assert "CLIP" in str(trained) and f"{trained.both:.1f}" in str(trained) and "<table>" in trained._repr_html_()
    assert fusion.meta("reco") == reco.__version__ and fusion.meta("none") is None
    assert pickle.loads(pickle.dumps(fusion)).config == fusion.config


def test_train_on_others(vectors: tuple[reco.Bank, Any, Any], tmp_path: pathlib.Path) -> None:
    bank, image, text = vectors
    some = reco.Bank.build(tmp_path / "p", image=image[::3], text=text[::3], pairs=[{"text": f"thing {i // 20}"} for i in range(0, 900, 3)])
    report = reco.train(bank, tmp_path / "f", pairs=some, judge=some, layer="weighted", sides="image")
    assert report.pairs == 300 and report.judged and report.sides == "image" and "validation pairs" in str(report)
    bank.export(tmp_path / "emb")
    assert reco.train(bank, tmp_path / "g", pairs=tmp_path / "emb", layer="vote", min_similarity=0.1).pairs == 900
    best = reco.train(some, tmp_path / "i", layer="auto", steps=10)
    assert [c.layer for c in best.compared] == ["relational", "weighted", "transformer"] and best.layer in str(best)
    with pytest.raises(ValueError, match="model"):
        reco.train(bank, tmp_path / "h", pairs=[{"image": "x", "text": "y"}])
    with pytest.raises(reco.errors.InvalidArgument):
        reco.train(bank, tmp_path / "h", validation=2.0)


def test_stop(vectors: tuple[reco.Bank, Any, Any], tmp_path: pathlib.Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reco.train(vectors[0], tmp_path / "f", progress=stop)
    assert not (tmp_path / "f").exists()


def test_ask(vectors: tuple[reco.Bank, Any, Any], trained: reco.TrainReport, cli: Any, tmp_path: pathlib.Path) -> None:
    """A search with a layer is the program's."""
    bank, image, _ = vectors
    np.save(tmp_path / "q.npy", image[::30])
    for mixture in (True, False):
        out = tmp_path / str(mixture)
        cli("search", "--bank", bank.path, "--queries", tmp_path / "q.npy", "--query-side", "image", "--side", "text", "-k", 5, "--fusion",
            trained.path, "--mixture", "auto" if mixture else "off", "--out", out)
        scores, ids = bank.search(image[::30], 5, side="text", query_side="image", fusion=trained.fusion, mixture=mixture)
        assert np.array_equal(np.load(out / "ids.npy"), ids) and np.array_equal(np.load(out / "scores.npy"), scores)
