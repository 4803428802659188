"""Temperature: make a head's probabilities mean what they say, by scikit-learn's calibration (Guo et al. 2017)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from cmprompt import metrics
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.tuned import Tuned
from cmprompt.types import Array, Head

# Beyond these the rows were answered no better than by chance, or are too few and too alike to tell.
LIMITS = 1 / 32, 32.0


def temperature_of(logits: Array, target: Array) -> float:
    """The T at which softmax(logits / T) has the least loss on held-out rows, within LIMITS; (N, C) and (N,) int.

    Scores become sharper only as far as one mistake more would still have it, spread over all rows and each time the
    likeliest wrong label: (N + 1) of (N + 2) right where none was wrong, as in Platt (1999). Without that, rows without
    a mistake would make every score one. 1 where the rows hold fewer than two classes, which say nothing about it.
    """
    if len(np.unique(target)) < 2:
        return 1.0
    flatter = _least_loss(logits, target, 0.0)
    return flatter if flatter >= 1 else min(1.0, _least_loss(logits, target, 1 / (len(target) + 2)))


def _least_loss(logits: Array, target: Array, doubt: float) -> float:
    """The T where a share `doubt` of each row's weight is its likeliest wrong label's."""
    from sklearn.calibration import CalibratedClassifierCV

    n, c = logits.shape
    logits = logits.astype(np.float64)
    wrong = np.where(np.arange(c) == target[:, None], -np.inf, logits).argmax(1)
    # A row without weight for each class, so that scikit-learn counts the columns as we do when some class has no rows.
    rows = np.concatenate([logits, logits, np.zeros((c, c))])
    targets = np.concatenate([target, wrong, np.arange(c)])
    weights = np.repeat([1 - doubt, doubt, 0.0], [n, n, c])
    everything = np.arange(len(rows))
    calibrated = CalibratedClassifierCV(
        _as_they_are(), method="temperature", cv=[(everything, everything)], ensemble=False
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # many labels are no numbers
        calibrated.fit(rows, targets, sample_weight=weights)
    inverse = float(calibrated.calibrated_classifiers_[0].calibrators[0].beta_)
    return float(np.clip(1.0 / inverse, *LIMITS))


def calibration(logits: Array, target: Array) -> dict[str, float]:
    """The temperature that held-out rows choose, and their expected calibration error before and after it."""
    temperature = temperature_of(logits, target)
    before, after = (
        metrics.expected_calibration_error(metrics.softmax(logits / t), target) for t in (1.0, temperature)
    )
    return {"temperature": temperature, "ece_before": before, "ece_after": after}


def cooled(head: Head, temperature: float) -> Head:
    """`head` with its logits divided by `temperature`."""
    if isinstance(head, LinearHead):
        bias = None if head.bias is None else (head.bias / np.float32(temperature)).astype(np.float32)
        return replace(head, scale=head.scale / temperature, bias=bias)
    if isinstance(head, Tuned):
        return replace(head, head=cooled(head.head, temperature))
    changed: Any = head
    colder: Head = replace(changed, temperature=changed.temperature * temperature)
    return colder


def _as_they_are() -> Any:
    """A scikit-learn classifier that takes logits for its input and says just them."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Logits(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
        def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Logits:
            self.classes_ = np.unique(y)
            return self

        def predict(self, X: Array) -> Array:
            return np.asarray(X.argmax(1))

        def decision_function(self, X: Array) -> Array:
            return X if X.shape[1] > 2 else (X[:, 1] - X[:, 0]) / 2  # scikit-learn reads one column as (-x, x)

    return Logits()
