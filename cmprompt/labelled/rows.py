"""Rows with targets, in memory: what labels there are, and where a row stands in its file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from cmprompt.errors import UsageError, counted
from cmprompt.labels import first_parts
from cmprompt.sources.names import is_table_name
from cmprompt.types import Array, Item

SEPARATORS = re.compile(r"[|;]")  # between the labels of one cell
BY_NUMBER = "a file for --labels @FILE with lines such as `0: dress`"
NAMED = 8  # lines that one message names


@dataclass(frozen=True)
class Labelled:
    """N items, each with a target. `numbers` (N,) float32 for regression, else None; `multi_label`: a target is any
    number of labels, `cat | outdoors`; `places`: of which row of the source each item is, where some
    have several."""

    source: str
    items: tuple[Item, ...]
    numbers: Array | None = None
    multi_label: bool = False
    places: tuple[int, ...] = ()

    @property
    def targets(self) -> list[str]:
        """The label of each item."""
        return [str(item.target or "") for item in self.items]

    @property
    def names(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted({name for labels in self.label_sets for name in labels})

    @property
    def are_numbered(self) -> bool:
        """Whether every label is a whole number, as data sets number their classes."""
        return all(name.isdecimal() for name in self.names)

    @property
    def label_sets(self) -> list[tuple[str, ...]]:
        """The labels of each item."""
        return [parts(target) if self.multi_label else (target,) for target in self.targets]

    def check_labels(self, known: Collection[str], advice: str = "") -> None:
        """Raises UsageError that names the lines of labels that are not `known`, and ends in the `advice`."""
        others = [set(labels).difference(known) for labels in self.label_sets]
        if rows := [row for row, names in enumerate(others) if names]:
            strange = sorted(set().union(*others))
            if self.are_numbered and not any(map(str.isdecimal, known)):
                advice = f"{BY_NUMBER} names them"
            raise UsageError(
                f"{self.source}: {counted(len(rows), 'row')} with labels that nothing here can answer"
                f" ({', '.join(map(repr, strange[:5]))}): {self.where(rows)}{advice and '; ' + advice}"
            )

    def marks(self, labels: Sequence[str]) -> Array:
        """(N, C) float32: 1 where a row has the label. Raises UsageError that names the lines of other labels."""
        self.check_labels(labels)
        place = {label: column for column, label in enumerate(labels)}
        rows = np.zeros((len(self.items), len(labels)), np.float32)
        for row, names in enumerate(self.label_sets):
            rows[row, [place[name] for name in names]] = 1
        return rows

    def class_numbers(self, labels: Sequence[str]) -> Array:
        """(N,) int64 the place of each row's label. Raises UsageError that names the lines of other labels."""
        self.check_labels(labels)
        place = {label: number for number, label in enumerate(labels)}
        return np.array([place[name] for name in self.targets], np.int64)

    def at_level(self, level: int) -> Labelled:
        """The same with labels a/b/c cut to their first `level` parts."""
        cut = [" | ".join(dict.fromkeys(first_parts(name, level) for name in own)) for own in self.label_sets]
        return replace(self, items=tuple(replace(item, target=t) for item, t in zip(self.items, cut, strict=True)))

    def one_caption_each(self) -> Labelled:
        """The same with an item for each caption of a picture that has several."""
        items = [[replace(item, text=text) for text in item.captions or (item.text,)] for item in self.items]
        places = tuple(place for place, own in enumerate(items) for _ in own)
        return replace(self, items=tuple(chain.from_iterable(items)), places=places)

    def take(self, rows: Array) -> Labelled:
        """Some of the rows. Their lines are not known any more, so check the whole first."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return replace(self, items=tuple(self.items[row] for row in rows.tolist()), numbers=numbers)

    @property
    def has_images(self) -> bool:
        """Whether any row has a picture."""
        return any(item.image is not None for item in self.items)

    @property
    def has_texts(self) -> bool:
        """Whether any row has a text."""
        return any(item.text for item in self.items)

    def where(self, rows: Iterable[int]) -> str:
        """Where these rows stand, for a message: line numbers of a table, names in folders."""
        lines = _lines(self.source)
        found = {self.places[row] if self.places else row: self.items[row].id for row in rows}
        named = [f"line {lines[place]} ({id})" if lines else id for place, id in islice(found.items(), NAMED)]
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return ", ".join(named) + more


def parts(target: str) -> tuple[str, ...]:
    """The labels of one cell, each once."""
    return tuple(dict.fromkeys(name for part in SEPARATORS.split(target) if (name := part.strip())))


def _lines(source: str) -> Sequence[int] | None:
    """The line of each row of a table; read again, since only a message asks for it."""
    if not is_table_name(source):
        return None
    from cmprompt.sources.rows import read_rows

    return [row.line for row in read_rows(source)]
