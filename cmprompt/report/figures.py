"""How the figures of a table are named and written, on a terminal and on a page."""

from __future__ import annotations

from cmprompt.heads.verdict import Row

NAMES = {
    "accuracy": "acc", "balanced_accuracy": "bal acc", "precision": "prec", "recall": "recall", "f1": "F1",
    "top5": "top-5", "ece": "ECE", "mae": "MAE", "rmse": "RMSE", "r2": "R2", "spearman": "Spearman",
    "map": "mAP", "exact_match": "exact",
}  # fmt: skip
PLAIN = ("mae", "rmse", "r2", "spearman")  # the others are fractions


def name_of(figure: str) -> str:
    """What stands above its column."""
    return NAMES.get(figure, figure)


def text_of(row: Row, figure: str) -> str:
    """Its value, fractions in per cent, with half the width of its 95 % interval."""
    value, ends = row.figures[figure], row.intervals.get(figure)
    if figure in PLAIN:
        return f"{value:.4g}" if ends is None else f"{value:.4g} ±{(ends[1] - ends[0]) / 2:.2g}"
    return f"{100 * value:.1f}" if ends is None else f"{100 * value:.1f} ±{50 * (ends[1] - ends[0]):.1f}"
