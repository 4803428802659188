"""`linear`: a linear head fitted to labelled rows; from text where there is text, from nothing otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.logistic import Loss, huber_loss, minimise, sigmoid_loss, softmax_loss, span_of
from cmprompt.heads.training import Training, choose, held_out_loss
from cmprompt.types import Array

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)  # scikit-learn's C, on unit vectors
STRENGTHS_FROM_TEXT = (0.0, 10.0, 100.0, 1000.0, 10000.0)  # 0 stays at the closed-form start
COLD_STRENGTH = 10.0  # where nothing can be held out to choose by
LP_ALPHA = 250.0  # LP++ (Huang et al., CVPR 2024), equation 10
TOO_BOLD = 1.2  # times the least held-out loss: a weaker penalty yet would only be worse
HUBER_DELTA = 1.35  # standard deviations; 95 % efficient on normal residuals (Huber 1981)

Plane = tuple[Array, Array]  # weight (K, D), bias (K,)


def fit_linear(data: Training, *, strength: float | None = None) -> LinearHead:
    """The probe of `data.use`. `strength` is scikit-learn's C, chosen on held-out folds when not given."""
    start = text_start(data)
    candidates = (strength,) if strength is not None else STRENGTHS if start is None else STRENGTHS_FROM_TEXT

    def score(train: Training, held: Training) -> list[Array]:
        return held_out_path(train, held, candidates)

    default = COLD_STRENGTH if start is None and strength is None else None
    best = choose(data, candidates, score, default=default)
    data.record["C"] = best
    weight, bias = next(_path(data, (best,)))
    scale = data.prior.scale if data.prior is not None and data.use == "image" else 1.0
    head = LinearHead(weight / np.float32(scale), data.labels, data.model_id, scale, bias)
    return replace(head, needs=frozenset({data.use}))


def held_out_path(train: Training, held: Training, strengths: tuple[float, ...]) -> list[Array]:
    """The (N,) held-out losses at each strength; infinite beyond one that is much worse than the best before it."""
    losses: list[Array] = []
    least = np.inf
    for weight, bias in _path(train, strengths):
        losses.append(held_out_loss(held.x @ weight.T + bias, held))
        mean = float(losses[-1].mean())
        if mean > TOO_BOLD * least:
            break
        least = min(least, mean)
    return losses + [np.full(len(held), np.inf)] * (len(strengths) - len(losses))


def fit_on_text(data: Training, *, strength: float | None = None) -> LinearHead:
    """The same of the texts, whatever modality is in use. Raises UsageError where there are none."""
    if data.features.text is None:
        raise UsageError("--head linear-text reads texts, and there are none in this data")
    return fit_linear(replace(data, use="text"), strength=strength)


def text_start(data: Training) -> Array | None:
    """(C, D) LP++'s closed form `scale * (t_k + s_k / alpha)`, or None where the text says nothing about the labels.

    `s_k` stands for the sum of class k's supports: their mean times the mean number of supports, so that a class with
    more rows is not louder. alpha = 250 times the mean cosine of a support with its own label.
    """
    if data.prior is None or data.use != "image" or data.task == "regression":
        return None
    text = data.prior.weight
    if data.task == "multi_label":
        return np.float32(data.prior.scale) * text
    own = float(np.mean(np.sum(data.supports * text[data.targets], axis=1)))
    sums, counts = class_sums(data.supports, data.targets, len(text))
    mean_count = counts[counts > 0].mean()
    supports = sums / np.maximum(counts, 1)[:, None] * mean_count  # (C, D)
    start: Array = data.prior.scale * (text + supports / (LP_ALPHA * max(own, 0.01)))
    return start.astype(np.float32)


def class_sums(x: Array, target: Array, n_classes: int) -> tuple[Array, Array]:
    """(C, D) sums of the rows of each class, and (C,) how many they are."""
    member = np.zeros((n_classes, len(x)), np.float32)
    member[target, np.arange(len(x))] = 1.0
    return member @ x, member.sum(1)


def _path(data: Training, strengths: tuple[float, ...]) -> Iterator[Plane]:
    """The optimum at each strength."""
    if data.task == "regression":
        return _regression_path(data, strengths)
    start = text_start(data)
    if data.task == "classes":
        loss = softmax_loss(data.targets, len(data.labels))
        if len(data.labels) == 2 and start is None:
            strengths = tuple(strength / 2 for strength in strengths)  # scikit-learn has one row, not two to keep small
    else:
        loss = sigmoid_loss(data.targets)
    return _warm_path(data, loss, strengths, start)


def _regression_path(data: Training, strengths: tuple[float, ...]) -> Iterator[Plane]:
    """Fitted to standardised targets, given in the targets' own units."""
    mean, deviation = data.targets.mean(), data.targets.std() or np.float32(1.0)
    loss = huber_loss((data.targets - mean) / deviation, np.inf if data.squared else HUBER_DELTA)
    return ((weight * deviation, bias * deviation + mean) for weight, bias in _warm_path(data, loss, strengths, None))


def _warm_path(data: Training, loss: Loss, strengths: tuple[float, ...], anchor: Array | None) -> Iterator[Plane]:
    """Each begun where the last one ended. Strength 0 is the anchor itself."""
    x = data.supports
    zero = np.zeros((loss.outputs, x.shape[1]), np.float32) if anchor is None else anchor
    prior = None if anchor is None else data.prior
    last = zero, np.zeros(loss.outputs, np.float32) if prior is None else prior.offset
    axes = span_of(x)
    for strength in strengths:
        if strength:
            last = minimise(x, loss, strength=strength, weights=data.row_weights, anchor=anchor, start=last, axes=axes)
        yield last
