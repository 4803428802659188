"""Small charts as SVG text, for the report: curves and points, nothing to load and nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]


def curves(lines: Mapping[str, Sequence[float | None]], caption: str) -> str:
    """Values at 1, 2, 3, ..., scaled together; `lines` maps a colour to its values, None where it has none."""
    every = [value for line in lines.values() for value in line if value is not None]
    low, size = min(every), (max(every) - min(every)) or 1.0
    placed = {
        colour: [(i / max(1, len(line) - 1), (y - low) / size) for i, y in enumerate(line) if y is not None]
        for colour, line in lines.items()
    }
    return _frame(_polylines(placed), f"{caption}; from {low:.4g} to {low + size:.4g}")


def polylines(lines: Mapping[str, Points], caption: str) -> str:
    """Lines through points in the unit square, each marked."""
    dots = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        for colour, points in lines.items()
        for x, y in map(_place, points)
    )
    return _frame([*_polylines(lines), *dots], caption)


def scatter(points: Points, caption: str) -> str:
    """Points with both axes on one scale, and the diagonal."""
    every = [value for point in points for value in point]
    low, size = min(every), (max(every) - min(every)) or 1.0
    dots = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="#06c"/>' for x, y in map(_place, _scaled(points, low, size))
    )
    diagonal = _polylines({"#ccc": [(0.0, 0.0), (1.0, 1.0)]})
    return _frame([*diagonal, *dots], f"{caption}; from {low:.4g} to {low + size:.4g}")


def _scaled(points: Points, low: float, size: float) -> Points:
    return [((x - low) / size, (y - low) / size) for x, y in points]


def _polylines(lines: Mapping[str, Points]) -> Iterator[str]:
    for colour, points in lines.items():
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_place, points))
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{places}"/>'


def _place(point: tuple[float, float]) -> tuple[float, float]:
    """From the unit square to pixels."""
    return 20 + 360 * point[0], 220 - 200 * point[1]


def _frame(parts: Iterator[str] | Sequence[str], caption: str) -> str:
    return f'<p><svg width="400" height="240" role="img">{"".join(parts)}</svg><br>{escape(caption)}</p>'
