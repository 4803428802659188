"""Logits -> probabilities, cosines and z of the labels that are shown. Every row is computed by itself, so that the
numbers do not depend on how rows fall into batches: arrays stay C-contiguous and sums run along the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.labels import first_parts
from cmprompt.metrics import softmax
from cmprompt.openset import DEFAULT_Z, moments, standardise
from cmprompt.product import Grid
from cmprompt.rule import Rule
from cmprompt.types import Array, Features, Head


class TextHead(Head, Protocol):
    """A head whose rows are text vectors: it has cosines, which a vocabulary can standardise."""

    @property
    def text_built(self) -> bool:
        """True."""
        ...

    @property
    def scale(self) -> float:
        """The model's logit scale."""
        ...

    @property
    def bias(self) -> Array | None:
        """(C,) the model's logit bias, where it has one."""
        ...

    def cosines(self, features: Features) -> Array:
        """(N, C) raw similarities."""
        ...

    def scaled(self, cosines: Array) -> Array:
        """(N, C) similarities -> logits."""
        ...


@dataclass(frozen=True)
class Scores:
    """N rows over C shown labels; with none-of-these under softmax its probability is one more column, the last."""

    probability: Array  # (N, C) or (N, C + 1) float64
    cosine: Array | None  # (N, C) float32
    z: Array | None  # (N, C) float64
    finite: Array  # (N,) bool; the other rows mean nothing


def is_text_head(head: Head) -> TypeGuard[TextHead]:
    """Whether z and cosines mean something for `head`."""
    return bool(getattr(head, "text_built", False))


def needs_vocabulary(head: Head, rule: Rule) -> bool:
    """Whether `predict` wants the vectors of the everyday vocabulary. Raises UsageError where they could not help."""
    if not head.labels:  # a number is no label, and nothing is asked of it
        return False
    asked = rule.none or "z" in rule.units
    if (asked or "cos" in rule.units) and not is_text_head(head):
        raise UsageError(
            "this head was fitted on examples and has no cosines; --none, --threshold z:... and cos:... need a head "
            "built from prompts; use a probability, such as --threshold 0.6"
        )
    return asked or (rule.kind == "sigmoid" and is_text_head(head) and head.bias is None)


def score(features: Features, head: Head, rule: Rule, vocabulary: Array | Grid | None) -> Scores:
    """Scores of the head's own labels, C of them, for each of N rows.

    Sigmoid takes the model's own bias. A model without one is calibrated by the vocabulary: the bias of each image is
    the one that puts probability 0.5 at z = `openset.DEFAULT_Z`, p = sigmoid(scale * (cos - m - z * s)). None-of-these
    is, under softmax, one more class: as far below the best label as the label with the most to spare is above its
    limit, so that it wins just where none reaches its own. Under one limit for all its cosine is m + z * s.
    """
    if not is_text_head(head):
        logits, finite = _finite(logits_by_row(head, features).astype(np.float64))
        return Scores(_probabilities(logits, rule), None, None, finite)
    cosines, finite = _finite(head.cosines(features))  # (N, C)
    logits = head.scaled(cosines).astype(np.float64)
    if not needs_vocabulary(head, rule):
        return Scores(_probabilities(logits, rule), cosines, None, finite)
    assert vocabulary is not None and features.image is not None
    images = np.where(finite[:, None], features.image, 0)
    mean, deviation = moments(images, vocabulary)
    z = standardise(cosines, mean, deviation)
    if rule.kind == "sigmoid" and head.bias is None:
        logits = head.scale * (cosines - (mean + DEFAULT_Z * deviation)[:, None])
    elif rule.kind == "softmax" and rule.none:
        bias = 0.0 if head.bias is None else float(np.mean(head.bias))
        spare = (z - none_limits(head.labels, rule)).max(axis=1)  # (N,)
        nothing = head.scale * (cosines.max(axis=1) - spare * deviation) + bias  # (N,)
        logits = np.concatenate([logits, nothing[:, None]], axis=1)  # (N, C + 1)
    return Scores(_probabilities(logits, rule), cosines, z, finite)


def logits_by_row(head: Head, features: Features) -> Array:
    """(N, C) logits that do not depend on the other rows: one at a time, unless the head says `rows_independent`."""
    if getattr(head, "rows_independent", False):
        return head.logits(features)
    return np.concatenate([head.logits(features.take(slice(row, row + 1))) for row in range(len(features))])


def none_limits(labels: Sequence[str], rule: Rule) -> Array:
    """(C,) the z that each label must reach to fit: its own, else the one for all, else the default."""
    own = [rule.label_thresholds.get(label) for label in labels]
    common = rule.threshold.value if rule.threshold and rule.threshold.unit == "z" else DEFAULT_Z
    return np.array([t.value if t and t.unit == "z" else common for t in own])


def _finite(values: Array) -> tuple[Array, Array]:
    """(N, C) with rows that hold NaN or infinity set to zero, and (N,) which rows were whole."""
    finite: Array = np.all(np.isfinite(values), axis=1)
    return np.where(finite[:, None], values, 0), finite


def _probabilities(logits: Array, rule: Rule) -> Array:
    """(N, C) float64 logits -> probabilities, without overflow."""
    if rule.kind == "sigmoid":
        tail = np.exp(-np.abs(logits))
        result: Array = np.where(logits >= 0, 1.0, tail) / (1.0 + tail)
        return result
    return softmax(logits)


def level_labels(labels: tuple[str, ...], level: int | None) -> tuple[tuple[str, ...], Array | None]:
    """The labels shown at `level` in order of first appearance, and (C,) which of them each label belongs to.

    Parts are split at `/`; a label with fewer parts than `level` stays as it is. Without a level, (labels, None).
    """
    if level is None:
        return labels, None
    parents = [first_parts(label, level) for label in labels]
    shown = tuple(dict.fromkeys(parents))
    place = {label: index for index, label in enumerate(shown)}
    return shown, np.array([place[parent] for parent in parents])


def add_up(scores: Scores, groups: Array | None, rule: Rule) -> Scores:
    """Scores of labels -> scores of the labels above them: probabilities add up, cosines and z are the best below.

    Under sigmoid, where labels do not exclude each other, the probability is the best below too.
    """
    if groups is None:
        return scores
    order = np.argsort(groups, kind="stable")  # (C,)
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 1))
    count = len(groups)
    join = np.add if rule.kind == "softmax" else np.maximum
    leaves = np.ascontiguousarray(scores.probability[:, order])
    probability = np.concatenate([join.reduceat(leaves, starts, axis=1), scores.probability[:, count:]], axis=1)

    def best(values: Array | None) -> Array | None:
        return None if values is None else np.maximum.reduceat(values[:, order], starts, axis=1)

    return Scores(probability, best(scores.cosine), best(scores.z), scores.finite)


def best_first(scores: Array, count: int) -> Array:
    """(N, C) -> (N, count) indices of the highest, best first, equal ones in label order; no full sort of C."""
    width = scores.shape[1]
    if count >= width:
        return np.argsort(-scores, axis=1, kind="stable")
    limit = np.partition(scores, width - count, axis=1)[:, width - count, None]  # (N, 1) the count-th highest
    above, equal = scores > limit, scores == limit
    room = count - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    candidates = np.nonzero(chosen)[1].reshape(len(scores), count)  # in label order
    order = np.argsort(-np.take_along_axis(scores, candidates, axis=1), axis=1, kind="stable")
    return np.take_along_axis(candidates, order, axis=1)
