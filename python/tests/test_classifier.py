"""The classifier says what the program says."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import reco
from conftest import MODEL, picture

NAMES = ["red", "green", "blue", "round", "square", "old", "new", "small", "large", "striped"]
TEMPLATES = ["a {} thing", "a photo of a {}"]


@pytest.fixture(scope="module")
def parts(model: reco.Model, records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[reco.Bank, list[reco.Fusion]]:
    """A bank in which captions come several times, and layers: trained ones, one without a mixture, and controls."""
    folder = tmp_path_factory.mktemp("parts")
    pairs = [{**r, "text": NAMES[i % 10]} for i, r in enumerate(records)]
    bank = reco.Bank.build(folder / "b", model=model, pairs=pairs)
    made = [reco.train(bank, folder / f"f{s}", layer=layer, seed=s, sides=sides, steps=30).fusion
            for s, (layer, sides) in enumerate([("relational", "both"), ("weighted", "image"), ("relational", "text"), ("relational", "auto")])]
    return bank, [*made, reco.Fusion("mean", d=16), reco.Fusion("none", d=16)]


@pytest.mark.parametrize("which", range(6))
def test_as_the_program(parts: tuple[reco.Bank, list[reco.Fusion]], model: reco.Model, photos: list[str], cli: Any, tmp_path: pathlib.Path,
                        which: int) -> None:
    bank, layers = parts
    fusion = layers[which]
    (tmp_path / "names").write_text("\n".join(NAMES))
    (tmp_path / "templates").write_text("\n".join(TEMPLATES))
    for mixture in ("auto", "off", "0.3,0.2"):
        said = cli("classify", "--model", MODEL, "--precision", "f32", "--bank", bank.path, "--fusion", fusion.path, "--classes",
                   tmp_path / "names", "--templates", tmp_path / "templates", "--mixture", mixture, *photos[:9])
        given: Any = mixture
        if mixture == "0.3,0.2":
            scales = fusion.mixture[2:] if fusion.mixture else (model.logit_scale, model.logit_scale, 40.0, 0)
            given = reco.fusion.Mixture(0.3, 0.2, *scales)
        clf = reco.Classifier(model, bank, fusion, NAMES, TEMPLATES, mixture=given)
        p = clf.predict_proba(photos[:9])
        assert p.shape == (9, 10) and np.allclose(p.sum(axis=1), 1, atol=1e-5)
        for row, result in zip(p, said["results"]):
            for entry in result["reco"]:
                assert abs(row[NAMES.index(entry["label"])] - entry["probability"]) < 1e-5
        assert clf.predict(photos[:9]).tolist() == [r["reco"][0]["label"] for r in said["results"]]
        why = clf.explain(photos[2])
        assert why.label == said["results"][2]["reco"][0]["label"]
        assert [name for name, _ in why.clip] == [e["label"] for e in said["results"][2]["clip"]]
        found = said["results"][2]["neighbours"]
        if which not in (4, 5):  # those have no weights of their own to compare
            assert [n.row.id for n in why.image] == [e["id"] for e in found["image"]]
        assert "<img" in why._repr_html_() and "clip" in str(why)


def test_plain(model: reco.Model, photos: list[str]) -> None:
    """Without a memory it is CLIP."""
    clf = reco.Classifier(model, classes=NAMES)
    cosines = model.encode_image(photos) @ model.encode_text(NAMES).T
    assert np.allclose(clf.decision_function(photos), cosines, atol=1e-5)
    assert clf.predict(photos).tolist() == [NAMES[i] for i in cosines.argmax(axis=1)]
    assert np.array_equal(clf.predict(model.encode_image(photos)), clf.predict(photos))
    assert np.array_equal(clf.predict([picture(i) for i in range(40)]), clf.predict(photos))
    assert clf.score(photos, clf.predict(photos)) == 1
    assert clf.explain(model.encode_image(photos[0])[0]).image == []
    numbers = reco.Classifier(model).fit(photos, [3, 1, 2] + [1] * 37)
    assert numbers.classes_.tolist() == [1, 2, 3] and numbers.predict(photos[:2]).dtype.kind == "i"


def test_bad(model: reco.Model, parts: tuple[reco.Bank, list[reco.Fusion]], photos: list[str]) -> None:
    bank, layers = parts
    for bad in (reco.Classifier(), reco.Classifier(model), reco.Classifier(model, bank, classes=NAMES),
                reco.Classifier(model, bank, layers[0], NAMES, refine="all"), reco.Classifier(model, bank, layers[0], NAMES, mixture="on")):
        with pytest.raises(ValueError):
            bad.predict(photos)
    with pytest.raises(reco.errors.Exists, match="merge|same"):
        reco.Classifier(model, classes=["red", "Red "]).predict(photos)
    assert reco.Classifier(model, classes=["red", "Red ", "green"], merge=True).fit().classes_.tolist() == ["red", "green"]
    with pytest.warns(UserWarning), pytest.raises(reco.errors.BadFormat, match="picture 1"):
        reco.Classifier(model, classes=NAMES).predict([photos[0], "/none.png"])


@pytest.mark.filterwarnings("ignore")
def test_sklearn(model: reco.Model, parts: tuple[reco.Bank, list[reco.Fusion]], photos: list[str]) -> None:
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.utils.estimator_checks import check_estimator

    bank, layers = parts
    clf = reco.Classifier(model, bank, layers[0], NAMES)
    assert is_classifier(clf) and clone(clf).get_params() == clf.get_params()
    pipe = make_pipeline(FunctionTransformer(lambda x: x), clf)
    assert pipe.fit(photos, [NAMES[i % 10] for i in range(40)]).predict(photos).tolist() == clf.predict(photos).tolist()
    assert 0 <= pipe.score(photos, [NAMES[i % 10] for i in range(40)]) <= 1
    pipe.set_params(classifier__k=2)
    assert clf.k == 2
    results = check_estimator(clf)
    assert results and all(r["status"] in ("passed", "skipped") for r in results)
