"""The layer that fuses what is retrieved into an embedding, and its training."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union, overload

import numpy as np

from . import _arrays, _core, errors
from ._arrays import ArrayLike, Floats, Ids, Path
from ._progress import Progress, Shown
from ._sources import Pairs
from .bank import Bank, Filter, recall_of
from .model import Model


class Mixture(NamedTuple):
    """The mixture of the probabilities of CLIP, of the refined cosines and of the neighbours' vote."""

    clip: float  #: weight of CLIP
    refined: float  #: weight of the refined cosines; the rest is the vote's
    scale_clip: float
    scale_refined: float
    scale_vote: float
    voters: int  #: 0: as many as are fused

    @property
    def vote(self) -> float:
        return max(0.0, 1 - self.clip - self.refined)

    @property
    def votes(self) -> bool:
        return self.clip + self.refined < 1 - 1e-6


class Fusion:
    """An open layer: a checkpoint, or one of the controls by name: ``"none"``, ``"vote"``, ``"mean"``, ``"weighted"``.

    A layer may be shared between threads."""

    def __init__(self, path_or_name: Path, *, d: int = 0, k: int = 0) -> None:
        self.path = os.fsdecode(path_or_name)
        self._given = d, k
        self._handle = _core.fusion_open(self.path, d, k)
        #: layer, d, k, sides, search, fuse, min_similarity, mixture, ...
        self.config: dict[str, Any] = _core.fusion_config(self._handle)

    @classmethod
    def open(cls, path_or_name: Path, *, d: int = 0, k: int = 0) -> "Fusion":
        """Open a checkpoint, or a control by name, which takes the width ``d`` and the number of neighbours ``k`` (0: 10)."""
        return cls(path_or_name, d=d, k=k)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, *self._given)

    def __repr__(self) -> str:
        return f"<reco.Fusion {self.path!r}: {self.layer}, d = {self.config['d']}, k = {self.k}, refines {self.sides}>"

    @property
    def layer(self) -> str:
        return str(self.config["layer"])

    @property
    def k(self) -> int:
        """Number of neighbours that are fused into an embedding."""
        return int(self.config["k"])

    @property
    def sides(self) -> str:
        """What training chose to refine: ``"image"``, ``"text"``, ``"both"`` or ``"none"``."""
        return str(self.config["sides"])

    @property
    def mixture(self) -> Optional[Mixture]:
        """The mixture that training chose; None: rank by cosines."""
        m = self.config["mixture"]
        return None if m is None else Mixture(*m)

    def meta(self, key: str) -> Optional[str]:
        """What training recorded in the checkpoint, such as ``"encoder"``."""
        return _core.fusion_meta(self._handle, key)

    @overload
    def refine(self, bank: Bank, *, image: ArrayLike, text: None = None, k: int = 0, where: Union[None, str, Filter] = None,
               min_similarity: Optional[float] = None, recall: Optional[float] = None, exact: bool = False,
               progress: Progress = False) -> Floats: ...
    @overload
    def refine(self, bank: Bank, *, text: ArrayLike, image: None = None, k: int = 0, where: Union[None, str, Filter] = None,
               min_similarity: Optional[float] = None, recall: Optional[float] = None, exact: bool = False,
               progress: Progress = False) -> Floats: ...
    @overload
    def refine(self, bank: Bank, *, image: ArrayLike, text: ArrayLike, k: int = 0, where: Union[None, str, Filter] = None,
               min_similarity: Optional[float] = None, recall: Optional[float] = None, exact: bool = False,
               progress: Progress = False) -> tuple[Floats, Floats]: ...
    def refine(self, bank: Bank, *, image: Optional[ArrayLike] = None, text: Optional[ArrayLike] = None, k: int = 0,
               where: Union[None, str, Filter] = None, min_similarity: Optional[float] = None, recall: Optional[float] = None,
               exact: bool = False, progress: Progress = False) -> Union[Floats, tuple[Floats, Floats]]:
        """Search the bank with embeddings and fuse what is found into them.

        Parameters
        ----------
        image, text
            [n][d] or [d], unit rows of one side or of both.
        k
            Number of neighbours; 0: the layer's own.
        recall, exact
            Recall of the searches, as in :meth:`Bank.search`.

        Returns
        -------
        float32 [n][d] unit rows (for both sides: images, texts). Rows without a valid neighbour come back unchanged. The given sides are
        refined, whatever training chose.
        """
        if image is None and text is None:
            raise ValueError("want image or text")
        done = [self._refine(bank, side, x, k, where, min_similarity, progress, recall=recall_of(recall, exact))[0]
                for side, x in (("image", image), ("text", text)) if x is not None]
        return done[0] if len(done) == 1 else (done[0], done[1])

    def _refine(self, bank: Bank, side: str, x: ArrayLike, k: int, where: Union[None, str, Filter], least: Optional[float],
                progress: Progress = False, weights: Optional[Floats] = None, recall: float = 0.0) -> tuple[Floats, Ids, Floats, Ids]:
        """Return (refined [n][d], ids [n][k], scores [n][k], counts [n])."""
        rows, single = _arrays.rows(x, bank.d)
        if k < 0 or k > 1024:
            raise errors.InvalidArgument(f"k = {k}, want 1..1024")
        n, reach = len(rows), k or self.k
        out = np.empty_like(rows)
        ids, scores, counts = np.empty((n, reach), np.int64), np.empty((n, reach), np.float32), np.empty(n, np.int64)
        with Shown(progress) as hook:
            _core.refine(bank._handle, self._handle, side, rows, n, k, least, bank.filter_handle(where), recall, out, ids, scores, counts,
                         weights, hook)
        return out[0] if single else out, ids, scores, counts

    def weigh(self, bank: Bank, side: str, x: ArrayLike, *, k: int = 0, where: Union[None, str, Filter] = None) -> tuple[Ids, Floats, Floats]:
        """Return what one refined embedding consists of: (ids [m], cosines [m], weights [m+1] of the original and of each neighbour)."""
        rows, _ = _arrays.rows(x, bank.d)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} embeddings, want one")
        weights = np.empty((1, (k or self.k) + 1), np.float32)
        _, ids, scores, counts = self._refine(bank, side, rows, k, where, None, weights=weights)
        m = int(counts[0])
        return ids[0, :m], scores[0, :m], weights[0, :m + 1]


def _reopen(path: str, d: int, k: int) -> Fusion:
    return Fusion(path, d=d, k=k)


@dataclass(frozen=True)
class Compared:
    """A layer that ``layer="auto"`` trained and compared with the best layer before it."""

    layer: str
    sides: str
    pairs: int  #: that it was judged on
    clip: float  #: what CLIP scores on these
    score: float  #: what the sides it refines score
    gain: float  #: over the best before it, on the pairs that both were judged on
    error: float  #: standard error of that
    seconds: float


@dataclass(frozen=True)
class TrainReport:
    """What training found on held-out captions; recall@1 is in percent."""

    path: str
    layer: str
    pairs: int
    validation_pairs: int
    steps: int
    best_step: int
    clip: float  #: plain CLIP
    image: float  #: image side refined
    text: float  #: text side refined
    both: float
    sides: str  #: what was chosen
    mixture: Optional[Mixture]
    concat: float
    loss: float
    seconds: float
    resumed: bool
    judged: bool  #: on pairs that were given, not on captions held out
    recall: float  #: expected recall of the searches for neighbours; 1: they were exact
    compared: tuple[Compared, ...] = ()  #: with ``layer="auto"``, the layers that were trained

    @property
    def fusion(self) -> Fusion:
        """The checkpoint, opened."""
        return Fusion(self.path)

    def _table(self) -> list[tuple[str, float, bool]]:
        rows = [("CLIP", self.clip, "none"), ("image refined", self.image, "image"), ("text refined", self.text, "text"),
                ("both refined", self.both, "both")]
        return [(name, value, self.sides == side) for name, value, side in rows]

    def __str__(self) -> str:
        lines = [f"{self.layer} layer, {self.pairs} pairs ({self.validation_pairs} held out), {self.steps} steps, {self.seconds:.1f} s",
                 f"recall@1 on {'validation pairs' if self.judged else 'captions held out'}:"]
        lines += [f"  {name:<14}{value:6.1f}{'  <- refined by default' if chosen else ''}" for name, value, chosen in self._table()]
        lines += [f"  {c.layer:<14}{c.score:6.1f}, CLIP {c.clip:.1f} on the same pairs" for c in self.compared]
        if self.mixture is not None:
            m = self.mixture
            lines.append(f"mixture: CLIP {m.clip:.2g}, refined {m.refined:.2g}, vote {m.vote:.2g}")
        return "\n".join([*lines, f"written to {self.path}"])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td><td style='text-align:right'>{value:.1f}</td><td>{'refined by default' if chosen else ''}</td></tr>"
                       for name, value, chosen in self._table())
        return (f"<table><caption>{self.layer} layer, {self.pairs} pairs, recall@1 in %: {html.escape(self.path)}</caption>"
                f"{rows}</table>")


def train(bank: Bank, out: Path, *, pairs: Union[None, Bank, Path, Pairs] = None, judge: Union[None, Bank, Path] = None,
          model: Optional[Model] = None, layer: Optional[str] = None, sides: str = "auto", min_similarity: Optional[float] = None,
          log: Optional[Path] = None, recall: Optional[float] = None, exact: bool = False, progress: Progress = None,
          **options: Any) -> TrainReport:
    """Train a layer that fuses what is retrieved; the model stays frozen. An interrupted training continues when it is started again.

    Parameters
    ----------
    bank
        The memory.
    out
        The checkpoint to write.
    pairs
        What to train on. None: the bank's own rows; another bank; a folder of embeddings; or, with a model, what
        :meth:`Bank.build` takes (these pairs are embedded into the bank ``OUT.pairs``).
    judge
        A bank or folder of embeddings for validation, instead of held-out captions.
    layer
        ``"relational"``, ``"transformer"``, ``"mlp"``, ``"weighted"``, ``"mean"`` or ``"vote"``; None: by the number of pairs;
        ``"auto"``: relational, weighted and transformer are trained and compared.
    sides
        Sides to refine by default; ``"auto"``: those that are best in validation.
    recall, exact
        Recall of the searches for neighbours, as in :meth:`Bank.search`.
    options
        ``k``, ``batch``, ``steps``, ``lr``, ``weight_decay``, ``warmup``, ``clip``, ``neighbour_dropout``, ``max_similarity``,
        ``no_scores``, ``rotate``, ``heads``, ``layers``, ``hidden``, ``mlp``, ``search``, ``fuse``, ``validation``, ``scale``,
        ``seed``, ``fresh``: as in ``reco train``.
    """
    path = os.fsdecode(out)
    given = {name: int(value) if isinstance(value, bool) else value for name, value in options.items()}
    if layer is not None:
        given["layer"] = layer
    given["sides"] = sides
    given["recall"] = recall_of(recall, exact)
    if min_similarity is not None:
        given["min_similarity"] = min_similarity
    source = None if pairs is None else _pairs_of(pairs, path + ".pairs", model, progress)
    judged = None if judge is None else judge.path if isinstance(judge, Bank) else os.fsdecode(judge)
    with Shown(progress) as hook:
        made = _core.train(bank._handle, source, judged, path, given, None if log is None else os.fsdecode(log), hook)
    mixture = made.pop("mixture")
    compared = tuple(Compared(**entry) for entry in made.pop("compared"))
    made["resumed"] = bool(made["resumed"])
    return TrainReport(path=path, judged=judge is not None, recall=_core.bank_recall(bank._handle, given["recall"]), compared=compared,
                       mixture=None if mixture is None else Mixture(*mixture), **made)


def _pairs_of(pairs: Any, cache: str, model: Optional[Model], progress: Progress) -> str:
    if isinstance(pairs, Bank):
        return pairs.path
    if isinstance(pairs, (str, os.PathLike)) and os.path.isdir(pairs):
        return os.fsdecode(pairs)
    if model is None:
        raise ValueError("want a model to embed the pairs with")
    return Bank.build(cache, model=model, pairs=pairs, progress=progress).path
