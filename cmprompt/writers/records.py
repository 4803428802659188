"""A prediction as the record that every format carries. What is written is decided here, once.

    {"id", "status": "ok", "label", "score", "cosine", "margin", "top": [[label, score], ...]}
    {"id", "status", "error"}                                          a failure
    {"id", "status": "ok", "value"}                                    regression

Beside them, where they apply: `path_b64` after `id` (a name that is not UTF-8), `labels` after `label` (multi-label),
`flags`, `start_s` and `end_s` (under a timeline: a stretch of video, null for what is none), `question` (a row's own),
`descriptors` [[text, cosine], ...] (of the winning label), and at the end the input's own columns. A column named as a
field of the record becomes `input_NAME`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from cmprompt.types import Item, Prediction
from cmprompt.utf8 import clean, raw_bytes

Record = dict[str, Any]

FIELDS = (
    "id",
    "path_b64",
    "status",
    "error",
    "label",
    "labels",
    "score",
    "cosine",
    "margin",
    "top",
    "value",
    "flags",
)
SECONDS = ("start_s", "end_s")
_FIELDS = frozenset(FIELDS)


def to_record(prediction: Prediction, *, keep_columns: bool = False, timeline: bool = False) -> Record:
    """The JSON-ready record of one prediction: clean text, floats of 6 significant digits, never NaN."""
    record: Record = {**identity(prediction.item), "status": prediction.status}
    if prediction.status != "ok":
        record["error"] = clean(prediction.error or prediction.status)
    elif prediction.value is not None:
        record["value"] = rounded(prediction.value)
    else:
        record |= _decision(prediction)
    if prediction.flags:
        record["flags"] = list(prediction.flags)
    if timeline:
        record |= zip(SECONDS, map(rounded, _seconds(prediction)), strict=True)
    if prediction.question is not None:
        record["question"] = clean(prediction.question)
    if prediction.descriptors is not None:
        record["descriptors"] = [[clean(text), rounded(cosine)] for text, cosine in prediction.descriptors]
    if keep_columns:
        record |= own_columns(prediction.item.columns)
    return record


def own_names(record: Record) -> tuple[str, ...]:
    """What a record has beside FIELDS."""
    return tuple(name for name in record if name not in _FIELDS)


def _seconds(prediction: Prediction) -> tuple[float | None, float | None]:
    """From when to when; None of a clip that could not be opened, which has no stretch."""
    item = prediction.item
    return (None, None) if prediction.status != "ok" and not item.end_s else (item.time_s, item.end_s)


def identity(item: Item) -> Record:
    """How a record names its item: `id`, and `path_b64` with the bytes of a name that is not UTF-8."""
    try:
        item.id.encode()
    except UnicodeEncodeError:
        name = raw_bytes(item.id)
        return {"id": name.decode("utf-8", "replace"), "path_b64": base64.b64encode(name).decode("ascii")}
    return {"id": item.id}


def rounded(value: float | None) -> float | None:
    """6 significant digits; None for what is not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def cell_of(value: object) -> str:
    """A value as the text of a cell: nothing for None and false, 6 significant digits, lists as JSON."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, float):
        return f"{value:.6g}"
    return clean(json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value))


def _decision(prediction: Prediction) -> Record:
    record: Record = {"label": None if prediction.label is None else clean(prediction.label)}
    if prediction.labels is not None:
        record["labels"] = [clean(label) for label in prediction.labels]
    return record | {
        "score": rounded(prediction.score),
        "cosine": rounded(prediction.cosine),
        "margin": rounded(prediction.margin),
        "top": [[clean(label), rounded(score)] for label, score in prediction.top],
    }


def own_columns(columns: Mapping[str, str], fields: Collection[str] = (*FIELDS, *SECONDS)) -> Record:
    """The input's own columns, renamed where the record has a field of that name."""
    kept: Record = {}
    for name, value in columns.items():
        key = clean(str(name))
        while key in fields or key in kept:
            key = f"input_{key}"
        kept[key] = clean(value) if isinstance(value, str) else value
    return kept
