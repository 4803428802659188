"""One picture of a model's two sides: where images and label texts lie, and how each class fits its text. SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from cmprompt.alignment import Alignment, plane
from cmprompt.types import Array

SIDE_PX, MARGIN_PX, BAR_PX, LABEL_PX = 440, 40, 16, 180
LINE_PX, NAME_PX, NAMES_PX = 14, 40, 60  # NAMES_PX is what the names of texts have beyond the left side
LETTER_PX = 7.0  # about; a reader's font is not known
POINTS = 2000  # more hide each other
BARS = 24
HUE_STEP = 137.5  # degrees; neighbouring classes get colours far apart
STYLE = "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600}.s{fill:#666}"


def svg(found: Alignment, images: Array, texts: Array, target: Array, labels: Sequence[str]) -> str:
    """The whole drawing. `images` (N, D), `texts` (C, D) unit rows, `target` (N,)."""
    bars = list(_bars(found, labels))
    height = max(SIDE_PX, 3 * MARGIN_PX + BAR_PX * min(BARS, len(labels))) + MARGIN_PX
    width, right = 2 * SIDE_PX + 3 * MARGIN_PX + NAMES_PX, SIDE_PX + 2 * MARGIN_PX + NAMES_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="white"/>',
        *_map(images, texts, target, labels),
        f'<g transform="translate({right},0)">',
        *bars,
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"


def _map(images: Array, texts: Array, target: Array, labels: Sequence[str]) -> Iterator[str]:
    """The left side: dots for images, named diamonds for texts, and a line between the two means."""
    chosen = np.linspace(0, len(images) - 1, min(POINTS, len(images))).astype(int)
    dots, marks = plane(images, texts)
    low, size = _frame(np.concatenate([dots, marks]))
    dots, marks = ((points - low) / size for points in (dots, marks))
    start, end = (_place(points.mean(0)) for points in (dots, marks))
    yield _text(MARGIN_PX, 24, "Images (dots) and label texts (diamonds) on their two main axes", "t")
    yield _line(start, end, "#222")
    for row in chosen:
        x, y = _place(dots[row])
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_colour(int(target[row]))}" fill-opacity="0.6"/>'
    if len(labels) <= BARS:
        yield from _names([_place(mark) for mark in marks], labels)
    for c, mark in enumerate(marks):
        x, y = _place(mark)
        yield f'<path d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z" fill="{_colour(c)}" stroke="#222"/>'
    yield _text(0.8 * start[0] + 0.2 * end[0] + 6, 0.8 * start[1] + 0.2 * end[1] + 14, "modality gap", "s")


def _names(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> Iterator[str]:
    """A column of names right of the texts, each joined to its own by a thin line: the texts often lie close."""
    order = sorted(range(len(labels)), key=lambda c: places[c][1])
    left = min(max(x for x, _ in places) + NAME_PX, SIDE_PX - NAME_PX)
    top = min(places[order[0]][1], SIDE_PX - LINE_PX * len(labels))
    for row, c in enumerate(order):
        y = top + LINE_PX * row
        yield f'<path d="M{places[c][0]:.1f} {places[c][1]:.1f}L{left - 3:.1f} {y - 4:.1f}" stroke="#bbb"/>'
        yield _name(left, y, labels[c], SIDE_PX + MARGIN_PX + NAMES_PX - left)


def _bars(found: Alignment, labels: Sequence[str]) -> Iterator[str]:
    """The right side: the classes that fit worst, first."""
    gaps = found.own - found.other  # (C,) NaN without images
    shown = [c for c in np.argsort(gaps, kind="stable").tolist() if np.isfinite(gaps[c])]
    order = shown[:BARS]
    highest = max((float(max(found.own[c], found.other[c])) for c in order), default=1.0)
    lowest = min(0.0, *(float(min(found.own[c], found.other[c])) for c in order)) if order else 0.0
    scale = (SIDE_PX - LABEL_PX - MARGIN_PX) / ((highest - lowest) or 1.0)
    zero = LABEL_PX - lowest * scale
    yield _text(0, 24, "Mean cosine to the own text (colour) and to the nearest other (grey)", "t")
    for row, c in enumerate(order):
        y = MARGIN_PX + BAR_PX * row
        yield _name(0, y + 11, labels[c], LABEL_PX - 6)
        for value, top, colour in ((found.own[c], y + 1, _colour(c)), (found.other[c], y + 7, "#bbb")):
            x, width = zero + min(0.0, float(value)) * scale, abs(float(value)) * scale
            yield f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="6" fill="{colour}"/>'
        yield _text(zero + max(0.0, found.own[c], found.other[c]) * scale + 4, y + 11, f"{gaps[c]:+.3f}", "s")
    if len(shown) > BARS:
        yield _text(0, MARGIN_PX + BAR_PX * BARS + 14, f"and {len(shown) - BARS} labels that fit better", "s")


def _frame(points: Array) -> tuple[Array, Array]:
    """The lower corner and the extent of (N, 2) points."""
    low = points.min(0)
    return low, np.maximum(points.max(0) - low, 1e-9)


def _place(point: Array) -> tuple[float, float]:
    """A point of the unit square on the left side's pixels."""
    inner = SIDE_PX - 2 * MARGIN_PX
    return MARGIN_PX + float(point[0]) * inner, MARGIN_PX + (1 - float(point[1])) * inner


def _colour(c: int) -> str:
    return f"hsl({c * HUE_STEP % 360:.0f},60%,45%)"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _name(x: float, y: float, label: str, width_px: float) -> str:
    """A label, cut to about a width; the pointer shows all of it."""
    from rich.text import Text

    short = Text(label)
    short.truncate(int(width_px / LETTER_PX), overflow="ellipsis")
    whole = "" if short.plain == label else f"<title>{escape(label)}</title>"
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(short.plain)}{whole}</text>'


def _line(a: tuple[float, float], b: tuple[float, float], colour: str) -> str:
    return f'<path d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" stroke="{colour}" stroke-dasharray="4 3"/>'
