"""Vectors -> decisions: one prediction for every item, in order, failures included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.product import Grid, on_grid
from cmprompt.rule import Rule, Unit
from cmprompt.scores import (
    Scores,
    add_up,
    best_first,
    level_labels,
    logits_by_row,
    needs_vocabulary,
    none_limits,
    score,
)
from cmprompt.types import Array, Embedded, Head, Item, Outcome, Prediction

SCORES_AT_ONCE = 1 << 22  # of rows by labels: several arrays of so many numbers are held


def predict(
    embedded: Iterable[Embedded], head: Head, rule: Rule | None = None, *, vocabulary: Array | Grid | None = None
) -> Iterator[Prediction]:
    """Decide each item by `rule` (default: softmax, the five best). Yields in input order.

    `vocabulary` (V, D): `openset.vocabulary_vectors`, where `needs_vocabulary(head, rule)` says so; on its grid
    where it serves many calls.
    Raises UsageError for a rule that this head cannot follow.
    """
    rule = rule or Rule()
    if not head.labels:
        yield from _regress(embedded, head)
        return
    if needs_vocabulary(head, rule) and vocabulary is None:
        raise UsageError(
            "this rule standardises against the everyday vocabulary; pass vocabulary=vocabulary_vectors(...)"
        )
    labels, groups = level_labels(head.labels, rule.level)
    judge = _Judge(labels, rule, _limits(labels, rule))
    words = on_grid(vocabulary) if isinstance(vocabulary, np.ndarray) else vocabulary
    most = max(1, SCORES_AT_ONCE // len(head.labels))
    for batch in (part for whole in embedded for part in _parts(whole, most)):
        if not any(outcome.status == "ok" for outcome in batch.outcomes):
            yield from (_failure(*pair) for pair in zip(batch.items, batch.outcomes, strict=True))
            continue
        scores = add_up(score(batch.features, head, rule, words), groups, rule)
        yield from judge.decide(batch, scores)


def _parts(batch: Embedded, most: int) -> Iterator[Embedded]:
    """The batch, `most` rows of it at a time."""
    if len(batch.items) <= most:
        yield batch
        return
    for start in range(0, len(batch.items), most):
        rows = slice(start, start + most)
        yield Embedded(batch.items[rows], batch.outcomes[rows], batch.features.take(rows))


@dataclass(frozen=True)
class _Judge:
    """What stays the same from batch to batch: C labels, the rule, and the limits each label must reach."""

    labels: tuple[str, ...]
    rule: Rule
    limits: dict[Unit, Array]  # unit -> (C,), -inf where that unit does not bind

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the columns of the probabilities stand for; none-of-these, where it has one, is the last."""
        return (*self.labels, self.rule.none_name)

    @cached_property
    def none_limits(self) -> Array:
        """(C,) the z that one label at least must reach, lest the answer be none of them."""
        return none_limits(self.labels, self.rule)

    def decide(self, batch: Embedded, scores: Scores) -> Iterator[Prediction]:
        """One prediction for each item of `batch`; scores has its N rows."""
        width = scores.probability.shape[1]
        shown = max(self.rule.top_k or width, 2)  # the margin needs two
        order = best_first(scores.probability, min(width, shown))  # (N, K)
        values = np.take_along_axis(scores.probability, order, axis=1)
        passed = self._passed(scores)  # (N, C)
        for row, (item, outcome) in enumerate(zip(batch.items, batch.outcomes, strict=True)):
            if outcome.status != "ok":
                yield _failure(item, outcome)
            elif not scores.finite[row]:
                yield Prediction(item, "nan", "the model gave numbers that are not finite", outcome.flags)
            else:
                ranked = list(zip(order[row].tolist(), values[row].tolist(), strict=True))
                yield self._judge(item, outcome.flags, scores, row, ranked, passed[row])

    def _judge(
        self,
        item: Item,
        flags: tuple[str, ...],
        scores: Scores,
        row: int,
        ranked: list[tuple[int, float]],
        passed: Array,
    ) -> Prediction:
        """`ranked`: the best columns with their probabilities, two of them at least where there are two."""
        margin = ranked[0][1] - ranked[1][1] if len(ranked) > 1 else None
        close = self.rule.min_margin is not None and margin is not None and margin < self.rule.min_margin
        nothing = self._is_none(scores, row, ranked[0][0])
        label, probability = self._label(scores, row, ranked[0], passed, nothing)
        several: tuple[str, ...] | None = None
        if self.rule.kind == "sigmoid":
            several = () if close or nothing else self._labels(scores, row, passed)
        return Prediction(
            item,
            flags=flags,
            label=None if close else label,
            score=probability,
            cosine=self._cosine(scores, row, ranked[0][0]),
            margin=margin,
            top=tuple((self.names[column], value) for column, value in ranked[: self.rule.top_k]),
            labels=several,
        )

    def _is_none(self, scores: Scores, row: int, winner: int) -> bool:
        """Whether the answer is none of the labels."""
        far = self.rule.none and scores.z is not None and bool((scores.z[row] < self.none_limits).all())
        return far or winner == len(self.labels)

    def _label(
        self, scores: Scores, row: int, best: tuple[int, float], passed: Array, nothing: bool
    ) -> tuple[str | None, float]:
        """The answer and its probability; that of none-of-these under sigmoid is what the best label leaves."""
        column, probability = best
        if nothing:
            rest = 1.0 - probability if self.rule.kind == "sigmoid" else float(scores.probability[row, -1])
            return self.rule.none_name, rest
        return self.labels[column] if passed[column] else None, probability

    def _cosine(self, scores: Scores, row: int, winner: int) -> float | None:
        """The winner's cosine; the best label's where none of these won."""
        if scores.cosine is None:
            return None
        cosines = scores.cosine[row]
        return float(cosines.max() if winner == len(self.labels) else cosines[winner])

    def _labels(self, scores: Scores, row: int, passed: Array) -> tuple[str, ...]:
        """The labels that reached their limits, best first."""
        columns = np.flatnonzero(passed)
        order = np.argsort(-scores.probability[row, columns], kind="stable")
        return tuple(self.labels[column] for column in columns[order])

    def _passed(self, scores: Scores) -> Array:
        """(N, C) bool: which labels reach their limits."""
        passed = scores.probability[:, : len(self.labels)] >= self.limits["p"]
        if scores.cosine is not None:
            passed &= scores.cosine >= self.limits["cos"]
        if scores.z is not None:
            passed &= scores.z >= self.limits["z"]
        return passed


def _limits(labels: tuple[str, ...], rule: Rule) -> dict[Unit, Array]:
    """For each unit, what each of the C labels must reach."""
    thresholds = [rule.of_label(label) for label in labels]
    units: tuple[Unit, ...] = ("p", "z", "cos")
    return {unit: np.array([t.value if t and t.unit == unit else -np.inf for t in thresholds]) for unit in units}


def _failure(item: Item, outcome: Outcome) -> Prediction:
    return Prediction(item, outcome.status, outcome.error, outcome.flags)


def _regress(embedded: Iterable[Embedded], head: Head) -> Iterator[Prediction]:
    """A regression head's one number for each item."""
    for batch in embedded:
        values = logits_by_row(head, batch.features)[:, 0]  # (N,)
        for item, outcome, value in zip(batch.items, batch.outcomes, values.tolist(), strict=True):
            if outcome.status != "ok":
                yield _failure(item, outcome)
            elif not np.isfinite(value):
                yield Prediction(item, "nan", "the model gave a number that is not finite", outcome.flags)
            else:
                yield Prediction(item, flags=outcome.flags, value=value)
