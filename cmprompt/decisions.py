"""Answers under a rule that may withhold them, and what they are worth: how many there are, how many are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np

from cmprompt import metrics
from cmprompt.heads.verdict import DRAWS, Row, bootstrap, decision_draws, intervals
from cmprompt.predict import SCORES_AT_ONCE, predict
from cmprompt.rule import Rule
from cmprompt.types import Array, Embedded, Features, Head, Item, Outcome, Prediction

ROWS_AT_ONCE = 4096  # each is compared with every word of the vocabulary


def decides(rule: Rule) -> bool:
    """Whether it may withhold the best label or, for multi-label, has limits of its own."""
    return bool(rule.threshold or rule.label_thresholds or rule.none or rule.min_margin is not None)


def answered(
    items: Sequence[Item], features: Features, head: Head, rule: Rule, vocabulary: Array | None = None
) -> Iterator[Prediction]:
    """What `classify` answers to N items whose vectors are known. `vocabulary` and errors as in `predict`."""
    rest = iter(items)
    batches = (Embedded(tuple(islice(rest, len(x))), (Outcome(),) * len(x), x) for x in parts_of(features, head))
    return predict(batches, head, rule, vocabulary=vocabulary)


def parts_of(features: Features, head: Head) -> Iterator[Features]:
    """The rows in order, at most `ROWS_AT_ONCE` of them together, and fewer where `head` has many labels."""
    size = min(ROWS_AT_ONCE, max(1, SCORES_AT_ONCE // max(1, len(head.labels))))
    for start in range(0, len(features), size):
        yield features.take(slice(start, start + size))


def decided(predictions: Iterable[Prediction], labels: Sequence[str], rule: Rule) -> Array:
    """(N,) places among the C `labels`, -1 where no label was given, none-of-these among them; under sigmoid (N, C)
    bool."""
    place = {label: column for column, label in enumerate(labels)}
    if rule.kind == "softmax":
        nothing = (None, rule.none_name) if rule.none else (None,)
        return np.array([-1 if found.label in nothing else place[found.label or ""] for found in predictions], np.int64)
    given = [[place[label] for label in found.labels or ()] for found in predictions]
    marks = np.zeros((len(given), len(labels)), bool)
    for row, columns in enumerate(given):
        marks[row, columns] = True
    return marks


def figures_of(given: Mapping[str, Array], target: Array, *, seed: int = 0, draws: int = DRAWS) -> list[Row]:
    """A row for each set of decisions, with 95 % intervals: coverage and accuracy of what was answered or, of (N, C)
    decisions, precision, recall, F1 and exact match."""
    many = target.ndim == 2
    truth = target > 0 if many else target
    drawn_of, figures = (decision_draws, metrics.multi_label_f1) if many else (_selective_draws, metrics.selective)
    measures = {name: partial(drawn_of, rows, truth) for name, rows in given.items()}
    drawn = bootstrap(measures, len(target), seed=seed, draws=draws, width=target.shape[-1])
    return [Row(name, figures(rows, truth), intervals(drawn[name])) for name, rows in given.items()]


def _selective_draws(rows: Array, target: Array, counts: Array) -> dict[str, Array]:
    """(B,) draws of every figure of `metrics.selective`."""
    given, right = counts @ (rows >= 0), counts @ (rows == target)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"coverage": given / len(target), "answered": right / given}
