"""A table's rows in order of suspicion: pairs that do not fit, labels that look wrong, and what would fit better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from cmprompt.errors import UsageError, counted
from cmprompt.labelled.vectors import photo_groups
from cmprompt.tasks.check import FEWEST_TEXTS, MOST_MISMATCHED, LabelCheck, PairCheck, check_labels, check_pairs
from cmprompt.types import Array, Embedded, Features, Item, Outcome
from cmprompt.utf8 import clean
from cmprompt.writers.records import identity, own_columns, rounded

T = TypeVar("T")

# what a record may have, before the table's own columns
FIELDS = (
    "id", "path_b64", "status", "error", "suspicion", "flagged", "cosine", "rank", "text", "better_text", "label",
    "confidence", "better_label",
)  # fmt: skip


@dataclass(frozen=True)
class Suspects:
    """`records`, the most suspicious first and failures last; `notices` say how they were judged."""

    records: list[dict[str, Any]]
    notices: list[str]
    flagged: int
    failed: int


@dataclass
class _Rows:
    """Everything of a table that could be embedded."""

    items: list[Item] = field(default_factory=list)
    images: list[Array] = field(default_factory=list)
    texts: list[Array | None] = field(default_factory=list)
    failures: list[tuple[Item, Outcome]] = field(default_factory=list)


def find_suspects(embedded: Iterable[Embedded], *, fdr: float = 0.1, keep_columns: bool = False) -> Suspects:
    """Check every pair and every label of what is embedded (needs "image" and "text").

    `keep_columns`: records end with the table's own columns, one named as a field of theirs as `input_NAME`.
    Raises UsageError where no row has a picture, or none a text or a label.
    """
    rows = _collect(embedded)
    pairs = [place for place, text in enumerate(rows.texts) if text is not None]
    labelled = [place for place, item in enumerate(rows.items) if item.target not in (None, "")]
    _require_something([*rows.items, *(item for item, _ in rows.failures)])
    records = [{**identity(item), "status": "ok", "suspicion": 0.0, "flagged": False} for item in rows.items]
    notices: list[str] = []
    if pairs:
        notices.append(_judge_pairs(rows, pairs, records, fdr))
    if labelled:
        notices.append(_judge_labels(rows, labelled, records))

    def own(item: Item) -> dict[str, Any]:
        return own_columns(item.columns, FIELDS) if keep_columns else {}

    records = [{**record, **own(item)} for record, item in zip(records, rows.items, strict=True)]
    records.sort(key=lambda record: (-record["suspicion"], not record["flagged"]))
    failures = [
        {**identity(item), "status": outcome.status, "error": clean(outcome.error or ""), **own(item)}
        for item, outcome in rows.failures
    ]
    flagged = sum(record["flagged"] for record in records)
    return Suspects([*records, *failures], notices, flagged, len(failures))


def _require_something(items: list[Item]) -> None:
    """Raises UsageError where there is nothing to check, however many pictures can be read."""
    if not any(item.text or item.target not in (None, "") for item in items):
        raise UsageError("nothing to check: no row has a text or a label; name a column by --text-col or --target-col")
    if all(item.image is None for item in items):
        raise UsageError("nothing to check: no row has a picture; name the column by --image-col")


def _collect(embedded: Iterable[Embedded]) -> _Rows:
    rows = _Rows()
    for batch in embedded:
        for place, (item, outcome) in enumerate(zip(batch.items, batch.outcomes, strict=True)):
            if outcome.status != "ok" or not batch.features.has_image[place]:
                why = outcome if outcome.status != "ok" else Outcome("missing", "no image")
                rows.failures.append((item, why))
                continue
            assert batch.features.image is not None and batch.features.text is not None
            rows.items.append(item)
            rows.images.append(batch.features.image[place])
            rows.texts.append(batch.features.text[place] if batch.features.has_text[place] else None)
    return rows


def _judge_pairs(rows: _Rows, pairs: list[int], records: list[dict[str, Any]], fdr: float) -> str:
    """Write what `check_pairs` finds into the records; returns the notice."""
    images, image_of = _distinct([rows.items[place].id for place in pairs])
    texts, vectors, text_of = _distinct_texts(rows, pairs)
    found = check_pairs(
        np.stack([rows.images[pairs[first]] for first in images.values()]), vectors, image_of, text_of, fdr=fdr
    )
    for i, place in enumerate(pairs):
        records[place] |= {
            "suspicion": rounded(float(found.p_value[i])),
            "flagged": bool(found.flagged[i]),
            "cosine": rounded(float(found.cosine[i])),
            "rank": int(found.rank[i]),
            "text": clean(rows.items[place].text or ""),
            "better_text": clean(texts[int(found.best[i])]) if found.rank[i] > 1 else None,
        }
    return _pairs_notice(found, len(texts), fdr)


def _distinct_texts(rows: _Rows, pairs: list[int]) -> tuple[list[str], Array, list[int]]:
    """The M texts that are not one to the model, (M, D) their vectors, and for each pair the number of its text."""
    texts, text_of = _distinct([rows.items[place].text or "" for place in pairs])
    vectors = np.stack([row for row in (rows.texts[pairs[first]] for first in texts.values()) if row is not None])
    kinds, kind_of = _distinct([row.tobytes() for row in vectors])  # texts that differ in case have the same
    first = list(kinds.values())
    names = list(texts)
    return [names[place] for place in first], vectors[first], [kind_of[text] for text in text_of]


def _pairs_notice(found: PairCheck, n_texts: int, fdr: float) -> str:
    count = f"{len(found.cosine):,} pairs"
    if found.mismatched_share is None:
        few = f"{counted(n_texts, 'different text')} {'is' if n_texts == 1 else 'are'} too few to tell"
        return f"{count}: none flagged, since {few}; {FEWEST_TEXTS} would do"
    share = f"{count}: {found.mismatched_share:.1%} score like shuffled ones (Storey 2002)"
    if found.mismatched_share > MOST_MISMATCHED:
        return (
            f"{share}: too many for this model to tell wrong pairs from right ones; none flagged, try a better --model"
        )
    if found.fdr is None:
        return f"{share}; none flagged at a false discovery rate of {fdr:g}"
    flagged = f"{int(found.flagged.sum()):,} flagged"
    return f"{share}; {flagged}, of which {found.fdr:.1%} are fine if pairs that fit score normally, else more"


def _judge_labels(rows: _Rows, labelled: list[int], records: list[dict[str, Any]]) -> str:
    """Write what `check_labels` finds into the records; returns the notice."""
    classes, target = _distinct([str(rows.items[place].target) for place in labelled])
    vectors = np.stack([_joined(rows.images[place], rows.texts[place]) for place in labelled])
    groups = photo_groups(Features.of_images(np.stack([rows.images[place] for place in labelled])))
    try:
        found = check_labels(vectors, np.array(target), len(classes), groups=groups)
    except UsageError as error:
        return f"labels are not checked: {error}"
    names = list(classes)
    for i, place in enumerate(labelled):
        _add_label(records[place], found, i, names, names[target[i]])
    count = int(found.flagged.sum())
    return f"{len(labelled):,} labels: {count:,} flagged (confident learning, {found.folds} folds)"


def _joined(image: Array, text: Array | None) -> Array:
    """(2 D,) what a label may depend on: the picture and its text, of length one together."""
    both = np.concatenate([image, np.zeros_like(image) if text is None else text])
    joined: Array = both / np.linalg.norm(both)
    return joined


def _add_label(record: dict[str, Any], found: LabelCheck, i: int, names: list[str], label: str) -> None:
    record["label"] = clean(label)
    if np.isnan(found.confidence[i]):
        record["better_label"] = None
        return
    record["suspicion"] = max(record["suspicion"], rounded(1 - float(found.confidence[i])) or 0.0)
    record["flagged"] = record["flagged"] or bool(found.flagged[i])
    record["confidence"] = rounded(float(found.confidence[i]))
    better = names[int(found.suggested[i])]
    record["better_label"] = clean(better) if better != label else None


def _distinct(values: list[T]) -> tuple[dict[T, int], list[int]]:
    """Each value with the place it first occurs at, in order, and for each place its number among them."""
    first: dict[T, int] = {}
    for place, value in enumerate(values):
        first.setdefault(value, place)
    number = {value: n for n, value in enumerate(first)}
    return first, [number[value] for value in values]
