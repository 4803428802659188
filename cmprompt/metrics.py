"""Pure functions from scores and targets to numbers; numpy only.

`scores` (N, C) are any ranking scores, `probabilities` (N, C) rows that sum to one, `predicted` and `target` (N,) class
numbers. Names and conventions follow scikit-learn, so that a figure here is the figure there.
"""

from __future__ import annotations

import numpy as np

from cmprompt.types import Array

DECIDED = 0.5  # the probability from which a label of many counts as given


def accuracy_at_k(scores: Array, target: Array, k: int = 1) -> float:
    """The part of rows whose target is among the k best scores; of equal scores the first label wins, as in argmax."""
    return float(is_among_best(scores, target, k).mean())


def is_among_best(scores: Array, target: Array, k: int) -> Array:
    """(N,) bool, of which `accuracy_at_k` is the mean."""
    own = np.take_along_axis(scores, target[:, None], axis=1)  # (N, 1)
    better = (~(scores <= own)).sum(1)  # NaN is beaten by all
    before = ((scores == own) & (np.arange(scores.shape[1]) < target[:, None])).sum(1)
    found: Array = better + before < k
    return found


def confusion(predicted: Array, target: Array, n_classes: int) -> Array:
    """(C, C) int64 counts: rows are the true class, columns the predicted one."""
    cells = np.bincount(target * n_classes + predicted, minlength=n_classes * n_classes)
    matrix: Array = cells.reshape(n_classes, n_classes)
    return matrix


def mistakes(predicted: Array, target: Array, n_classes: int, most: int) -> list[tuple[int, int, int]]:
    """(true class, answer, how often) of the most frequent mistakes, the first class first among equals."""
    wrong = predicted != target
    cells, counts = np.unique(target[wrong] * n_classes + predicted[wrong], return_counts=True)  # places in `confusion`
    places = np.argsort(-counts, kind="stable")[:most]
    pairs = zip(cells[places].tolist(), counts[places].tolist(), strict=True)
    return [(*divmod(cell, n_classes), times) for cell, times in pairs]


def per_class(predicted: Array, target: Array, n_classes: int) -> dict[str, Array]:
    """(C,) precision, recall, f1 and support of each class; what has no rows to divide by is 0, as in scikit-learn."""
    groups = target[predicted == target], predicted, target
    return _shares(*(np.bincount(group, minlength=n_classes) for group in groups))


def accuracy(predicted: Array, target: Array) -> float:
    """The part of rows that are right."""
    return float((predicted == target).mean())


def balanced_accuracy(predicted: Array, target: Array) -> float:
    """Mean recall over the classes that occur in `target` (scikit-learn's balanced_accuracy_score)."""
    support = np.bincount(target)
    hits = np.bincount(target[predicted == target], minlength=len(support))
    return float(ratio(hits, support)[support > 0].mean())


def macro(predicted: Array, target: Array, n_classes: int) -> dict[str, float]:
    """Macro precision, recall and F1 over the classes that occur in `target` or `predicted`, as scikit-learn has it."""
    table = per_class(predicted, target, n_classes)
    seen = np.union1d(predicted, target)
    return {name: float(table[name][seen].mean()) for name in ("precision", "recall", "f1")}


def selective(decided: Array, target: Array | int) -> dict[str, float]:
    """The part of rows that are answered (`decided` (N,) is not -1), and the accuracy among these; NaN without any."""
    given = decided >= 0
    right = (decided == target)[given]
    return {"coverage": float(given.mean()), "answered": float(right.mean()) if len(right) else float("nan")}


def expected_calibration_error(probabilities: Array, target: Array, bins: int = 15) -> float:
    """ECE of the top label over equal-width bins (Guo et al. 2017, equation 3)."""
    gaps = [
        abs(part["accuracy"] - part["confidence"]) * part["share"] for part in reliability(probabilities, target, bins)
    ]
    return float(sum(gaps))


def reliability(probabilities: Array, target: Array, bins: int = 15) -> list[dict[str, float]]:
    """The reliability diagram: for each bin that is not empty its share of rows, mean confidence and accuracy."""
    confidence = probabilities.max(1)  # (N,)
    right = probabilities.argmax(1) == target  # (N,)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # a bin is open below, closed above
    return [
        {
            "low": b / bins,
            "share": float((place == b).mean()),
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in np.unique(place).tolist()
    ]


def average_precision(scores: Array, relevant: Array) -> float:
    """Area under the precision-recall steps; `scores` (N,), `relevant` (N,) bool. NaN where nothing is relevant."""
    if not relevant.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(relevant[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores are one step
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: Array, relevant: Array) -> float:
    """mAP: average precision of each label, over the labels that occur. `scores`, `relevant` (N, C)."""
    columns = [average_precision(scores[:, c], relevant[:, c]) for c in range(scores.shape[1]) if relevant[:, c].any()]
    return float(np.mean(columns))


def multi_label(probabilities: Array, relevant: Array) -> dict[str, float]:
    """Every figure of the verdict's table for rows of many labels: (N, C) probabilities, (N, C) bool."""
    decided = probabilities >= DECIDED
    return {"map": mean_average_precision(probabilities, relevant), **multi_label_f1(decided, relevant)}


def multi_label_f1(decided: Array, relevant: Array) -> dict[str, float]:
    """Macro precision, recall and F1 and exact match of (N, C) bool decisions, as scikit-learn has them."""
    table = per_label(decided, relevant)
    means = {name: float(table[name].mean()) for name in ("precision", "recall", "f1")}
    return {**means, "exact_match": float((decided == relevant).all(1).mean())}


def per_label(decided: Array, relevant: Array) -> dict[str, Array]:
    """(C,) precision, recall, f1 and support of each label of (N, C) bool decisions; 0 where nothing divides."""
    return _shares((decided & relevant).sum(0), decided.sum(0), relevant.sum(0))


def regression(predicted: Array, target: Array) -> dict[str, float]:
    """MAE, RMSE, R2 and Spearman's rank correlation of (N,) numbers."""
    error = predicted.astype(np.float64) - target
    spread = float(np.sum((target - target.mean()) ** 2))
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1.0 - float(np.sum(error**2)) / spread if spread else float("nan"),
        "spearman": spearman(predicted, target),
    }


def spearman(a: Array, b: Array) -> float:
    """Rank correlation with ties at their mean rank; NaN where one side is constant."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / size) if size else float("nan")


def softmax(logits: Array) -> Array:
    """(N, C) rows that sum to one, float64 so that the sums are exact enough to compare."""
    rows: Array = logits.astype(np.float64)
    rows -= logits.max(1, keepdims=True)
    np.exp(rows, out=rows)
    rows /= rows.sum(1, keepdims=True)
    return rows


def classification(probabilities: Array, target: Array) -> dict[str, float]:
    """Every figure of the verdict's table for one-of-N rows."""
    n_classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    return {
        "accuracy": accuracy(predicted, target),
        "balanced_accuracy": balanced_accuracy(predicted, target),
        **macro(predicted, target, n_classes),
        "top5": accuracy_at_k(probabilities, target, 5),
        "ece": expected_calibration_error(probabilities, target),
    }


def _shares(hits: Array, claimed: Array, support: Array) -> dict[str, Array]:
    precision, recall = ratio(hits, claimed), ratio(hits, support)
    return {"precision": precision, "recall": recall, "f1": ratio(2 * hits, support + claimed), "support": support}


def ratio(top: Array, bottom: Array) -> Array:
    """top / bottom, of one shape, and 0 where the bottom is 0; floats stay as wide as they are."""
    quotient: Array = np.divide(top, bottom, out=np.zeros(top.shape, np.result_type(top, 0.0)), where=bottom != 0)
    return quotient


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    ranks: Array = (upper - (counts - 1) / 2)[inverse]
    return ranks
