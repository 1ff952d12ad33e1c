"""Banks: embedded image-text pairs in a folder that grows and shrinks."""
# Long because one class has nearly all methods, and their docstrings are its manual.

from __future__ import annotations

import itertools
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Optional, Sequence, Union, overload

import numpy as np

from . import _arrays, _core, _images, _sources, errors
from ._arrays import ArrayLike, Floats, Ids, Path
from ._progress import Progress, Shown
from ._sources import Pairs
from .model import Failure, Model

if TYPE_CHECKING:
    from .fusion import Fusion


@dataclass(frozen=True)
class Row:
    """A row of a bank."""

    id: int
    caption: str
    uri: Optional[str] = None  #: the picture, as it was named
    meta: dict[str, Any] = field(default_factory=dict)  #: the other columns
    base: Optional[str] = None  #: the folder that a relative uri is to be taken from

    @property
    def path(self) -> Optional[str]:
        """Path of the picture."""
        return os.path.join(self.base, self.uri) if self.base and self.uri else self.uri


def _row(id: int, caption: str, uri: Optional[str], meta: Optional[str], base: Optional[str]) -> Row:
    return Row(id, caption, uri, json.loads(meta) if meta else {}, base)


class _Hits(NamedTuple):
    scores: Floats  #: [nq][k] cosines; 0 where there is nothing
    ids: Ids  #: [nq][k]; -1 where there is nothing


class Hits(_Hits):
    """Results of a search, best first: the pair ``(scores, ids)``, and how complete they are."""

    recall: float = 1.0  #: expected recall of the search; 1: it was exact
    missing: tuple[str, ...] = ()  #: PostgreSQL servers whose rows are missing, as ``"HOST:PORT/DATABASE"``


@dataclass(frozen=True)
class WriteReport:
    """What a build, add or update did."""

    rows: int  #: added
    failed: tuple[Failure, ...] = ()  #: what was skipped, and why
    changed: int = 0
    duplicates: int = 0  #: were there already
    counts: dict[str, Any] = field(default_factory=dict)  #: all that the library counts


def recall_of(recall: Optional[float], exact: bool) -> float:
    """For the other modules: the recall that both options ask for; 0: the bank's own."""
    if exact and recall is not None:
        raise ValueError("recall cannot be combined with exact")
    if recall is not None and not 0.5 <= recall <= 1:
        raise errors.InvalidArgument(f"recall = {recall}, want 0.5..1")
    return 1.0 if exact else recall or 0.0


class Filter:
    """Rows to search among, created once and used often: ``bank.filter("price < 100")``. Valid for one snapshot of a bank."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __len__(self) -> int:
        return _core.bank_filter_count(self._handle)


def _without_secrets(path: str) -> str:
    """Remove user, password and parameters from URLs; more if in doubt, since a password may contain unescaped characters."""
    shown = []
    for url in re.split(r",(?=postgres(?:ql)?://)", path):
        scheme, mark, rest = url.partition("://")
        if scheme not in ("postgresql", "postgres"):
            return path
        before, _, host = rest.rpartition("@")
        shown.append(scheme + mark + ("" if "?" in before else host.split("?")[0]))
    return ",".join(shown)


class Bank:
    """An open bank. It sees what was committed when it was opened, and its own writes.

    A bank may be shared between threads. :meth:`refresh` makes it see what other processes have committed since.
    ``postgresql://`` URLs, separated by commas, open one bank on servers (docs/postgres.md), which always shows the state committed now.

    Parameters
    ----------
    partial
        If some of a bank's servers fail, search the others; ``Hits.missing`` names those that failed. Otherwise this is an error.
    recall, exact
        Recall of searches through the bank's lists, 0.5 to 1, where a call gives none; ``exact=True`` searches all rows. By default,
        the recall that the lists were made for.
    """

    def __init__(self, path: Path, *, partial: bool = False, recall: Optional[float] = None, exact: bool = False) -> None:
        self.path = os.fsdecode(path)
        self.last: Optional[WriteReport] = None  #: of the last build, add or update through this object
        self._options = partial, recall, exact
        self._use(_core.bank_open(self.path, partial, recall_of(recall, exact)))

    @classmethod
    def open(cls, path: Path, *, partial: bool = False, recall: Optional[float] = None, exact: bool = False) -> "Bank":
        """Same as ``Bank(path, ...)``."""
        return cls(path, partial=partial, recall=recall, exact=exact)

    def refresh(self) -> bool:
        """See what any process has committed until now. Return whether there was anything new; the check takes a microsecond.

        Calls that are running keep the snapshot they began with. Filters belong to the old snapshot, so create new ones."""
        handle = _core.bank_refresh(self._handle)
        if handle is not None:
            self._use(handle)
        return handle is not None

    def _use(self, handle: Any) -> None:
        self.info: dict[str, Any] = _core.bank_info(handle)  #: rows, deleted, d, encoder, fingerprint, segments, ...
        self._handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, *self._options)

    def __repr__(self) -> str:
        return f"<reco.Bank {_without_secrets(self.path)!r}: {len(self)} pairs, d = {self.d}>"

    # ---- writing ----

    @classmethod
    def build(cls, path: Path, *, model: Optional[Model] = None, pairs: Optional[Pairs] = None, tars: Union[None, Path, Sequence[Path]] = None,
              embeddings: Optional[Path] = None, image: Optional[ArrayLike] = None, text: Optional[ArrayLike] = None,
              image_column: Optional[str] = None, text_column: Optional[str] = None, progress: Progress = None, **options: Any) -> "Bank":
        """Build a bank.

        Parameters
        ----------
        path
            The folder to create. If an earlier build from the same file was interrupted, it continues.
        model
            Embeds the pairs.
        pairs
            A file (CSV, TSV, JSONL, Parquet), a DataFrame, a pyarrow table, or an iterable of dicts. Columns are ``image`` (a path, or
            a picture in memory) and ``text``; others are kept as ``meta``.
        tars
            Webdataset tars, or patterns of their names.
        embeddings
            A folder in clip-retrieval's layout.
        image, text
            Vectors [n][d] of both sides, with ``pairs`` for their captions (one record each; ``image`` is a name, if given). No model is needed.
        options
            ``dedup``, ``several_captions``, ``batch``, ``commit``: as in ``reco bank build``. ``shard=3, shards=8``: build only the third of
            eight parts of a file, tars or embeddings, to be merged with the others.

        Pairs that cannot be used are skipped; ``.last.failed`` says which, and why. An interrupted build continues only if the pairs are a file,
        not records in memory.
        """
        report = _write(path, True, model, pairs, tars, embeddings, image, text, image_column, text_column, progress, options)
        bank = cls(path)
        bank.last = report
        return bank

    @classmethod
    def merge(cls, path: Path, banks: Sequence[Union[Path, "Bank"]], *, several_captions: bool = False, progress: Progress = None) -> "Bank":
        """Merge banks into a new one, in this order, as ``reco bank merge`` does. An interrupted merge continues when it is run again, and
        a finished one is opened. ``.last.counts`` says what became of the rows."""
        names = [bank.path if isinstance(bank, Bank) else os.fsdecode(bank) for bank in banks]
        with Shown(progress) as hook:
            result = _core.bank_merge(os.fsdecode(path), names, several_captions, hook)
        bank = cls(path)
        bank.last = WriteReport(rows=result["rows"], duplicates=result["duplicates"], changed=result["replaced"], counts=result)
        return bank

    def add(self, pairs: Optional[Pairs] = None, *, model: Optional[Model] = None, tars: Union[None, Path, Sequence[Path]] = None,
            embeddings: Optional[Path] = None, image: Optional[ArrayLike] = None, text: Optional[ArrayLike] = None,
            image_column: Optional[str] = None, text_column: Optional[str] = None, progress: Progress = None, **options: Any) -> WriteReport:
        """Add pairs, from the same sources as in :meth:`build`."""
        try:
            self.last = _write(self.path, False, model, pairs, tars, embeddings, image, text, image_column, text_column, progress, options)
        finally:
            self.refresh()  # what was committed before an error is there
        return self.last

    def update(self, pairs: Pairs, *, model: Model, key: Optional[str] = None, image_column: Optional[str] = None,
               text_column: Optional[str] = None, progress: Progress = None, **options: Any) -> WriteReport:
        """Make rows match the given pairs: only what differs is embedded again, and ids stay. ``key`` names the column that identifies
        rows; without it they are identified by their picture."""
        try:
            with tempfile.TemporaryDirectory(prefix="reco-") as folder:
                source = _as_file(pairs, folder)
                if source is None:
                    raise TypeError("an update needs pictures by path")
                self.last = _ingest("update", model, [source], self.path, False, key, image_column, text_column, progress, options)
        finally:
            self.refresh()
        return self.last

    def delete(self, ids: Optional[ArrayLike] = None, *, where: Optional[str] = None, uris: Sequence[str] = ()) -> int:
        """Delete rows by id, condition or URI, and return their number. :meth:`restore` restores them until :meth:`compact`."""
        return self._delete(False, ids, where, uris)

    def restore(self, ids: Optional[ArrayLike] = None, *, where: Optional[str] = None, uris: Sequence[str] = ()) -> int:
        """Restore deleted rows, and return their number."""
        return self._delete(True, ids, where, uris)

    def _delete(self, restore: bool, ids: Optional[ArrayLike], where: Optional[str], uris: Sequence[str]) -> int:
        if ids is None and where is None and not len(uris):
            raise ValueError("which rows? want ids, where or uris")
        if isinstance(uris, str):
            raise TypeError("uris: want a list")
        which = None if ids is None else np.atleast_1d(_arrays.ids(ids)).reshape(-1)
        n = 0 if which is None else which.size
        count = _core.bank_delete(self.path, restore, which, n, list(uris), where)
        self.refresh()
        return count

    def compact(self, *, progress: Progress = None) -> dict[str, Any]:
        """Remove deleted rows permanently, and merge small vector files."""
        with Shown(progress) as hook:
            result = _core.bank_compact(self.path, hook)
        self.refresh()
        return result

    # ---- reading ----

    @property
    def missing(self) -> tuple[str, ...]:
        """PostgreSQL servers whose rows are missing from results at present, of a bank that was opened with ``partial``."""
        return tuple(_core.bank_missing(self._handle))

    @property
    def d(self) -> int:
        """Width of the vectors."""
        return int(self.info["d"])

    def __len__(self) -> int:
        """Number of live rows."""
        return int(self.info["rows"])

    def ids(self, where: Optional[str] = None) -> Ids:
        """Return the ids [n] of the live rows, or of those for which the condition is true, in ascending order."""
        handle, rows, first = self._handle, len(self), 0
        pages: list[Ids] = []
        while True:
            page = np.empty(max(1, rows if where is None else min(rows, 65536)), np.int64)
            n = _core.bank_select(handle, where, first, page.size, page, False)
            pages.append(page[:n])
            if n < page.size:
                return pages[0] if len(pages) == 1 else np.concatenate(pages)
            first = int(page[n - 1]) + 1

    def __iter__(self) -> Iterator[Row]:
        ids = self.ids()
        return (row for i in range(0, ids.size, 1024) for row in self.rows(ids[i:i + 1024]))

    def __contains__(self, id: object) -> bool:
        try:
            return isinstance(id, (int, np.integer)) and self[int(id)] is not None
        except errors.NotFound:
            return False

    @overload
    def __getitem__(self, id: int) -> Row: ...
    @overload
    def __getitem__(self, id: ArrayLike) -> Union[Row, list[Row]]: ...
    def __getitem__(self, id: Union[int, ArrayLike]) -> Union[Row, list[Row]]:
        """Return the row with this id, or a list of rows for several ids; NotFound if one does not exist."""
        if isinstance(id, (int, np.integer)):
            return _row(*_core.bank_get(self._handle, int(id)))
        if isinstance(id, slice):
            raise TypeError("rows are indexed by id, and ids have gaps: use a list, as in bank[[3, 5, 8]]")
        ids = _arrays.ids(id).reshape(-1)
        if (ids < 0).any():
            return [self[int(ids[ids < 0][0])]]  # which is not there
        return self.rows(ids)

    def rows(self, ids: Ids) -> list[Row]:
        """Return the rows of ids [n] that are not negative, in one round trip."""
        return [_row(*row) for row in _core.bank_get_many(self._handle, ids, ids.size)]

    def filter(self, where: Optional[str] = None, *, ids: Optional[ArrayLike] = None) -> Filter:
        """Create a set of rows to search among, from a condition or from ids, for use in several searches."""
        if (where is None) == (ids is None):
            raise ValueError("want a condition or ids")
        if ids is not None:
            which = _arrays.ids(ids).reshape(-1)
            return Filter(_core.bank_filter(self._handle, which, which.size))

        return Filter(_core.bank_filter(self._handle, where or "", 0))

    def filter_handle(self, where: Union[None, str, Filter]) -> Any:
        """Return the handle of a condition, for the other modules."""
        if where is None:
            return None
        return (where if isinstance(where, Filter) else self.filter(where))._handle

    def search(self, queries: ArrayLike, k: int = 10, *, side: str = "image", where: Union[None, str, Filter] = None,
               min_similarity: Optional[float] = None, distinct: bool = False, fusion: Optional["Fusion"] = None,
               query_side: Optional[str] = None, refine: str = "auto", mixture: bool = True, recall: Optional[float] = None,
               exact: bool = False, progress: Progress = False) -> Hits:
        """Find the k rows with the greatest cosine to each query; equal ones are ordered by id. Exact unless the bank has lists.

        Parameters
        ----------
        queries
            [nq][d] or [d], unit rows (within 1e-3).
        side
            The side whose vectors the queries are compared with: ``"image"`` or ``"text"``.
        where
            Rows to search among: a condition over id, caption, uri and your own columns, or a :class:`Filter`.
        min_similarity
            Leave out rows with a smaller cosine.
        distinct
            Return each picture once, with its best row.
        fusion
            Refine the queries with this layer first and, if it has a mixture, rank by it: scores are then probabilities among the answers
            (``mixture=False``: cosines of the refined queries). ``query_side`` says what the queries embed (default: ``side``), and
            ``refine`` which sides are refined.
        recall, exact
            Recall of the search, or ``exact=True``, in place of the bank's.

        Returns
        -------
        (scores, ids)
            float32 and int64 [nq][k] (or [k] for one query), scores first as in faiss, best first; unused places have id -1 and score 0.
            They also have ``.recall``, the expected recall of the search, and ``.missing``, the servers whose rows are missing.
        """
        want = recall_of(recall, exact)
        x, single = _arrays.rows(queries, self.d, "queries")
        if k < 1:
            raise errors.InvalidArgument(f"k = {k}, want 1..1024")
        n = len(x)
        handle, rows = self._handle, self.filter_handle(where)
        scores, ids = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
        with Shown(progress) as hook:
            if fusion is None:
                _core.bank_search(handle, side, x, n, k, min_similarity, rows, distinct, want, ids, scores, hook)
            else:
                mix = None if mixture else (0.0, 0.0, 0.0, 0.0, 0.0, 0)
                _core.bank_ask(handle, query_side or side, side, x, n, k, min_similarity, rows, distinct, want, fusion._handle, refine, mix,
                               ids, scores, None, None, hook)
        hits = Hits(scores[0], ids[0]) if single else Hits(scores, ids)
        hits.recall, hits.missing = _core.bank_recall(handle, want), tuple(_core.bank_missing(handle))
        return hits

    def partners(self, ids: ArrayLike, side: str = "text") -> Floats:
        """Return the vectors of rows, float32 [...][d] for ids [...]; zeros for -1."""
        which = _arrays.ids(ids)
        out = np.empty((*which.shape, self.d), np.float32)
        _core.bank_gather(self._handle, side, which, which.size, out)
        return out

    def verify(self, *, progress: Progress = None) -> list[str]:
        """Read and check every byte. Return a list of problems, one sentence each; an empty list means that the bank is undamaged."""
        with Shown(progress) as hook:
            found = _core.bank_verify(self.path, hook)
        return [f"{file} {what}" + (f" (bytes {at}..{at + size})" if size else "") for file, what, at, size, _, _ in found]

    def export(self, out: Path, *, where: Optional[str] = None, progress: Progress = None) -> int:
        """Export to a folder in clip-retrieval's layout, or to a pairs file if ``out`` ends in .csv or .jsonl; return the number of rows."""
        pairs = os.fsdecode(out).endswith((".csv", ".jsonl"))
        with Shown(progress) as hook:
            return _core.bank_export(self._handle, os.fsdecode(out), where, pairs, hook)


def _reopen(path: str, partial: bool, recall: Optional[float], exact: bool) -> Bank:
    return Bank(path, partial=partial, recall=recall, exact=exact)


# ---- writing ----


def _ingest(kind: str, model: Optional[Model], sources: list[str], bank: str, build: bool, key: Optional[str], image_column: Optional[str],
            text_column: Optional[str], progress: Progress, options: dict[str, Any]) -> WriteReport:
    numbers = {name: int(value) if isinstance(value, bool) else value for name, value in options.items()}
    with Shown(progress) as hook:
        counts, bad = _core.bank_ingest(kind, model._handle if model is not None else None, sources, bank, build, numbers, key,
                                        (image_column, text_column), hook)
    failed = tuple(Failure(*entry) for entry in bad)
    return WriteReport(counts["rows"], failed, counts["changed"], counts["duplicates"], counts)


def _as_file(pairs: Pairs, folder: str) -> Optional[str]:
    """Return a file that the library reads; None if the pictures are in memory."""
    if _sources.is_path(pairs) and not _sources.is_parquet(pairs):
        return os.fsdecode(pairs)
    rows = _sources.records(pairs)
    path = os.path.join(folder, "pairs.jsonl")
    _sources.write_jsonl(path, rows)
    return path


def _write(path: Path, build: bool, model: Optional[Model], pairs: Optional[Pairs], tars: Union[None, Path, Sequence[Path]],
           embeddings: Optional[Path], image: Optional[ArrayLike], text: Optional[ArrayLike], image_column: Optional[str],
           text_column: Optional[str], progress: Progress, options: dict[str, Any]) -> WriteReport:
    bank = os.fsdecode(path)
    vectors = image is not None or text is not None
    if (pairs is not None) + (tars is not None) + (embeddings is not None) != 1 or (vectors and pairs is None):
        raise ValueError("want one of pairs, tars and embeddings; with vectors, want pairs for their captions")
    if model is None and not vectors and embeddings is None:
        raise ValueError("want a model to embed with")

    def ingest(kind: str, sources: list[str]) -> WriteReport:
        return _ingest(kind, model, sources, bank, build, None, image_column, text_column, progress, options)

    if tars is not None:
        return ingest("tars", [os.fsdecode(t) for t in _sources.paths(tars)])
    if embeddings is not None:
        return ingest("embeddings", [os.fsdecode(embeddings)])
    if vectors:
        return _write_vectors(bank, build, model, pairs, image, text, text_column, image_column, options)
    if pairs is not None and _sources.is_path(pairs) and not _sources.is_parquet(pairs):
        return ingest("pairs", [os.fsdecode(pairs)])
    rows = _sources.records(pairs)
    first = next(rows, None)
    if first is None:
        raise errors.NotFound("no pairs")
    rows = itertools.chain([first], rows)
    key = _sources.image_key(first, image_column)
    if key is not None:
        assert model is not None
        return _write_pictures(bank, build, model, rows, key, _sources.text_key(first, text_column), progress, options)
    with tempfile.TemporaryDirectory(prefix="reco-") as folder:
        file = os.path.join(folder, "pairs.jsonl")
        _sources.write_jsonl(file, rows)
        return ingest("pairs", [file])


def _no_options(options: dict[str, Any], what: str) -> None:
    if options:
        raise TypeError(f"{what} take no option {', '.join(options)}")


class _Writer:
    """A writer of rows from memory, which removes a new bank if no row was written to it."""

    def __init__(self, bank: str, build: bool, d: int, model: Optional[Model]) -> None:
        spec = (d, model.name, model.fingerprint(), model.logit_scale) if model is not None else (d, None, None, 0.0)
        if build and os.path.exists(bank) and os.listdir(bank):
            raise errors.Exists(f"{bank}: already exists; add to it, or name another folder")
        if not build:
            theirs = Bank(bank)
            if theirs.d != d:
                raise errors.Mismatch(f"{bank}: has vectors of width {theirs.d}, not {d}")
            if model is not None:
                _core.check_encoder(model._handle, theirs._handle, None)
        self._handle = _core.writer_open(bank, spec if build else None, "")
        self.d, self.rows, self._build, self._done = d, 0, build, False

    def append(self, image: Floats, text: Floats, captions: list[str], uris: list[Optional[str]], metas: list[Optional[str]]) -> None:
        _core.writer_append(self._handle, self.d, image, text, captions, uris, metas)
        self.rows += len(captions)

    def commit(self) -> None:
        _core.writer_commit(self._handle, 0, True)
        self._done = True

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if self._build and not self._done:
            _core.writer_discard(handle)


def _json(record: dict[str, Any], but: set[str]) -> Optional[str]:
    meta = _sources.plain({k: v for k, v in record.items() if k not in but})
    return json.dumps(meta) if meta else None


def _write_vectors(bank: str, build: bool, model: Optional[Model], pairs: Pairs, image: Optional[ArrayLike], text: Optional[ArrayLike],
                   text_column: Optional[str], image_column: Optional[str], options: dict[str, Any]) -> WriteReport:
    _no_options(options, "vectors")
    if image is None or text is None:
        raise ValueError("want vectors of both sides, image and text")
    d = _arrays.to_numpy(image).shape[-1]
    v, t = _arrays.rows(image, d, "image")[0], _arrays.rows(text, d, "text")[0]
    rows = list(_sources.records(pairs))
    if not len(rows) == len(v) == len(t):
        raise ValueError(f"{len(v)} vectors of images, {len(t)} of texts and {len(rows)} pairs")
    if not rows:
        raise errors.NotFound("no pairs")
    key = _sources.text_key(rows[0], text_column)
    name = image_column or "image"
    writer = _Writer(bank, build, d, model)
    try:
        for i in range(0, len(rows), 8192):
            part = rows[i:i + 8192]
            uris = [None if r.get(name) is None else os.fsdecode(r[name]) for r in part]
            writer.append(v[i:i + 8192], t[i:i + 8192], [str(r[key]) for r in part], uris, [_json(r, {key, name}) for r in part])
        writer.commit()
    finally:
        writer.close()
    return WriteReport(writer.rows)


def _write_pictures(bank: str, build: bool, model: Model, rows: Iterator[dict[str, Any]], image: str, text: str, progress: Progress,
                    options: dict[str, Any]) -> WriteReport:
    """Write pictures in memory. They are embedded here, since the library could not find them later."""
    _no_options(options, "pictures in memory")
    failed: list[Failure] = []
    base = 0
    writer = _Writer(bank, build, model.d, model)
    try:
        with Shown(progress) as hook:
            while part := list(itertools.islice(rows, 1024)):
                good: list[int] = []
                for i, record in enumerate(part):
                    if isinstance(record.get(text), str) and record[text].strip() and record.get(image) is not None:
                        good.append(i)
                    else:
                        failed.append(Failure(base + i, _images.name_of(record.get(image)), "no text or no image"))
                v, index, bad = model._embed_images([part[i][image] for i in good], 0, hook, (0, 0))
                failed += [Failure(base + good[f.index], f.item, f.reason) for f in bad]
                kept = [part[good[int(i)]] for i in index]
                t = model.encode_text([r[text] for r in kept])
                uris = [r[image]["path"] if isinstance(r[image], dict) else os.fsdecode(r[image])
                        if isinstance(r[image], (str, os.PathLike)) else None for r in kept]
                writer.append(v, t, [r[text] for r in kept], uris, [_json(r, {image, text}) for r in kept])
                base += len(part)
        if writer.rows:
            writer.commit()
    finally:
        writer.close()
    if not writer.rows:
        raise errors.NotFound(f"none of {base} pairs could be used" + (f", the first: {failed[0].reason}" if failed else ""))
    return WriteReport(writer.rows, tuple(failed))
