"""The whole road as a scikit-learn classifier: zero-shot until `fit` is called."""

from __future__ import annotations

import os
from ast import literal_eval
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

# scikit-learn's own base classes: what `clone`, pipelines, grid search and `cross_val_score` ask an estimator for
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from cmprompt.errors import ItemError, UsageError
from cmprompt.given import (
    BLOCK,
    are_vectors,
    batch_of,
    batches_of,
    check_dim,
    check_finite,
    check_many,
    directed,
    items_of,
    scaled,
)
from cmprompt.rule import Rule
from cmprompt.types import Array, Embedded, Encoder, Features, Head, Item

if TYPE_CHECKING:
    from cmprompt.heads.zero_shot import Pool
    from cmprompt.store import Store

T = TypeVar("T")
VECTORS = "vectors"  # the model of a head that was fitted without one


class PromptClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """`PromptClassifier(["cat", "dog"]).predict(["a.jpg"])`.

    labels  a list or an array, or `{label: phrase, phrases or {"prompts": [...]}}` as a JSON label file may hold
    model   a name for `load_encoder`, or an Encoder; "auto": a saved head's own, else the best one here; None: there is
            none, X is vectors from elsewhere, and `fit` comes before `predict`
    prompts names or files of template sets, or templates that hold {}; None: photo prompts in the labels' language
    head    None: zero-shot, and `fit` fits a linear head; the directory of a saved head, or a Head, to use in place of
            the labels; or the kind of head that `fit` fits
    none    whether `predict` may answer `none_name`; it does below a label's own threshold anyhow
    store   True: the user's store, so that nothing is encoded twice; a directory or a Store; False: none

    Another parameter counts from the next call on; `labels`, `prompts`, `pool` and `head`, once fitted, from the next
    `fit` on, before which another model is refused.

    X, wherever it is asked for, is a sequence of paths (of clips too, with the extra [video]), of encoded bytes, of
    (H, W, 3) uint8 arrays, of PIL images or of `Item` (whose text a fusion such as head="concat" reads beside the
    image), or a float array (N, D) of vectors that `encoder_` has made.
    """

    def __init__(
        self,
        labels: Sequence[str] | Array | Mapping[str, object] | None = None,
        *,
        model: str | Encoder | None = "auto",
        prompts: str | Sequence[str] | None = None,
        head: str | os.PathLike[str] | Head | None = None,
        pool: Pool = "mean",
        none: bool = False,
        none_name: str = "none of these",
        device: str = "auto",
        precision: str = "auto",
        store: bool | str | os.PathLike[str] | Store = True,
    ) -> None:
        self.labels = labels
        self.model = model
        self.prompts = prompts
        self.head = head
        self.pool = pool
        self.none = none
        self.none_name = none_name
        self.device = device
        self.precision = precision
        self.store = store

    def fit(self, X: Any, y: Sequence[Any], **options: Any) -> PromptClassifier:
        """Fit a head on labelled images, from the text of the labels where these are known; keywords go to `heads.fit`.

        Without `labels` the text is the targets' own names. Its scores are calibrated on held-out rows, unless
        `calibrated=False`; nothing is judged. Raises ItemError naming the first image that fails, ValueError for one
        class alone, UsageError for another `task` than "classes".
        """
        from sklearn.utils.validation import column_or_1d

        from cmprompt.heads.fit import fit, with_tokens

        if (task := options.get("task", "classes")) != "classes":
            raise UsageError(f"task={task!r}: a classifier is for one label of several; cmprompt.fit fits the others")
        if self.model is None:
            return self._fit_vectors(X, y, options)
        check_many(X)
        targets = column_or_1d(y, warn=True)
        if len(targets) != len(X):
            raise UsageError(f"{len(X)} images and {len(targets)} targets; give one target for each image")
        values = _values(targets)
        if spaced := next((name for name in values if name != name.strip()), None):
            raise UsageError(f"target {spaced!r} has spaces around it, which no label has; strip them")
        _check_several(self._labels() or values)
        self.__dict__.pop("_head", None)  # its own towers, where it has any, are not those to start from
        start = self._start(list(values))
        needs = frozenset({"image", "text"}) if any(getattr(x, "text", None) for x in X) else frozenset({"image"})
        features, items = self._rows(X, with_tokens(self._kind(), needs))
        given = {"encoder": self.encoder_, "items": items, "calibrated": True, **start, **options}
        self._keep(fit(self._kind(), features, targets, **given), values)
        return self

    def _keep(self, head: Head, values: Mapping[str, Any]) -> None:
        """What `fit` learned: a head, and its labels as the targets have them."""
        self._classes = {label: _value(label, values) for label in head.labels}
        self._head = head

    def _start(self, names: list[str]) -> dict[str, Any]:
        """What a fit starts from: the text of the labels, else of the `names`; labels alone where no text means any."""
        from cmprompt.encoders.pair import PairEncoder
        from cmprompt.labels import label_set

        labels = self._labels() or names
        if not labels:
            return {}
        if not isinstance(self.encoder_, PairEncoder):
            return {"prior": self._zero_shot(labels)}
        return {"labels": list(label_set(labels, minimum=1).phrases)}

    def _fit_vectors(self, X: Any, y: Any, options: Mapping[str, Any]) -> PromptClassifier:
        """On (N, D) vectors of any width, without text. Raises ValueError, as scikit-learn's classifiers do."""
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import validate_data

        from cmprompt.heads.fit import fit

        rows, targets = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(targets)
        values = _values(targets)
        _check_several(values)
        x = Features.of_images(scaled(rows))
        given = {"labels": list(values), "model_id": VECTORS, "calibrated": True, **options}
        self._keep(fit(self._kind(), x, targets, **given), values)
        return self

    def _kind(self) -> str:
        """The head that `fit` fits."""
        return self.head if isinstance(self.head, str) and self._saved_head() is None else "linear"

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Keep the head in use, with towers that were trained with it: `PromptClassifier(head=directory)` has it back,
        and `cmprompt classify --head`. Raises OutputError where something is there already, or nothing can be.

        What was made without a name for `load_encoder` must be given again as model=.
        """
        from cmprompt.encoders.names import lasting_name
        from cmprompt.heads.io import model_of, read_settings, save_head
        from cmprompt.heads.tuned import Tuned, plain

        check_is_fitted(self)
        head, saved = self.head_, self._saved_head()
        record = read_settings(saved)["record"] if saved is not None and not hasattr(self, "_head") else {}
        if isinstance(self.model, str):
            name = self.model if self.model != "auto" or saved is None else model_of(saved)
            record["model"] = lasting_name(name, self.encoder_)
        towers = head.towers if isinstance(head, Tuned) else ()
        save_head(plain(head), directory, record, overwrite=overwrite, towers=towers)

    def predict(self, X: Any) -> Array:
        """(N,) labels. Raises ItemError naming the first image that fails, UsageError where one label alone would win
        whatever the image, or where a label is called as `none_name`."""
        check_is_fitted(self)
        from cmprompt.openset import vocabulary_vectors
        from cmprompt.predict import predict
        from cmprompt.scores import needs_vocabulary

        limits = self._thresholds()
        rule = Rule.parse(top_k=1, none=self.none, none_name=self.none_name, label_thresholds=limits)
        rule.check_labels(self.head_.labels)
        if are_vectors(X) and not (self.none or limits) and (weight := _plain_weight(self.head_)) is not None:
            return self._nearest(X, weight)
        vocabulary = vocabulary_vectors(self.encoder_, self._store()) if needs_vocabulary(self.head_, rule) else None
        predictions = predict(self._embedded(X, self.head_.needs), self.head_, rule, vocabulary=vocabulary)
        return self._as_given([self.none_name if p.label is None else p.label for p in predictions])

    def predict_proba(self, X: Any) -> Array:
        """(N, C) float64 probabilities, a column for each of `classes_`. Raises as `predict` does."""
        from cmprompt.scores import score

        check_is_fitted(self)
        blocks = [score(b.features, self.head_, Rule(), None) for b in self._embedded(X, self.head_.needs)]
        rows = np.concatenate([block.probability for block in blocks] or [np.zeros((0, len(self.head_.labels)))])
        return rows[:, np.argsort(self._values_of_head(), kind="stable")]

    def _nearest(self, vectors: Array, weight: Array) -> Array:
        """(N,) labels of (N, D) vectors by the largest product alone, which their lengths do not change."""
        from cmprompt.heads.ranking import best_labels

        check_dim(vectors, self.encoder_.dim)
        check_finite(vectors)
        best = best_labels(vectors, weight, 2)
        for row in np.flatnonzero(~best.products.any(axis=1)):  # zeros, or at right angles to the best two
            directed(vectors[row : row + 1], int(row))
        return self._values_of_head()[best.columns[:, 0]]

    @property
    def classes_(self) -> Array:
        """(C,) the labels, sorted as scikit-learn has it; those of a fit as they were given."""
        return np.sort(self._values_of_head(), kind="stable")

    def _values_of_head(self) -> Array:
        """(C,) the same in the order of `head_`."""
        own = self._own_classes()
        return np.array(list(own.values())) if own else np.array(self.head_.labels, dtype=np.str_)

    def _own_classes(self) -> dict[str, Any]:
        """The labels of a fit as its targets had them; nothing before one."""
        return self._classes if hasattr(self, "_head") else {}

    def _as_given(self, labels: list[str]) -> Array:
        """(N,) `labels` as the targets of a fit had them; where numbers and `none_name` may meet, of objects."""
        own, kind = self._own_classes(), self.classes_.dtype
        values = [own.get(label, label) for label in labels]
        return np.array(values, np.str_ if kind.kind == "U" else object if self.none else kind)

    @property
    def encoder_(self) -> Encoder:
        """The encoder, made at its first use; of a head that brought trained towers, the one that holds them."""
        from cmprompt.heads.tuned import Tuned

        head = getattr(self, "_head", None)
        if isinstance(head, Tuned):
            return head.encoder
        if self.model is None:
            raise UsageError("there is no model to read this with; name one by model=, or give (N, D) vectors")
        if not isinstance(self.model, str):
            return self.model
        name, saved = self.model, self._saved_head() if self.model == "auto" else None

        def load() -> Encoder:
            from cmprompt.encoders import load_encoder
            from cmprompt.heads.io import model_of

            return load_encoder(name if saved is None else model_of(saved), self.device, self.precision)

        return self._made("encoder", (name, saved, self.device, self.precision), load)

    @property
    def head_(self) -> Head:
        """The head in use: fitted, given, loaded, or built from the labels' text at its first use.

        Raises ModelError where it was given for another model, or fitted on one.
        """
        if hasattr(self, "_head"):
            self._check_fitted_on()
            return self._head
        of = (self.head, self.labels, self.prompts, self.pool, self.model, self.device, self.precision)
        return self._made("head", of, lambda: self._given_head() or self._zero_shot(self._labels()))

    def _check_fitted_on(self) -> None:
        """Raises ModelError where `model` is no longer the one that the head was fitted on."""
        from cmprompt.heads.io import check_model

        if self.model is not None or self._head.model_id != VECTORS:
            check_model(self._head, self.encoder_, type(self._head).__name__, "call fit again")

    def _made(self, name: str, of: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` gives, once for the same objects `of`."""
        kept: dict[str, tuple[tuple[object, ...], Any]] = self.__dict__.setdefault("_kept", {})
        if name not in kept or any(one is not other for one, other in zip(kept[name][0], of, strict=True)):
            kept[name] = of, make()
        value: T = kept[name][1]
        return value

    def _saved_head(self) -> str | os.PathLike[str] | None:
        """The directory that `head` names, if it does."""
        return self.head if isinstance(self.head, str | os.PathLike) and os.path.isdir(self.head) else None

    def _labels(self) -> Sequence[str] | Mapping[str, object] | None:
        """`labels`, as a list where they are an array or a column of a table."""
        labels: Any = self.labels
        return labels.tolist() if hasattr(labels, "tolist") else labels  # type: ignore[no-any-return]

    def _thresholds(self) -> dict[str, str]:
        """The labels' own, which are for zero-shot: a head that was fitted or given has other scores."""
        from cmprompt.labels import label_set

        if self.head is not None or hasattr(self, "_head") or not isinstance(self.labels, Mapping):
            return {}
        return label_set(self.labels, minimum=1).thresholds

    def __sklearn_is_fitted__(self) -> bool:
        return self.model is not None or hasattr(self, "_head")  # zero-shot needs no fitting

    def __sklearn_clone__(self) -> PromptClassifier:
        return type(self)(**self.get_params(deep=False))  # a model or a store that was given is one for all copies

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: the parameters, a Store as its directory, and what `fit` learned."""
        from cmprompt.store import Store

        state = {name: value for name, value in super().__getstate__().items() if name != "_kept"}
        return {**state, "store": self.store.path} if isinstance(self.store, Store) else state

    def _given_head(self) -> Head | None:
        if self.head is None:
            return None
        from cmprompt.heads.io import check_model, is_multi_label, load_head

        head, name = self.head, type(self.head).__name__
        if isinstance(head, str | os.PathLike):
            name = os.fspath(head)
            if not os.path.isdir(head):
                raise UsageError(f"head {name!r} is no directory of a saved head; if it is a kind, call fit first")
            if is_multi_label(head):
                raise UsageError(f"head {name!r} gives several labels at once; cmprompt classify --head has them")
            head = load_head(head)
        if not head.labels:
            raise UsageError(f"head {name!r} gives numbers, no labels; cmprompt classify --head has them")
        if self._labels():
            raise UsageError(f"head {name!r} brings its own labels; leave labels out")
        check_model(head, self.encoder_, name, "name the head's own by model=")
        return head

    def _zero_shot(self, labels: Sequence[str] | Mapping[str, object] | None) -> Head:
        from cmprompt.heads.zero_shot import zero_shot
        from cmprompt.labels import label_set
        from cmprompt.prompts import choose_sets, expand

        if not labels:
            raise UsageError('no labels; PromptClassifier(["cat", "dog"]) names them')
        named = label_set(labels, minimum=1)
        given = [self.prompts] if isinstance(self.prompts, str) else list(self.prompts or ())
        sets = [text for text in given if "{}" not in text]
        prompts = expand(named, choose_sets(sets, [text for text in given if "{}" in text], named))
        return zero_shot(self.encoder_, prompts, pool=self.pool, store=self._store())

    def _store(self) -> Store | None:
        from cmprompt.store import Store, open_store

        given = self.store
        if isinstance(given, Store):
            return given
        if isinstance(given, bool):
            return self._made("store", (given,), open_store) if given else None
        return self._made("store", (given,), lambda: Store(given))

    def _rows(self, X: Any, needs: frozenset[str]) -> tuple[Features, list[Item]]:
        """The vectors of X and its items; no items of what is vectors already. Raises as `_embedded` does."""
        batches = list(self._embedded(X, needs))
        if not batches:
            raise UsageError("X is empty; there is nothing to fit on")
        items = [] if are_vectors(X) else [item for batch in batches for item in batch.items]
        return Features.joined([batch.features for batch in batches]), items

    def _embedded(self, X: Any, needs: frozenset[str]) -> Iterator[Embedded]:
        """X as batches of vectors. Raises ItemError at the first that failed."""
        if self.model is None:
            from sklearn.utils.validation import validate_data

            rows = scaled(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))
            yield from (batch_of(rows[at : at + BLOCK], at) for at in range(0, len(rows), BLOCK))
            return
        if are_vectors(X):
            yield from batches_of(X, self.encoder_.dim)
            return
        from cmprompt.clips import pooled, with_frames
        from cmprompt.embed import embed

        check_many(X)
        for batch in pooled(embed(with_frames(items_of(X)), self.encoder_, self._store(), needs=needs)):
            for item, outcome in zip(batch.items, batch.outcomes, strict=True):
                if outcome.status != "ok":
                    raise ItemError(outcome.status, f"{item.id}: {outcome.status}: {outcome.error}")
            yield batch


def _values(targets: Array) -> dict[str, Any]:
    """The values of (N,) targets by their names, in their own order."""
    try:
        return {str(value): value for value in np.unique(targets)}
    except TypeError as error:  # None among names, say
        raise UsageError("targets of more than one type; give texts or numbers throughout") from error


def _check_several(classes: Collection[str]) -> None:
    """Raises ValueError for one alone, as scikit-learn's classifiers do."""
    if len(classes) == 1:
        raise ValueError(f"only one class, {next(iter(classes))!r}; a classifier needs two to tell apart")


def _value(label: str, values: Mapping[str, Any]) -> Any:
    """What targets with these `values` would have for a label, though none has it."""
    if label in values or any(isinstance(value, str) for value in values.values()):
        return values.get(label, label)
    try:
        return literal_eval(label)
    except (ValueError, SyntaxError) as error:
        raise UsageError(f"label {label!r} is no number, and the targets are: {', '.join(values)}") from error


def _plain_weight(head: Head) -> Array | None:
    """(C, D) of a head that is a product with text vectors and nothing more, or None."""
    from cmprompt.heads.linear import LinearHead

    return head.weight if isinstance(head, LinearHead) and head.text_built else None
