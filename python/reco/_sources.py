"""Input pairs: files that the library reads itself, and tables and records in memory."""

from __future__ import annotations

import datetime
import json
import math
import os
from typing import Any, Iterable, Iterator, Mapping, Optional

import numpy as np

from . import _images
from ._arrays import Path

Record = dict[str, Any]
#: A path (CSV, TSV, JSONL, Parquet), a DataFrame of pandas or polars, a table of pyarrow, a data set, or an iterable of dicts.
Pairs = Any

_TEXTS = ("text", "caption", "title", "alt_text", "alttext", "alt")


def is_path(pairs: Pairs) -> bool:
    return isinstance(pairs, (str, os.PathLike))


def paths(one_or_several: Any) -> list[Path]:
    return [one_or_several] if is_path(one_or_several) else list(one_or_several)


def is_parquet(path: Path) -> bool:
    return os.fsdecode(path).lower().endswith((".parquet", ".pq"))


def _of_parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{os.fsdecode(path)}: reading Parquet needs pyarrow") from error
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            yield from batch.to_pylist()


def records(pairs: Pairs) -> Iterator[Record]:
    """Yield one dict per pair."""
    if is_path(pairs):
        yield from _of_parquet(pairs)
    elif hasattr(pairs, "to_batches"):  # pyarrow.Table
        for batch in pairs.to_batches(max_chunksize=4096):
            yield from batch.to_pylist()
    elif hasattr(pairs, "itertuples"):  # pandas
        names = [str(c) for c in pairs.columns]
        for row in pairs.itertuples(index=False, name=None):
            yield dict(zip(names, row))
    elif hasattr(pairs, "iter_rows"):  # polars
        yield from pairs.iter_rows(named=True)
    else:
        for record in pairs:
            if not isinstance(record, Mapping):
                raise TypeError(f"a pair is of type {type(record).__name__}, want a dict")
            yield dict(record)


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold. The caller leaves out None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return None if value != value else value.isoformat()  # NaT is not itself
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return None if value != value else str(value)


def plain(record: Record) -> Record:
    made = {str(k): _plain(v) for k, v in record.items()}
    return {k: v for k, v in made.items() if v is not None}


def image_key(record: Record, column: Optional[str]) -> Optional[str]:
    """Return the column whose value is a picture in memory; None if there is none."""
    if column is not None:
        return column if _images.in_memory(record.get(column)) else None
    for key, value in record.items():
        if _images.in_memory(value) and not isinstance(value, np.ndarray):
            return key
        if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
            return key
    return None


def text_key(record: Record, column: Optional[str]) -> str:
    if column is not None:
        return column
    for name in _TEXTS:
        for key in record:
            if str(key).strip().lower() == name:
                return str(key)
    raise ValueError(f"a pair has the columns {', '.join(map(str, record))}, want text, caption or title (or text_column=)")


def paths_of(record: Record) -> Record:
    """Replace {"path": ...} without bytes, the form in which data sets refer to pictures elsewhere, by that path."""
    return {k: v["path"] if isinstance(v, dict) and set(v) == {"bytes", "path"} and v["bytes"] is None else v for k, v in record.items()}


def write_jsonl(path: str, rows: Iterable[Record]) -> int:
    """Write the records and return their number."""
    n = 0
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(plain(paths_of(row)), ensure_ascii=True) + "\n")
            n += 1
    return n
