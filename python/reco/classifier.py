"""Zero-shot classification with a memory, with scikit-learn's methods."""

from __future__ import annotations

import base64
import html
import inspect
from dataclasses import dataclass
from typing import Any, Iterable, Optional, Sequence, Union

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _core, _images
from ._arrays import Floats, Ids
from .bank import Bank, Filter, Row, recall_of
from .fusion import Fusion, Mixture
from .model import Model, _all_good

_OFF = Mixture(0, 0, 0, 0, 0, 0)  # no mixture: the refined cosines decide
_CLIP = Mixture(1, 0, 0, 0, 0, 0)  # CLIP alone, at its own scale
_COSINES = Mixture(0, 1, 0, 0, 0, 0)  # the refined cosines alone


@dataclass(frozen=True)
class Neighbour:
    """A row that took part in an answer."""

    row: Row
    score: float  #: cosine that it was retrieved with
    weight: float  #: its share of the refined embedding


@dataclass(frozen=True)
class Explanation:
    """The reasons for an answer. In a notebook it shows itself."""

    label: Any  #: the answer
    clip: list[tuple[Any, float]]  #: the best classes by CLIP alone, and their probabilities
    reco: list[tuple[Any, float]]  #: the same with the memory
    image: list[Neighbour]  #: what the picture retrieved
    text: list[Neighbour]  #: what the prompts of the answer retrieved
    picture: Optional[bytes] = None

    def __str__(self) -> str:
        def best(rows: list[tuple[Any, float]]) -> str:
            return ", ".join(f"{name} {100 * p:.1f}%" for name, p in rows)

        def found(rows: list[Neighbour]) -> str:
            return ", ".join(f"{n.row.caption} ({n.score:.2f})" for n in rows)

        lines = [f"clip  {best(self.clip)}", f"reco  {best(self.reco)}"]
        lines += [f"{side} like {found(rows)}" for side, rows in (("image", self.image), ("text", self.text)) if rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
            cells = "".join(f"<tr><td>{html.escape(a)}</td><td style='text-align:right'>{b}</td></tr>" for a, b in rows)
            return f"<table style='display:inline-table;vertical-align:top;margin-right:2em'><caption>{title}</caption>{cells}</table>"

        def classes(rows: list[tuple[Any, float]]) -> Iterable[tuple[str, str]]:
            return ((str(name), f"{100 * p:.1f} %") for name, p in rows)

        def neighbours(rows: list[Neighbour]) -> Iterable[tuple[str, str]]:
            return ((n.row.caption, f"{n.score:.2f} &times; {n.weight:.2f}") for n in rows)

        parts = [table("CLIP", classes(self.clip)), table("with the memory", classes(self.reco))]
        if self.image:
            parts.append(table("the picture retrieved", neighbours(self.image)))
        if self.text:
            parts.append(table("the answer's prompts retrieved", neighbours(self.text)))
        if self.picture is not None:
            kind = "png" if self.picture.startswith(b"\x89PNG") else "jpeg"
            parts.insert(0, f"<img style='max-width:160px;vertical-align:top;margin-right:2em' "
                            f"src='data:image/{kind};base64,{base64.b64encode(self.picture).decode()}'>")
        return f"<div>{''.join(parts)}</div>"


class Classifier:
    """Names pictures: CLIP's zero-shot classifier, refined with a bank and ranked by the layer's mixture.

    Parameters
    ----------
    model, bank, fusion
        What to classify with; without bank and fusion the classifier is plain CLIP.
    classes
        Names [c]. None: :meth:`fit` takes them from y.
    templates
        Prompts with ``{}`` for the name; none: the name alone.
    refine
        ``"auto"``: the sides that training chose; ``"image"``, ``"text"``, ``"both"`` or ``"none"``.
    mixture
        ``"auto"``: the mixture that training chose; ``"off"``: rank by cosines; or a :class:`~reco.fusion.Mixture`.
    k
        Number of neighbours; 0: the layer's own.
    where
        Retrieve only rows of the bank for which this condition is true.
    recall, exact
        Recall of the searches in the memory, as in :meth:`Bank.search`; ``settings_`` has what can be expected.
    merge
        Treat names that mean one class (the tokenizer gives them the same tokens) as one class; otherwise they are an error.

    ``X`` is a list of pictures (as :meth:`Model.encode_image` takes them) or their embeddings, float [n][d]. A picture that cannot be read is
    an error, since every input needs an answer.
    """

    _estimator_type = "classifier"

    def __init__(self, model: Optional[Model] = None, bank: Optional[Bank] = None, fusion: Optional[Fusion] = None,
                 classes: Optional[Sequence[Any]] = None, templates: Optional[Sequence[str]] = None, *, refine: str = "auto",
                 mixture: Any = "auto", k: int = 0, where: Union[None, str, Filter] = None, recall: Optional[float] = None,
                 exact: bool = False, merge: bool = False) -> None:
        self.model = model
        self.bank = bank
        self.fusion = fusion
        self.classes = classes
        self.templates = templates
        self.refine = refine
        self.mixture = mixture
        self.k = k
        self.where = where
        self.recall = recall
        self.exact = exact
        self.merge = merge

    # ---- scikit-learn's manners ----

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> "Classifier":
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise ValueError(f"Invalid parameter {name!r} for estimator {self!r}. Valid parameters are: {list(_PARAMETERS)!r}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = [f"{n}={v!r}" for n, v in self.get_params().items() if not _is_default(n, v) and n != "classes"]
        if self.classes is not None:
            given.append(f"classes=[{len(self.classes)}]")
        return f"Classifier({', '.join(given)})"

    def __sklearn_clone__(self) -> "Classifier":
        return Classifier(**self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_handle")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(estimator_type="classifier", target_tags=TargetTags(required=False), classifier_tags=ClassifierTags(),
                    input_tags=InputTags(two_d_array=False, string=True), requires_fit=False)

    def fit(self, X: Any = None, y: Optional[Sequence[Any]] = None) -> "Classifier":
        """Embed the classes: those given, else the distinct values of y. Nothing is learned from X, which is not read."""
        if self.model is None:
            raise ValueError("want a model")
        if self.classes is None and y is None:
            raise ValueError("This Classifier requires y to be passed, but the target y is None: want classes or y")
        labels = np.asarray(list(self.classes)) if self.classes is not None else np.unique(np.asarray(y))
        handle, names, of = _core.classes_open([str(label) for label in labels], self.model._handle, self.merge)
        _core.check_encoder(self.model._handle, self.bank and self.bank._handle, self.fusion and self.fusion._handle)
        if (self.bank is None) != (self.fusion is None):
            raise ValueError("want both bank and fusion")
        if self.refine not in ("auto", "none", "image", "text", "both"):
            raise ValueError(f"refine = {self.refine!r}, want auto, none, image, text or both")
        if not isinstance(self.mixture, tuple) and self.mixture not in ("auto", "off"):
            raise ValueError(f"mixture = {self.mixture!r}, want auto, off or a Mixture")
        #: [c] classes, in the order of the columns of predict_proba
        self.classes_ = labels[[of.index(i) for i in range(len(names))]]
        self.n_features_in_ = self.model.d
        given = None if self.mixture == "auto" else _OFF if self.mixture == "off" else Mixture(*self.mixture)
        rows = self.bank.filter_handle(self.where) if self.bank is not None else None
        recall = recall_of(self.recall, self.exact)
        #: truncated_: prompts that are longer than the model's context
        self._handle, self.truncated_ = _core.classifier_create(
            handle, self.model._handle, list(self.templates or ()), self.bank and self.bank._handle, self.fusion and self.fusion._handle,
            self.k, None, rows, recall, self.refine, given, None)
        #: what the parameters come to: sides that are refined, k, voters, mixture, recall (1: searches are exact)
        self.settings_: dict[str, Any] = _core.classifier_settings(self._handle)
        self.settings_["recall"] = 1.0 if self.bank is None else _core.bank_recall(self.bank._handle, recall)
        return self

    def _fitted(self) -> "Classifier":
        if not hasattr(self, "_handle"):
            self.fit()
        return self

    # ---- answers ----

    def _embeddings(self, X: Any) -> Floats:
        assert self.model is not None
        if not _images.is_one(X) or getattr(X, "ndim", 0) == 2:
            a = X if hasattr(X, "ndim") else np.asarray(X) if len(X) and isinstance(X[0], (list, tuple)) else None
            if a is not None and a.ndim == 2 and getattr(a.dtype, "kind", "f") == "f":
                return _arrays.rows(a, self.model.d)[0]
        if isinstance(X, np.ndarray) and X.dtype.kind in "OU":
            X = X.reshape(-1).tolist()
        return np.asarray(_all_good(self.model.encode_image(X)))

    def _ask(self, x: Floats, by: Optional[Mixture] = None) -> tuple[Floats, list[tuple[int, float]]]:
        """Return (probabilities [n][c], neighbours of the first picture)."""
        p = np.empty((len(x), len(self.classes_)), np.float32)
        return p, _core.classifier_ask(self._handle, x, len(x), by, p, None, None, None)

    def decision_function(self, X: Any) -> Floats:
        """Return the refined cosines [n][c]."""
        x = self._fitted()._embeddings(X)
        order, cosines = np.empty((len(x), len(self.classes_)), np.int64), np.empty((len(x), len(self.classes_)), np.float32)
        _core.classifier_ask(self._handle, x, len(x), _COSINES, None, order, cosines, None)
        out = np.empty_like(cosines)
        np.put_along_axis(out, order, cosines, axis=1)
        return out

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities [n][c]: the mixture's, or the softmax of the refined cosines at CLIP's own scale."""
        return self._fitted()._ask(self._embeddings(X))[0]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each picture [n]."""
        answers: NDArray[Any] = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[answers])

    def score(self, X: Any, y: Sequence[Any], sample_weight: Optional[Any] = None) -> float:
        """Return the accuracy, 0..1."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def explain(self, image: Any, *, top: int = 5) -> Explanation:
        """Explain why a picture (or its embedding [d]) gets its name."""
        self._fitted()
        assert self.model is not None
        is_vector = getattr(image, "ndim", 0) == 1 and getattr(image.dtype, "kind", "f") == "f"
        x = _arrays.rows(image, self.model.d)[0] if is_vector else self._embeddings([image])
        p, found = self._ask(x)
        clip, _ = self._ask(x, _CLIP)
        best = int(p[0].argmax())
        seen: list[Neighbour] = []
        read: list[Neighbour] = []
        if self.fusion is not None and self.bank is not None:
            k, sides = self.settings_["k"], self.settings_["sides"]
            if sides in ("image", "both"):
                seen = self._rows(*self.fusion.weigh(self.bank, "image", x[0], k=self.k, where=self.where))
            else:
                rows = self.bank.rows(_arrays.ids([i for i, _ in found[:k]]))
                seen = [Neighbour(row, score, 0.0) for row, (_, score) in zip(rows, found)]
            if sides in ("text", "both"):
                ids, scores, weights = np.empty(k, np.int64), np.empty(k, np.float32), np.empty(k + 1, np.float32)
                n = _core.classifier_neighbours(self._handle, best, k, ids, scores, weights)
                read = self._rows(ids[:n], scores[:n], weights[:n + 1])
        return Explanation(self.classes_[best].item(), self._best(clip[0], top), self._best(p[0], top), seen, read,
                           None if is_vector else _picture(image))

    def _best(self, p: Floats, top: int) -> list[tuple[Any, float]]:
        return [(self.classes_[i].item(), float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]

    def _rows(self, ids: Ids, scores: Floats, weights: Floats) -> list[Neighbour]:
        assert self.bank is not None
        return [Neighbour(row, float(s), float(w)) for row, s, w in zip(self.bank.rows(ids), scores, weights[1:])]


_PARAMETERS = tuple(name for name in inspect.signature(Classifier.__init__).parameters if name != "self")


def _is_default(name: str, value: Any) -> bool:
    default = inspect.signature(Classifier.__init__).parameters[name].default
    return value is default or (isinstance(value, (str, int, bool)) and value == default)


def _picture(image: Any) -> Optional[bytes]:
    """Return the picture's file, for a notebook; None if it is not available."""
    try:
        item = _images.item_of(image)
        if isinstance(item, str):
            with open(item, "rb") as file:
                item = file.read()
        if isinstance(item, bytes):
            return item
        import io

        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(item).save(buffer, "PNG")
        return buffer.getvalue()
    except (ImportError, OSError):
        return None
