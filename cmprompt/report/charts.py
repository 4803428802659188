"""Small charts as SVG text, for the report: curves and points, nothing to load and nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
Ends = tuple[float, float]
LEFT, TOP, WIDTH, HEIGHT = 60, 16, 330, 190  # of the square that the points lie in, in pixels


def curves(lines: Mapping[str, Sequence[float | None]], caption: str, first: int = 1) -> str:
    """Values at `first`, `first` + 1, ..., scaled together; `lines` maps a colour to its values, None for none."""
    low, high = _ends([value for line in lines.values() for value in line if value is not None])
    longest = max(map(len, lines.values()))
    placed = {
        colour: [(i / max(1, longest - 1), (y - low) / (high - low)) for i, y in enumerate(line) if y is not None]
        for colour, line in lines.items()
    }
    return _frame(_polylines(placed), (first, first + longest - 1), (low, high), caption)


def polylines(lines: Mapping[str, Points], caption: str) -> str:
    """Lines through points in the unit square, each marked."""
    dots = (_dot(point, colour, 3) for colour, points in lines.items() for point in points)
    return _frame([*_polylines(lines), *dots], (0, 1), (0, 1), caption)


def scatter(points: Points, caption: str) -> str:
    """Points with both axes on one scale, and the diagonal."""
    low, high = _ends([value for point in points for value in point])
    scaled = (((x - low) / (high - low), (y - low) / (high - low)) for x, y in points)
    diagonal = _polylines({"#888": [(0.0, 0.0), (1.0, 1.0)]})
    return _frame([*diagonal, *(_dot(point, "#06c", 2) for point in scaled)], (low, high), (low, high), caption)


def _ends(values: Sequence[float]) -> Ends:
    low, high = min(values), max(values)
    return low, high if high > low else low + 1.0


def _polylines(lines: Mapping[str, Points]) -> Iterator[str]:
    for colour, points in lines.items():
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_place, points))
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{places}"/>'


def _dot(point: tuple[float, float], colour: str, radius: int) -> str:
    x, y = _place(point)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def _place(point: tuple[float, float]) -> tuple[float, float]:
    """From the unit square to pixels."""
    return LEFT + WIDTH * point[0], TOP + HEIGHT * (1 - point[1])


def _frame(parts: Iterator[str] | Sequence[str], x: Ends, y: Ends, caption: str) -> str:
    """The chart with what the ends of its axes stand for."""
    drawn = "".join([*_polylines({"#888": [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0)]}), *_numbers(x, y), *parts])
    return f'<p><svg width="400" height="230" role="img">{drawn}</svg><br>{escape(caption)}</p>'


def _numbers(x: Ends, y: Ends) -> Iterator[str]:
    foot = TOP + HEIGHT + 16
    for anchor, place, value in (("start", LEFT, x[0]), ("end", LEFT + WIDTH, x[1])):
        yield f'<text x="{place}" y="{foot}" text-anchor="{anchor}" fill="#888">{value:.4g}</text>'
    for height, value in ((TOP + HEIGHT, y[0]), (TOP + 10, y[1])):
        yield f'<text x="{LEFT - 6}" y="{height}" text-anchor="end" fill="#888">{value:.4g}</text>'
