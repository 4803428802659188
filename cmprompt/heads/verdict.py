"""Is the head better than what was there before? Paired bootstrap draws of the rows that judge, and the rule.

Every candidate answers the same rows; each draw takes as many rows with replacement, the same ones for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from cmprompt import metrics
from cmprompt.types import Array

DRAWS = 1000
DRAWN_AT_ONCE = 1 << 22  # rows, or columns of a table, of all draws that are held together
RANKED_AT_ONCE = 1 << 20  # rows of all draws whose ranks are held together
NAMES = {"map": "mAP", "balanced_accuracy": "balanced accuracy"}
NEEDED = 0.95  # the part of draws in which the floor (majority class, mean) must be beaten

Measure = Callable[[Array], dict[str, Array]]  # (B, N) how often each row is drawn -> (B,) draws of every figure


@dataclass(frozen=True)
class Row:
    """One line of the table: figures on the rows that judge, and the (low, high) ends of their 95 % intervals."""

    name: str
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Verdict:
    """Whether the head is kept, and the sentences that say why (not)."""

    kept: bool
    reasons: tuple[str, ...]


def judge(
    answers: Mapping[str, Array], target: Array, chosen: str, floor: str, *, seed: int = 0, draws: int = DRAWS
) -> tuple[list[Row], Verdict]:
    """The table and the verdict on `chosen`.

    `answers` maps each name to its (N, C) probabilities, or (N,) numbers for regression; `target` (N,) class numbers,
    (N, C) of 0 and 1 for multi-label, or (N,) numbers. `floor` is the majority class, the label frequencies or the
    mean. The rest are baselines.
    """
    drawn = _drawn(answers, target, seed, draws)
    better = {name: _gain(found) for name, found in drawn.items()}
    return _table(answers, target, drawn), rule(
        better, chosen, floor, figure=_deciding_figure(next(iter(drawn.values())))
    )


def table_of(answers: Mapping[str, Array], target: Array, *, seed: int = 0, draws: int = DRAWS) -> list[Row]:
    """The table alone."""
    return _table(answers, target, _drawn(answers, target, seed, draws))


def _table(answers: Mapping[str, Array], target: Array, drawn: Mapping[str, Mapping[str, Array]]) -> list[Row]:
    return [Row(name, _figures(rows, target), intervals(drawn[name])) for name, rows in answers.items()]


def _drawn(answers: Mapping[str, Array], target: Array, seed: int, draws: int) -> dict[str, dict[str, Array]]:
    """(B,) draws of every figure of every candidate."""
    measures = {name: _measure(rows, target) for name, rows in answers.items()}
    width = max(rows.shape[-1] for rows in answers.values())
    return bootstrap(measures, len(target), seed=seed, draws=draws, width=width)


def _measure(rows: Array, target: Array) -> Measure:
    if target.ndim == 2:
        return partial(_label_draws, rows, target)
    if target.dtype.kind == "f":
        return partial(_number_draws, rows, target)
    in_top = metrics.is_among_best(rows, target, 5)
    return partial(_class_draws, rows.shape[1], target, rows.argmax(1), rows.max(1), in_top)


def _gain(drawn: Mapping[str, Array]) -> Array:
    """(B,) draws of the figure that decides, good when it is high: -RMSE, mAP or balanced accuracy."""
    figure = _deciding_figure(drawn)
    return -drawn["rmse"] if figure == "rmse" else drawn[figure]


def _deciding_figure(drawn: Mapping[str, Array]) -> str:
    """The name of the figure that decides."""
    return next(figure for figure in ("rmse", "map", "balanced_accuracy") if figure in drawn)


def rule(better: Mapping[str, Array], chosen: str, floor: str, *, figure: str = "balanced_accuracy") -> Verdict:
    """`better` maps each name to its (B,) draws of `figure`, turned so that it is good when it is high.

    Kept only when `chosen` is above the floor in at least 95 % of the draws and the median of its paired differences
    from every other baseline is above zero: a tie is refused.
    """
    reasons, kept = [], True
    share = float(np.mean(better[chosen] > better[floor]))
    kept &= share >= NEEDED
    reasons.append(f"better than the {floor} in {share:.1%} of the draws (at least {NEEDED:.0%} are needed)")
    for name, draws in better.items():
        if name not in (chosen, floor):
            gap = float(np.median(better[chosen] - draws))
            kept &= gap > 0
            word = "better than" if gap > 0 else "no better than" if gap == 0 else "worse than"
            amount = (
                f"{abs(gap):.4g} of RMSE" if figure == "rmse" else f"{100 * abs(gap):.1f} points of {NAMES[figure]}"
            )
            reasons.append(f"{word} {name} by {amount} at the median")
    return Verdict(bool(kept), tuple(reasons))


def paired(a: Array, b: Array, target: Array, *, seed: int = 0, draws: int = DRAWS) -> dict[str, float]:
    """Is `b` better than `a`? The median difference of balanced accuracy (for numbers of -RMSE, for multi-label of
    mAP), its 95 % interval, and the part of draws in which b is ahead."""
    drawn = _drawn({"a": a, "b": b}, target, seed, draws)
    gap = _gain(drawn["b"]) - _gain(drawn["a"])
    low, median, high = np.percentile(gap, (2.5, 50, 97.5)).tolist()
    return {"difference": median, "low": low, "high": high, "ahead": float(np.mean(gap > 0))}


def bootstrap(
    measures: Mapping[str, Measure], n: int, *, seed: int, draws: int = DRAWS, width: int = 0
) -> dict[str, dict[str, Array]]:
    """(B,) draws of every figure of each measure, which has tables `width` wide; the same draws of N rows for all."""
    parts = [
        {name: measure(counts) for name, measure in measures.items()}
        for counts in bootstrap_counts(n, draws, seed, width)
    ]

    def joined(name: str) -> dict[str, Array]:
        return {figure: np.concatenate([part[name][figure] for part in parts]) for figure in parts[0][name]}

    return {name: joined(name) for name in measures}


def bootstrap_counts(n: int, draws: int, seed: int, width: int = 0) -> Iterator[Array]:
    """(b, N) float32: how often each row is in each draw of N rows, as many draws at once as fit N or `width` wide."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // max(n, width))
    for start in range(0, draws, step):
        counts = np.empty((min(step, draws - start), n), np.float32)
        for row in counts:
            row[:] = np.bincount(rng.integers(0, n, n), minlength=n)
        yield counts


def majority(target: Array, train_target: Array, n_classes: int) -> Array:
    """(N, C) probabilities of one answer to everything: how frequent each class is among the training rows."""
    shares = np.bincount(train_target, minlength=n_classes) / len(train_target)
    rows: Array = np.tile(shares, (len(target), 1))
    return rows


def _figures(rows: Array, target: Array) -> dict[str, float]:
    if target.ndim == 2:
        return metrics.multi_label(rows, target > 0)
    return metrics.regression(rows, target) if target.dtype.kind == "f" else metrics.classification(rows, target)


def intervals(drawn: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """The (low, high) ends of the middle 95 % of each figure's (B,) draws; none for one that no draw has (all NaN)."""
    ends = {
        name: np.nanpercentile(draws, (2.5, 97.5)).tolist()
        for name, draws in drawn.items()
        if not np.isnan(draws).all()
    }
    return {name: (low, high) for name, (low, high) in ends.items()}


def _class_draws(
    c: int, target: Array, predicted: Array, confidence: Array, in_top: Array, counts: Array
) -> dict[str, Array]:
    """(B,) draws of every figure of `metrics.classification`, from what it takes of each row's probabilities."""
    n, right = len(target), predicted == target
    support, claimed = _of_each(counts, target, c), _of_each(counts, predicted, c)  # (B, C)
    hits = _of_each(counts * right, target, c)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = hits / support, hits / claimed
        f1 = 2 * hits / (support + claimed)
    seen = (support + claimed) > 0
    return {
        "accuracy": hits.sum(1) / n,
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "precision": _mean_where(precision, seen),
        "recall": _mean_where(recall, seen),
        "f1": _mean_where(f1, seen),
        "top5": counts @ in_top / n,
        "ece": _ece_draws(confidence, right, counts),
    }


def _label_draws(probabilities: Array, target: Array, counts: Array) -> dict[str, Array]:
    """(B,) draws of every figure of `metrics.multi_label`."""
    relevant, decided = target > 0, probabilities >= metrics.DECIDED
    return {
        "map": _precision_draws(probabilities, relevant, counts),
        **decision_draws(decided, relevant, counts),
    }


def decision_draws(decided: Array, relevant: Array, counts: Array) -> dict[str, Array]:
    """(B,) draws of every figure of `metrics.multi_label_f1`; (N, C) bool, (N, C) bool, (B, N)."""
    support, claimed = (counts @ marks.astype(np.float32) for marks in (relevant, decided))  # (B, C)
    hits = counts @ (relevant & decided).astype(np.float32)
    return {
        "precision": metrics.ratio(hits, claimed).mean(1),
        "recall": metrics.ratio(hits, support).mean(1),
        "f1": metrics.ratio(2 * hits, support + claimed).mean(1),
        "exact_match": counts @ (relevant == decided).all(1) / len(relevant),
    }


def _precision_draws(scores: Array, relevant: Array, counts: Array) -> Array:
    """(B,) mAP over the labels that each draw has; equal scores are one step, as in `metrics.average_precision`."""
    total, labels = np.zeros(len(counts)), np.zeros(len(counts))
    for column in range(scores.shape[1]):
        order = np.argsort(-scores[:, column], kind="stable")
        ranked, weight = scores[order, column], counts[:, order]  # (N,), (B, N)
        end = np.searchsorted(-ranked, -ranked, side="right") - 1  # (N,) the last row with the same score
        own = weight * relevant[order, column]
        precision = metrics.ratio(np.cumsum(own, 1), np.cumsum(weight, 1))[:, end]
        rows = own.sum(1)
        total += metrics.ratio((own * precision).sum(1), rows)
        labels += rows > 0
    return metrics.ratio(total, labels)


def _number_draws(predicted: Array, target: Array, counts: Array) -> dict[str, Array]:
    """(B,) draws of every figure of `metrics.regression`; R2 is NaN where a draw holds one number only."""
    error, n = predicted.astype(np.float64) - target, len(target)
    centred = target.astype(np.float64) - target.mean()
    spread = counts @ centred**2 / n - (counts @ centred / n) ** 2
    squared = counts @ error**2 / n
    varied = spread > 1e-9 * max(float((centred**2).mean()), 1e-300)
    r2 = np.where(varied, 1 - squared / np.where(varied, spread, 1), np.nan)
    figures = {"mae": counts @ np.abs(error) / n, "rmse": np.sqrt(squared), "r2": r2}
    return {**figures, "spearman": _spearman_draws(predicted, target, counts)}


def _spearman_draws(a: Array, b: Array, counts: Array) -> Array:
    """(B,) rank correlations, NaN where one side of a draw is constant; a few draws at a time, to bound the memory."""
    step = max(1, RANKED_AT_ONCE // counts.shape[1])
    parts = [_spearman(a, b, counts[start : start + step]) for start in range(0, len(counts), step)]
    return np.concatenate(parts)


def _spearman(a: Array, b: Array, counts: Array) -> Array:
    """The correlation of the ranks, each row as often as it was drawn."""
    x, y = _drawn_ranks(a, counts), _drawn_ranks(b, counts)  # (B, N)
    size = np.sqrt((counts * x**2).sum(1) * (counts * y**2).sum(1))
    found: Array = np.divide((counts * x * y).sum(1), size, out=np.full(len(counts), np.nan), where=size > 0)
    return found


def _drawn_ranks(values: Array, counts: Array) -> Array:
    """(B, N) float64 ranks less their mean; equal values, the copies of a row among them, share their mean rank."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    upto = np.cumsum(counts[:, order], axis=1, dtype=np.float64)
    first, last = (np.searchsorted(ranked, ranked, side=side) for side in ("left", "right"))
    below = np.concatenate([np.zeros((len(counts), 1)), upto], axis=1)  # before each place, and behind the last
    ranks = np.empty(counts.shape)
    ranks[:, order] = (below[:, first] + below[:, last] - counts.shape[1]) / 2
    return ranks


def _ece_draws(confidence: Array, right: Array, counts: Array, bins: int = 15) -> Array:
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    marks = np.eye(bins, dtype=np.float32)[place]  # (N, bins)
    gaps: Array = np.abs(counts @ (marks * (right - confidence)[:, None])).sum(1) / counts.shape[1]
    return gaps


def _of_each(counts: Array, numbers: Array, size: int) -> Array:
    """(B, C) how often rows of each class were drawn; `numbers` (N,) the class of each row."""
    from scipy.sparse import csr_array

    marks = csr_array((np.ones(len(numbers), np.float32), numbers, np.arange(len(numbers) + 1)), (len(numbers), size))
    return np.ascontiguousarray(counts @ marks)


def _mean_where(values: Array, seen: Array) -> Array:
    """(B,) means of (B, C) over the classes that occur, what cannot be divided counting 0 as in scikit-learn."""
    means: Array = np.where(seen, np.nan_to_num(values), 0).sum(1) / seen.sum(1)
    return means
