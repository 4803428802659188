"""Reports in another language than the one that is scored in: a file that gives each label its translation.

Lines `cat: 猫`, or JSON and TOML `{"cat": "猫"}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cmprompt.errors import UsageError
from cmprompt.labels.files import read_entries
from cmprompt.types import Prediction


def read_translations(path: str, labels: Sequence[str] | None = None) -> dict[str, str]:
    """The translation of each of `labels` (None: all of the file's).

    Raises UsageError: one is missing, has several, or shares another's.
    """
    entries = {entry.label: entry for entry in read_entries(Path(path))}
    labels = list(entries) if labels is None else labels
    if missing := [label for label in labels if label not in entries]:
        raise UsageError(f"{path}: no translation of {', '.join(map(repr, missing[:5]))}; add lines label: translation")
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        entry = entries[label]
        if len(entry.phrases) != 1:
            raise UsageError(f"{entry.where}: {label!r} has {len(entry.phrases)} translations; give one")
        if entry.phrases[0] in taken:
            raise UsageError(
                f"{entry.where}: {entry.phrases[0]!r} is given for two labels, which could not be told apart"
            )
        names[label] = entry.phrases[0]
        taken.add(names[label])
    return names


def translated(predictions: Iterable[Prediction], names: Mapping[str, str]) -> Iterator[Prediction]:
    """Every label by its translation; what has none, such as none-of-these, stays as it is."""
    for found in predictions:
        yield replace(
            found,
            label=None if found.label is None else names.get(found.label, found.label),
            top=tuple((names.get(label, label), score) for label, score in found.top),
            labels=None if found.labels is None else tuple(names.get(label, label) for label in found.labels),
        )
