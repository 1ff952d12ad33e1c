"""Tables in memory and Parquet make the rows that a CSV makes."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

import numpy as np
import pytest

import reco
from conftest import picture, png


def same(bank: reco.Bank, records: list[dict[str, Any]]) -> None:
    assert [(r.caption, r.uri, r.meta["brand"], r.meta["price"]) for r in bank] == [(r["text"], r["image"], r["brand"], r["price"]) for r in records]


def test_pandas(model: reco.Model, records: list[dict[str, Any]], tmp_path: pathlib.Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(records)
    same(reco.Bank.build(tmp_path / "a", model=model, pairs=frame), records)
    frame["seen"] = pd.Timestamp("2026-01-02")
    frame["empty"] = np.nan
    frame.loc[3, "seen"] = pd.NaT
    frame = frame.rename(columns={"image": "photo", "text": "says"})
    bank = reco.Bank.build(tmp_path / "b", model=model, pairs=frame, image_column="photo", text_column="says")
    same(bank, records)
    assert bank[0].meta["seen"] == datetime.datetime(2026, 1, 2).isoformat() and "seen" not in bank[3].meta and "empty" not in bank[0].meta
    assert bank.search(model.encode_text(records[9]["text"]), 1, side="text", where="price = 90").ids[0, 0] == 9


def test_arrow(model: reco.Model, records: list[dict[str, Any]], tmp_path: pathlib.Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.Table.from_pylist(records)
    same(reco.Bank.build(tmp_path / "a", model=model, pairs=table), records)
    pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet")
    same(reco.Bank.build(tmp_path / "b", model=model, pairs=tmp_path / "pairs.parquet"), records)
    # Pictures in the table, as data sets have them.
    inside = pa.Table.from_pylist([{**r, "image": {"bytes": png(picture(i)), "path": r["image"]}} for i, r in enumerate(records)])
    pyarrow.parquet.write_table(inside, tmp_path / "inside.parquet")
    bank = reco.Bank.build(tmp_path / "c", model=model, pairs=tmp_path / "inside.parquet")
    same(bank, records)
    assert np.array_equal(bank.partners(bank.ids(), "image"), reco.Bank(tmp_path / "b").partners(bank.ids(), "image"))


def test_no_pyarrow(tmp_path: pathlib.Path, model: reco.Model) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pyarrow"):
            reco.Bank.build(tmp_path / "a", model=model, pairs="x.parquet")
