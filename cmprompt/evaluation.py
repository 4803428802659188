"""Heads set beside each other on one labelled set: figures, paired comparisons, the classes and pairs that go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cmprompt import metrics
from cmprompt.errors import UsageError
from cmprompt.heads.answers import answers
from cmprompt.heads.training import Task
from cmprompt.heads.verdict import Row, bootstrap_counts, paired, table_of
from cmprompt.index.exact import nearest
from cmprompt.labelled import Labelled
from cmprompt.types import Array, Features, Head

RETRIEVED = (1, 5, 10)


@dataclass(frozen=True)
class Contest:
    """N rows answered by every contender. `answers`: (N, C) probabilities over `labels`, or (N,) numbers; `target`
    (N,) class numbers, (N, C) of 0 and 1 for multi-label, or (N,) numbers."""

    labels: tuple[str, ...]
    target: Array
    answers: dict[str, Array]
    table: list[Row]


def contest(
    data: Labelled,
    contenders: Mapping[str, tuple[Head, Features]],
    *,
    vocabularies: Mapping[str, Array | None] | None = None,
    seed: int = 0,
) -> Contest:
    """Score every head on its own vectors of the same rows.

    A label that a head does not have is never its answer. `vocabularies`: (V, D) for the contenders that
    `answers.wants_vocabulary` names. Raises UsageError when no head has some row's label, or when a head of numbers
    meets labels.
    """
    labels = _all_labels(data, [head for head, _ in contenders.values()])
    target = _targets(data, labels)
    task: Task = "multi_label" if data.multi_label else "classes" if labels else "regression"
    words = vocabularies or {}
    found = {name: _spread(answers(h, x, task, words.get(name)), h, labels) for name, (h, x) in contenders.items()}
    return Contest(labels, target, found, table_of(found, target, seed=seed))


def _targets(data: Labelled, labels: tuple[str, ...]) -> Array:
    if data.numbers is not None:
        return data.numbers
    return data.marks(labels) if data.multi_label else data.class_numbers(labels)


def comparisons(found: Contest, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Of every contender after the first: is it better than the first? See `verdict.paired`."""
    first, *others = found.answers
    return {name: paired(found.answers[first], found.answers[name], found.target, seed=seed) for name in others}


def confused_pairs(found: Contest, name: str, most: int = 10) -> list[tuple[str, str, int]]:
    """(true label, answer, how often) of the most frequent mistakes of one contender."""
    table = metrics.confusion(found.answers[name].argmax(1), found.target, len(found.labels))
    np.fill_diagonal(table, 0)
    order = np.argsort(-table, axis=None, kind="stable")[:most]
    places = [(int(place) // len(table), int(place) % len(table)) for place in order]
    return [(found.labels[a], found.labels[b], int(table[a, b])) for a, b in places if table[a, b]]


def retrieval(data: Labelled, features: Features, *, seed: int = 0) -> list[Row]:
    """Image-text R@1/5/10 both ways, ranked as `search` ranks. Rows with the same picture are one with several texts.

    Raises UsageError where there are not both.
    """
    if features.image is None or features.text is None:
        raise UsageError(
            "retrieval needs a picture and a text in each row; name the columns by --image-col, --text-col"
        )
    here = np.flatnonzero(features.has_image & features.has_text)
    pictures = _same(features.image[here])
    _, first = np.unique(pictures, return_index=True)
    images, texts = features.image[here][first], features.text[here]
    owns = pictures[None, :] == pictures[first][:, None]  # (images, texts)
    return [
        _retrieval_row("image to text", nearest(images, texts, RETRIEVED[-1]).rows, owns, seed),
        _retrieval_row("text to image", nearest(texts, images, RETRIEVED[-1]).rows, owns.T, seed),
    ]


def _retrieval_row(name: str, ranked: Array, relevant: Array, seed: int) -> Row:
    counts = bootstrap_counts(len(ranked), 1000, seed)
    figures, intervals = {}, {}
    for k in RETRIEVED:
        hit = metrics.hits_at_k(ranked, relevant, k)
        low, high = np.percentile(counts @ hit / len(hit), (2.5, 97.5)).tolist()
        figures[f"R@{k}"], intervals[f"R@{k}"] = float(hit.mean()), (low, high)
    return Row(name, figures, intervals)


def class_lines(found: Contest, name: str) -> Iterator[str]:
    """The per-class table of one contender, the worst class first."""
    rows, truth = found.answers[name], found.target
    table = (
        metrics.per_label(rows >= metrics.DECIDED, truth > 0)
        if truth.ndim == 2
        else metrics.per_class(rows.argmax(1), truth, len(found.labels))
    )
    width = max(map(len, found.labels))
    yield f"{'label':<{width}} {'rows':>6} {'prec':>6} {'recall':>6} {'F1':>6}"
    for c in np.argsort(table["f1"], kind="stable").tolist():
        if table["support"][c]:
            cells = " ".join(f"{100 * table[figure][c]:6.1f}" for figure in ("precision", "recall", "f1"))
            yield f"{found.labels[c]:<{width}} {int(table['support'][c]):6} {cells}"


def _all_labels(data: Labelled, heads: Sequence[Head]) -> tuple[str, ...]:
    """The labels of all heads, the first one's first. Raises UsageError where numbers meet labels."""
    if data.numbers is not None:
        if any(head.labels for head in heads):
            raise UsageError("a head with labels cannot be measured on numbers; leave --task regression out")
        return ()
    if not all(head.labels for head in heads):
        raise UsageError("a head of numbers is measured with --task regression")
    return tuple(dict.fromkeys(label for head in heads for label in head.labels))


def _spread(rows: Array, head: Head, labels: tuple[str, ...]) -> Array:
    """A head's answers in the columns of all `labels`."""
    if not labels:
        return rows
    wide = np.zeros((len(rows), len(labels)))
    wide[:, [labels.index(label) for label in head.labels]] = rows
    return wide


def _same(rows: Array) -> Array:
    """(N,) numbers, equal where rows are."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows])
