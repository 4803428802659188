"""`report.html` and `report.json` beside a fitted head. The page needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from cmprompt import metrics
from cmprompt.errors import CmpromptError
from cmprompt.heads.io import json_text
from cmprompt.heads.trial import WISE_STEPS, Trial
from cmprompt.inline import data_url
from cmprompt.report import charts
from cmprompt.report.figures import name_of, text_of
from cmprompt.types import Array, Item
from cmprompt.utf8 import clean

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left;white-space:nowrap}figure{display:inline-block;margin:.5rem;width:9rem;font-size:12px}
div{overflow-x:auto}img{display:block;max-width:9rem;max-height:9rem}svg{background:#8881;font-size:11px}
:root{color-scheme:light dark}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}td,th{border-color:#333}}"""
SHOWN_ABOVE = ("metrics", "verdict", "tried", "tower_curve", "auto")
WORST = 24
THUMBNAIL_PX = 144
# What `tried` holds, by what else the record does; the last choice that is made comes first.
SETTINGS = {
    "wise": "how far from zero-shot to the fitted head",
    "alpha": "alpha and beta",
    "lambda": "lambda and beta",
    "C": "C as in scikit-learn",
}
LARGEST_MATRIX = 40  # classes; of a larger confusion matrix the page has the largest cells


def html(trial: Trial, labels: Sequence[str], items: Sequence[Item], about: Mapping[str, Any]) -> str:
    """The page. `items` are the rows of the whole data, of which `trial.judged` names those that judged."""
    rows = trial.answers[trial.chosen]
    body = _numbers if not labels else _many if trial.targets.ndim == 2 else _classes
    page = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escape(trial.chosen)}: cmprompt finetune</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(trial.chosen)}</h1>",
            *_verdict(trial),
            *_table(trial),
            *_heads_tried(trial.record),
            *_curve(trial.record),
            *_tower_curve(trial.record),
            *body(rows, trial, labels, items),
            "<h2>How it came to be</h2>",
            *_rows_of((name, [words]) for name, words in _told(about)),
            "</body></html>",
            "",
        ]
    )
    return clean(page)


def as_json(trial: Trial, labels: Sequence[str], about: Mapping[str, object]) -> str:
    """All of it, with the learning curve, the confusion matrix or each label's figures, and the reliability diagram."""
    found: dict[str, object] = {**about, "labels": labels, "curve": trial.record.get("curve", [])}
    rows, truth = trial.answers[trial.chosen], trial.targets
    if truth.ndim == 2:
        found["reliability"] = metrics.reliability(*_decisions(rows, truth))
        found["per_class"] = _label_figures(rows, truth)
    elif labels:
        found["confusion"] = metrics.confusion(rows.argmax(1), truth, len(labels))
        found["reliability"] = metrics.reliability(rows, truth)
        found["per_class"] = metrics.per_class(rows.argmax(1), truth, len(labels))
    return json_text(found)


def _told(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, words) of what is known about a head and not shown above: a line for each part of what has parts."""
    for name, value in about.items():
        if name in SHOWN_ABOVE or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _told({f"{name}: {part}": inner for part, inner in value.items() if part not in SHOWN_ABOVE})
        elif name == "command":
            yield name, shlex.join(map(str, value))
        elif isinstance(value, list | tuple):
            yield name, "; ".join(str(part) for part in value)
        else:
            yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


def _verdict(trial: Trial) -> Iterator[str]:
    yield f"<p>{'Kept' if trial.verdict.kept else 'Refused, and saved by force'}:</p><ul>"
    yield from (f"<li>{escape(reason)}</li>" for reason in trial.verdict.reasons)
    yield "</ul>"


def _table(trial: Trial) -> Iterator[str]:
    names = list(trial.table[0].figures)
    yield f"<h2>On {len(trial.targets)} rows that chose nothing</h2><table><tr><th></th>"
    yield "".join(f"<th>{escape(name_of(name))}</th>" for name in names) + "</tr>"
    for row in trial.table:
        yield f"<tr><td>{escape(row.name)}</td>"
        for name in names:
            low, high = row.intervals.get(name, (float("nan"), float("nan")))
            yield f'<td title="95 %: {low:.4g} to {high:.4g}">{escape(text_of(row, name))}</td>'
        yield "</tr>"
    yield "</table><p>Fractions in per cent, ± half the width of the 95 % interval by bootstrap.</p>"


def _heads_tried(record: Mapping[str, Any]) -> Iterator[str]:
    """What `auto` compared, by what rows held out of the training rows cost."""
    if tried := record.get("auto"):
        yield "<h2>Heads tried</h2>"
        names = [name for name in tried[0] if name != "kind"]
        cells = ([row["kind"], [f"{row[name]:.4g}" for name in names]] for row in tried)
        yield from _rows_of([["", [name.replace("_", " ") for name in names]], *cells])


def _curve(record: Mapping[str, Any]) -> Iterator[str]:
    """The loss by epoch; of a head without epochs, the held-out loss of each setting that was tried."""
    points = record.get("curve", [])
    if len(points) > 1:
        yield "<h2>Learning curve</h2>"
        lines = {"#888": [point["loss"] for point in points], "#06c": [point["held_out_loss"] for point in points]}
        yield charts.curves(lines, "loss (grey) and held-out loss (blue) by epoch", first=points[0]["epoch"])
    elif tried := record.get("tried"):
        stepped = [row["setting"] for row in tried] == list(WISE_STEPS)  # not where --wise gave the step
        what = next((words for name, words in SETTINGS.items() if name in record and (name != "wise" or stepped)), "")
        yield f"<h2>Settings tried{what and ': '}{what}</h2>"
        yield charts.curves(
            {"#06c": [row["loss"] for row in tried]}, "held-out loss by setting, the most cautious first"
        )
        yield from _rows_of((row["setting"], [f"{row['loss']:.4g}"]) for row in tried)


def _tower_curve(record: Mapping[str, Any]) -> Iterator[str]:
    """The same of an image tower that was trained; it begins with the head on the tower as it was."""
    points = record.get("tower_curve", [])
    if len(points) > 1:
        yield "<h2>Learning curve of the image tower</h2>"
        kinds = {"#888": "loss", "#06c": "held_out_loss"}
        lines = {colour: [point.get(name) for point in points] for colour, name in kinds.items()}
        yield charts.curves(lines, "loss (grey) and held-out loss (blue) by epoch, from before the first one", first=0)


def _classes(rows: Array, trial: Trial, labels: Sequence[str], items: Sequence[Item]) -> Iterator[str]:
    yield from _reliability(rows, trial.targets, trial.record)
    confused = _matrix if len(labels) <= LARGEST_MATRIX else _pairs
    yield from confused(rows.argmax(1), trial.targets, labels)
    yield "<h2>The surest mistakes</h2>"
    for row in _surest_mistakes(rows, trial.targets):
        answer, sure = labels[int(rows[row].argmax())], 100 * float(rows[row].max())
        words = f"{labels[int(trial.targets[row])]} taken for {answer} ({sure:.0f} %)"
        yield _figure(items[int(trial.judged[row])], words)


def _many(rows: Array, trial: Trial, labels: Sequence[str], items: Sequence[Item]) -> Iterator[str]:
    yield from _reliability(*_decisions(rows, trial.targets), trial.record)
    figures = _label_figures(rows, trial.targets)
    yield "<h2>Labels</h2>"
    head = [list(figures)]
    cells = [[f"{figures[name][c]:.4g}" for name in figures] for c in range(len(labels))]
    yield from _rows_of(zip(["", *labels], [*head, *cells], strict=True))
    yield "<h2>The surest mistakes</h2>"
    wrong = np.abs(rows - trial.targets)  # (N, C)
    for place in np.argsort(-wrong, axis=None, kind="stable")[:WORST].tolist():
        row, c = divmod(place, len(labels))
        if wrong[row, c] > metrics.DECIDED:
            words = (
                f"{'lacks' if rows[row, c] < metrics.DECIDED else 'is given'} {labels[c]} ({100 * rows[row, c]:.0f} %)"
            )
            yield _figure(items[int(trial.judged[row])], words)


def _numbers(rows: Array, trial: Trial, labels: Sequence[str], items: Sequence[Item]) -> Iterator[str]:
    yield "<h2>Found and true</h2>"
    yield charts.scatter(list(zip(trial.targets.tolist(), rows.tolist(), strict=True)), "found (up) by true (right)")
    yield "<h2>The largest errors</h2>"
    for row in np.argsort(-np.abs(rows - trial.targets), kind="stable")[:WORST].tolist():
        yield _figure(items[int(trial.judged[row])], f"{trial.targets[row]:.4g} taken for {rows[row]:.4g}")


def _reliability(rows: Array, target: Array, record: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Reliability</h2>"
    parts = metrics.reliability(rows, target)
    points = [(part["confidence"], part["accuracy"]) for part in parts]
    lines = {"#ccc": [(0.0, 0.0), (1.0, 1.0)], "#06c": points}
    yield charts.polylines(lines, "accuracy (up) by confidence (right), both from 0 to 1; the grey diagonal is perfect")
    if "temperature" in record:
        before, after = (f"{100 * record[f'judged_ece_{when}']:.1f} %" for when in ("before", "after"))
        yield f"<p>Temperature {record['temperature']:.3g}: ECE {before} before, {after} after.</p>"


def _matrix(predicted: Array, target: Array, labels: Sequence[str]) -> Iterator[str]:
    yield "<h2>Confusion</h2><p>Rows are the truth.</p>"
    table = metrics.confusion(predicted, target, len(labels))
    cells = [[cell or "" for cell in row] for row in table.tolist()]
    yield from _rows_of(zip(["", *labels], [list(labels), *cells], strict=True))


def _pairs(predicted: Array, target: Array, labels: Sequence[str]) -> Iterator[str]:
    """What stands in for a matrix that no screen holds."""
    yield "<h2>Confusion</h2><p>The most frequent mistakes; the whole matrix is in report.json.</p>"
    found = metrics.mistakes(predicted, target, len(labels), WORST)
    yield from _rows_of((f"{labels[truth]} taken for {labels[answer]}", [times]) for truth, answer, times in found)


def _rows_of(rows: Any) -> Iterator[str]:
    """A table of (name, cells)."""
    yield "<div><table>"
    for name, cells in rows:
        yield f"<tr><td>{escape(str(name))}</td>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"
    yield "</table></div>"


def _surest_mistakes(rows: Array, target: Array) -> list[int]:
    wrong = np.flatnonzero(rows.argmax(1) != target)
    order: list[int] = wrong[np.argsort(-rows[wrong].max(1), kind="stable")][:WORST].tolist()
    return order


def _decisions(rows: Array, target: Array) -> tuple[Array, Array]:
    """Every label of every row as one yes or no: (N C, 2) probabilities, (N C,) 0 or 1."""
    flat = rows.ravel()
    return np.stack([1 - flat, flat], 1), target.ravel().astype(int)


def _label_figures(rows: Array, target: Array) -> dict[str, Array]:
    """(C,) figures of each label of many."""
    each = [metrics.average_precision(rows[:, c], target[:, c] > 0) for c in range(rows.shape[1])]
    return {"average_precision": np.array(each), **metrics.per_label(rows >= metrics.DECIDED, target > 0)}


def _figure(item: Item, words: str) -> str:
    return f"<figure>{_thumbnail(item)}<figcaption>{escape(words)}<br>{escape(item.id)}</figcaption></figure>"


def _thumbnail(item: Item) -> str:
    """The picture as a data address; its text, or nothing, where there is none to show."""
    from PIL import Image

    from cmprompt.clips import with_frames
    from cmprompt.images import open_rgb
    from cmprompt.sources.video import Sampling
    from cmprompt.types import Frame

    shown = next(with_frames([item], Sampling(frames=1)))
    if shown.image is None:
        return escape(item.text or "")
    try:
        found = shown.image()
        picture = Image.fromarray(found.pixels) if isinstance(found, Frame) else open_rgb(found)
    except (OSError, CmpromptError):
        return ""
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return f'<img alt="" src="{data_url(picture)}">'
