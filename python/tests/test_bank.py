from __future__ import annotations

import json
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import reco
from conftest import OTHER, picture, png, unit


def exact(queries: Any, rows: Any, k: int) -> tuple[Any, Any]:
    """The answer, by numpy, of rows as they are stored."""
    scores = queries.astype(np.float64) @ rows.astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


def test_rows(bank: reco.Bank, records: list[dict[str, Any]]) -> None:
    assert len(bank) == 40 and bank.d == 16 and bank.last is not None and bank.last.rows == 40
    row = bank[7]
    assert (row.id, row.caption, row.meta) == (7, records[7]["text"], {"brand": "Opel", "price": 70})
    assert row.path == records[7]["image"]
    assert [r.id for r in bank] == list(range(40)) == bank.ids().tolist()
    assert [r.caption for r in bank[[3, 5]]] == [records[3]["text"], records[5]["text"]]
    assert 7 in bank and 40 not in bank and "x" not in bank
    assert bank[[]] == [] and bank[[5, 3, 5]] == [bank[5], bank[3], bank[5]]
    for id in (40, -1):
        with pytest.raises(reco.errors.NotFound, match=str(id)):
            bank[id]
        with pytest.raises(reco.errors.NotFound, match=str(id)):
            bank[[3, id]]
    with pytest.raises(TypeError):
        bank[1:3]
    assert len(pickle.loads(pickle.dumps(bank))) == 40
    assert bank.verify() == []


def test_search(vectors: tuple[reco.Bank, Any, Any]) -> None:
    bank, image, text = vectors
    queries = image[::30]
    for side, rows in (("image", image), ("text", text)):
        stored = bank.partners(np.arange(900), side=side)
        assert np.abs(stored - rows).max() < 1e-3
        want, order = exact(queries, stored, 20)
        scores, ids = bank.search(queries, k=20, side=side)
        assert scores.dtype == np.float32 and ids.dtype == np.int64 and ids.shape == (30, 20)
        assert np.allclose(scores, want, atol=1e-6)
        if side == "image":
            assert np.array_equal(ids, order)
    one = bank.search(queries[0], k=5)
    assert one.ids.shape == (5,) and np.array_equal(one.ids, bank.search(queries, 5).ids[0])
    least = bank.search(queries, 50, min_similarity=0.9)
    assert ((least.ids == -1) == (least.scores == 0)).all() and (least.scores[least.ids >= 0] >= 0.9).all() and (least.ids == -1).any()
    many = bank.search(image[:3].astype(np.float16), k=3)
    assert many.ids[:, 0].tolist() == [0, 1, 2]
    assert np.array_equal(bank.search(np.asfortranarray(queries), 3).ids, bank.search(queries.astype(np.float64), 3).ids)
    assert bank.search(np.zeros((0, 32), np.float32)).ids.shape == (0, 10)


def test_recall(vectors: tuple[reco.Bank, Any, Any], model: reco.Model, bank: reco.Bank, cli: Any, tmp_path: pathlib.Path) -> None:
    """Of a bank with lists: the bank's own recall, that of the open bank, or that of a call."""
    _, image, text = vectors
    path = tmp_path / "lists.bank"
    plain = reco.Bank.build(path, image=image, text=text, pairs=[{"text": f"thing {i // 20}"} for i in range(900)])
    want = plain.search(image[:50])
    assert want.recall == 1 and want.missing == () == plain.missing
    cli("bank", "index", path, "--lists", 45, "--recall", 0.9)
    lists = reco.Bank(path)
    mean = reco.Fusion("mean", d=32)
    for opened, recall in ((lists, 0.9), (reco.Bank.open(path, recall=0.95), 0.95), (pickle.loads(pickle.dumps(reco.Bank(path, exact=True))), 1)):
        assert opened.search(image[:50]).recall == pytest.approx(recall)
        assert opened.search(image[:50], recall=0.98, fusion=mean).recall == pytest.approx(0.98)
        exactly = opened.search(image[:50], exact=True)
        assert exactly.recall == 1 and np.array_equal(exactly.ids, want.ids)
        assert np.array_equal(mean.refine(opened, image=image[:50], exact=True), mean.refine(plain, image=image[:50]))
    found = lists.search(image[:50])
    assert (found.ids == want.ids).mean() > 0.8
    assert reco.train(lists, tmp_path / "f", layer="mean", recall=0.95).recall == pytest.approx(0.95)
    assert reco.train(lists, tmp_path / "f", layer="mean", exact=True).recall == 1
    small = reco.Fusion("mean", d=16)
    told = reco.Classifier(model, bank, small, ["red", "blue"], exact=True).fit()
    assert told.settings_["recall"] == 1 and told.get_params()["exact"]
    for options, error in (({"recall": 0.3}, reco.errors.InvalidArgument), ({"recall": 0.9, "exact": True}, ValueError)):
        for call in (lists.search, lambda x, **more: mean.refine(lists, image=x, **more), lambda x, **more: reco.Bank(path, **more),
                     lambda x, **more: reco.train(lists, tmp_path / "f", **more),
                     lambda x, **more: reco.Classifier(model, bank, small, ["a", "b"], **more).fit()):
            with pytest.raises(error):
                call(image[:1], **options)


def test_where(bank: reco.Bank, model: reco.Model) -> None:
    x = model.encode_text("a red thing")
    scores, ids = bank.search(x, k=20, side="text", where="brand = 'Fiat'")
    assert (ids[0, :10] % 4 == 0).all() and (ids[0, 10:] == -1).all() and (scores[0, 10:] == 0).all()
    assert bank.ids("brand = 'Fiat' AND price >= 200").tolist() == [20, 24, 28, 32, 36]
    assert bank.ids("json_extract(meta, '$.brand') = 'Fiat' AND price < 50").tolist() == [0, 4]
    assert bank.ids("caption LIKE '%red red%'").tolist() == [0]
    cheap = bank.filter("price < 30")
    assert len(cheap) == 3 and sorted(bank.search(x, 5, where=cheap).ids[0].tolist()) == [-1, -1, 0, 1, 2]
    some = bank.filter(ids=[1, 2, 99])
    assert len(some) == 2
    assert bank.ids("'price' = 'price'").size == 40
    for bad in ("brand = ", "nothing(3)", "DELETE FROM pair"):
        with pytest.raises(reco.errors.InvalidArgument):
            bank.ids(bad)
    del bank
    assert len(cheap) == 3  # the bank lives as long as its filter


def test_sources(tmp_path: pathlib.Path, model: reco.Model, records: list[dict[str, Any]], photos: list[str]) -> None:
    """A file, dicts, a generator and pictures in memory make the same rows."""
    jsonl = tmp_path / "pairs.jsonl"
    jsonl.write_text("".join(json.dumps(r) + "\n" for r in records))
    banks = [reco.Bank.build(tmp_path / "0", model=model, pairs=str(jsonl)),
             reco.Bank.build(tmp_path / "1", model=model, pairs=iter(records)),
             reco.Bank.build(tmp_path / "2", model=model, pairs=({**r, "image": picture(i)} for i, r in enumerate(records))),
             reco.Bank.build(tmp_path / "3", model=model, pairs=[{**r, "image": {"bytes": png(picture(i)), "path": r["image"]}}
                                                                 for i, r in enumerate(records)])]
    for bank in banks:
        assert [(r.caption, r.meta) for r in bank] == [(r.caption, r.meta) for r in banks[0]]
        for side in ("image", "text"):
            assert np.array_equal(bank.partners(bank.ids(), side=side), banks[0].partners(banks[0].ids(), side=side))
    assert banks[2][0].uri is None and banks[3][0].uri == photos[0]
    tars = reco.Bank.build(tmp_path / "4", embeddings=_exported(banks[0], tmp_path / "emb"))
    assert np.array_equal(tars.partners([5]), banks[0].partners([5]))


def _exported(bank: reco.Bank, folder: pathlib.Path) -> pathlib.Path:
    assert bank.export(folder) == len(bank)
    return folder


def test_bad_pairs(tmp_path: pathlib.Path, model: reco.Model, records: list[dict[str, Any]]) -> None:
    bad = [*records[:3], {"image": "/none.png", "text": "nothing"}, {"image": records[4]["image"], "text": ""}]
    bank = reco.Bank.build(tmp_path / "a", model=model, pairs=bad)
    assert bank.last is not None and [f.index for f in bank.last.failed] == [3, 4] and len(bank) == 3
    assert "/none.png" in bank.last.failed[0].reason or bank.last.failed[0].item == "/none.png"
    memory = reco.Bank.build(tmp_path / "b", model=model, pairs=[{"image": picture(1), "text": "x"}, {"image": b"none", "text": "y"},
                                                                {"image": picture(2), "text": " "}])
    assert memory.last is not None and [f.index for f in memory.last.failed] == [2, 1] and len(memory) == 1
    for nothing in ([], [{"image": "/none.png", "text": "x"}], [{"image": b"none", "text": "x"}]):
        with pytest.raises(reco.errors.NotFound):
            reco.Bank.build(tmp_path / "c", model=model, pairs=nothing)
        assert not (tmp_path / "c").exists()
    with pytest.raises(reco.errors.InvalidArgument):
        reco.Bank.build(tmp_path / "c", image=np.ones((1, 4)), text=np.ones((1, 4)), pairs=[{"text": "x"}])
    assert not (tmp_path / "c").exists()
    with pytest.raises(reco.errors.Exists):
        reco.Bank.build(tmp_path / "a", model=model, pairs=records)
    with pytest.raises(reco.errors.Exists):
        reco.Bank.build(tmp_path / "a", model=model, pairs=[{"image": picture(1), "text": "x"}])
    with pytest.raises(TypeError, match="no option 'deduplicate'"):
        reco.Bank.build(tmp_path / "d", model=model, pairs=records, deduplicate=True)
    with pytest.raises(ValueError):
        reco.Bank.build(tmp_path / "d", model=model)
    with pytest.raises(ValueError):
        reco.Bank.build(tmp_path / "d", pairs=records)


def test_changes(bank: reco.Bank, model: reco.Model, records: list[dict[str, Any]], tmp_path: pathlib.Path) -> None:
    reader = reco.Bank(bank.path)
    new = tmp_path / "new.png"
    new.write_bytes(png(picture(77)))
    report = bank.add([{"image": str(new), "text": "a new thing", "price": 5}], model=model)
    assert report.rows == 1 and len(bank) == 41 and bank[40].caption == "a new thing"
    assert bank.search(model.encode_image(str(new)), 1).ids[0, 0] == 40
    assert len(reader) == 40 and 40 not in reader
    reader.refresh()
    assert len(reader) == 41
    report = bank.update([{**records[3], "text": "quite another thing"}], model=model)
    assert report.changed == 1 and bank[3].caption == "quite another thing"
    assert bank.delete([1, 2, 1000]) == 2 and bank.delete(where="price > 380") == 1 and len(bank) == 38
    with pytest.raises(reco.errors.NotFound):
        bank[1]
    assert bank.restore([1]) == 1 and bank[1].caption == records[1]["text"]
    assert bank.delete(uris=[records[4]["image"]]) == 1
    assert bank.compact()["removed"] == 3 and len(bank) == 38 and bank.verify() == []
    with pytest.raises(ValueError):
        bank.delete()
    with pytest.raises(reco.errors.Mismatch):
        bank.add([records[0]], model=reco.Model(OTHER))


def test_merge(model: reco.Model, records: list[dict[str, Any]], tmp_path: pathlib.Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    whole = reco.Bank.build(tmp_path / "whole", model=model, pairs=tmp_path / "pairs.jsonl")
    parts = [reco.Bank.build(tmp_path / f"part{i}", model=model, pairs=tmp_path / "pairs.jsonl", shard=i, shards=3) for i in (1, 2, 3)]
    assert [len(part) for part in parts] == [14, 13, 13]
    merged = reco.Bank.merge(tmp_path / "merged", [*parts[:2], parts[2].path])
    assert merged.last is not None and merged.last.rows == 40 and merged.last.counts["linked"] == 3 and merged.verify() == []
    assert list(merged) == list(whole) and np.array_equal(merged.partners(merged.ids()), whole.partners(whole.ids()))
    assert reco.Bank.merge(tmp_path / "merged", parts).last.counts["already"]  # type: ignore[union-attr]
    with pytest.raises(reco.errors.InvalidArgument, match="shard: 4/3, want I/N"):
        reco.Bank.build(tmp_path / "x", model=model, pairs=tmp_path / "pairs.jsonl", shard=4, shards=3)
    with pytest.raises(reco.errors.Exists):
        reco.Bank.merge(tmp_path / "whole", parts)


def test_vectors(vectors: tuple[reco.Bank, Any, Any], tmp_path: pathlib.Path) -> None:
    bank, image, text = vectors
    assert bank[30].caption == "thing 1" and bank.info["encoder"] == ""
    assert bank.partners([[0, -1], [5, 7]]).shape == (2, 2, 32)
    assert (bank.partners([-1]) == 0).all()
    with pytest.raises(reco.errors.NotFound):
        bank.partners([900])
    more = reco.Bank.build(tmp_path / "b", image=image[:10], text=text[:10], pairs=[{"text": "x", "image": f"{i}.jpg"} for i in range(10)])
    assert more.add([{"text": "y"}], image=image[:1], text=text[:1]).rows == 1 and len(more) == 11 and more[3].uri == "3.jpg"
    with pytest.raises(ValueError, match="9 vectors"):
        more.add([{"text": "y"}], image=image[:9], text=text[:1])
    with pytest.raises(reco.errors.Mismatch):
        more.add([{"text": "y"}], image=unit(np.ones((1, 8))), text=unit(np.ones((1, 8))))
    with pytest.raises(reco.errors.InvalidArgument):
        more.add([{"text": "y"}], image=3 * image[:1], text=text[:1])


def test_as_the_program(vectors: tuple[reco.Bank, Any, Any], cli: Any, tmp_path: pathlib.Path) -> None:
    bank, image, _ = vectors
    np.save(tmp_path / "q.npy", image[:200])
    cli("search", "--bank", bank.path, "--queries", tmp_path / "q.npy", "--side", "text", "-k", 7, "--out", tmp_path / "hits")
    scores, ids = bank.search(image[:200], 7, side="text")
    assert np.array_equal(np.load(tmp_path / "hits" / "ids.npy"), ids)
    assert np.array_equal(np.load(tmp_path / "hits" / "scores.npy"), scores)


@pytest.mark.parametrize("path, shown", [
    ("shop@home?.bank", "shop@home?.bank"),
    ("postgresql://me:secret@h:1/d?password=secret", "postgresql://h:1/d"),
    ("postgres://me:se,cr et/@h/d,postgresql://i/e", "postgres://h/d,postgresql://i/e"),
    ("postgresql://h/d?user=a@b&password=secret", "postgresql://"),
])
def test_no_password_is_shown(path: str, shown: str) -> None:
    from reco.bank import _without_secrets

    assert _without_secrets(path) == shown
