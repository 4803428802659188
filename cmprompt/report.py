"""`report.html` beside a fitted head: one file that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from cmprompt import metrics
from cmprompt.errors import CmpromptError
from cmprompt.heads.trial import Trial
from cmprompt.types import Array, Item

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem;width:9rem;font-size:12px}
img{display:block;max-width:9rem;max-height:9rem}svg{background:#fafafa;border:1px solid #ddd}"""
WORST = 24
THUMBNAIL_PX = 144
LARGEST_MATRIX = 40  # classes; a larger confusion matrix is in report.json alone


def html(trial: Trial, labels: Sequence[str], items: Sequence[Item], about: Mapping[str, Any]) -> str:
    """The page. `items` are the rows of the whole data, of which `trial.judged` names those that judged."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escape(trial.chosen)}: cmprompt finetune</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(trial.chosen)}</h1>",
            *_verdict(trial),
            *_table(trial),
            *_curve(trial.record.get("curve", [])),
            *(_classes(trial, labels, items) if labels else []),
            "<h2>How it came to be</h2><table>",
            *(f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in about.items()),
            "</table></body></html>",
            "",
        ]
    )


def _verdict(trial: Trial) -> Iterator[str]:
    yield f"<p>{'Kept' if trial.verdict.kept else 'Refused, and saved by force'}:</p><ul>"
    yield from (f"<li>{escape(reason)}</li>" for reason in trial.verdict.reasons)
    yield "</ul>"


def _table(trial: Trial) -> Iterator[str]:
    names = list(trial.table[0].figures)
    yield f"<h2>On {len(trial.targets)} rows that chose nothing</h2><table><tr><th></th>"
    yield "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"
    for row in trial.table:
        yield f"<tr><td>{escape(row.name)}</td>"
        for name in names:
            low, high = row.intervals.get(name, (float("nan"), float("nan")))
            yield f'<td title="95 %: {low:.4g} to {high:.4g}">{row.figures[name]:.4g}</td>'
        yield "</tr>"
    yield "</table>"


def _curve(points: Sequence[Mapping[str, float]]) -> Iterator[str]:
    if len(points) < 2:
        return
    yield "<h2>Learning curve</h2>"
    lines = {"#888": [point["loss"] for point in points], "#06c": [point["held_out_loss"] for point in points]}
    yield _plot(lines, "loss (grey) and held-out loss (blue) by epoch")


def _classes(trial: Trial, labels: Sequence[str], items: Sequence[Item]) -> Iterator[str]:
    rows = trial.answers[trial.chosen]
    yield "<h2>Reliability</h2>"
    parts = metrics.reliability(rows, trial.targets)
    ends = [[(part["confidence"], part["accuracy"]) for part in parts], [(0.0, 0.0), (1.0, 1.0)]]
    yield _lines(
        dict(zip(("#06c", "#ccc"), ends, strict=True)), "accuracy by confidence (blue); the diagonal is perfect"
    )
    if len(labels) <= LARGEST_MATRIX:
        yield from _matrix(metrics.confusion(rows.argmax(1), trial.targets, len(labels)), labels)
    yield "<h2>The surest mistakes</h2>"
    for row in _surest_mistakes(rows, trial.targets):
        item = items[int(trial.judged[row])]
        answer, sure = escape(labels[int(rows[row].argmax())]), 100 * float(rows[row].max())
        words = f"{escape(labels[int(trial.targets[row])])} taken for {answer} ({sure:.0f} %)"
        yield f"<figure>{_thumbnail(item)}<figcaption>{words}<br>{escape(_readable(item.id))}</figcaption></figure>"


def _matrix(table: Array, labels: Sequence[str]) -> Iterator[str]:
    yield "<h2>Confusion</h2><p>Rows are the truth.</p><table><tr><th></th>"
    yield "".join(f"<th>{escape(label)}</th>" for label in labels) + "</tr>"
    for label, cells in zip(labels, table.tolist(), strict=True):
        yield f"<tr><td>{escape(label)}</td>" + "".join(f"<td>{cell or ''}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _surest_mistakes(rows: Array, target: Array) -> list[int]:
    wrong = np.flatnonzero(rows.argmax(1) != target)
    order: list[int] = wrong[np.argsort(-rows[wrong].max(1), kind="stable")][:WORST].tolist()
    return order


def _thumbnail(item: Item) -> str:
    """The picture as a data address; its text, or nothing, where there is none to show."""
    from PIL import Image

    from cmprompt.images import open_rgb
    from cmprompt.types import Frame

    if item.image is None:
        return escape(item.text or "")
    try:
        found = item.image()
        picture = Image.fromarray(found.pixels) if isinstance(found, Frame) else open_rgb(found)
    except (OSError, CmpromptError):
        return ""
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _plot(lines: Mapping[str, Sequence[float]], caption: str) -> str:
    """Curves over 1, 2, 3, ..., scaled together."""
    every = [value for line in lines.values() for value in line]
    low, size = min(every), (max(every) - min(every)) or 1.0
    placed = {
        colour: [(i / (len(line) - 1), (value - low) / size) for i, value in enumerate(line)]
        for colour, line in lines.items()
    }
    return _lines(placed, f"{caption}; from {low:.4g} to {low + size:.4g}")


def _lines(lines: Mapping[str, Sequence[tuple[float, float]]], caption: str) -> str:
    """Curves through points in the unit square."""
    drawn = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
        + " ".join(f"{20 + 360 * x:.1f},{220 - 200 * y:.1f}" for x, y in points)
        + '"/>'
        for colour, points in lines.items()
    )
    return f'<p><svg width="400" height="240" role="img">{drawn}</svg><br>{escape(caption)}</p>'


def _readable(name: str) -> str:
    """A name that is not UTF-8 with its odd bytes replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
