"""How the figures of a table are named and written, on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cmprompt.heads.verdict import Row

NAMES = {
    "accuracy": "acc", "balanced_accuracy": "bal acc", "precision": "prec", "recall": "recall", "f1": "F1",
    "top5": "top-5", "ece": "ECE", "mae": "MAE", "rmse": "RMSE", "r2": "R2", "spearman": "Spearman",
    "map": "mAP", "exact_match": "exact",
}  # fmt: skip
COLUMN = 15  # characters at least, so that tables of the same figures look alike
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


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """The rows of one table for a terminal, each figure under its name."""
    names = list(rows[0].figures)
    columns = [[name_of(name), *(text_of(row, name) for row in rows)] for name in names]
    widths = [max(COLUMN, *map(len, column)) for column in columns]
    first = max(len(row.name) for row in rows)
    for name, *cells in zip(["", *(row.name for row in rows)], *columns, strict=True):
        yield " ".join([f"{name:<{first}}", *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])


def plain_rows(rows: Sequence[Row]) -> list[Mapping[str, object]]:
    """The table as JSON; fractions are not in per cent."""
    return [{"name": row.name, "figures": row.figures, "intervals": row.intervals} for row in rows]
