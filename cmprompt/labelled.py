"""Labelled data: a table or class folders, checked whole before anything is computed, and its splits."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.errors import UsageError, counted
from cmprompt.labels import first_parts
from cmprompt.sources import SourceOptions, read_items
from cmprompt.sources.names import is_table_name
from cmprompt.types import Array, Embedded, Encoder, Features, Item

if TYPE_CHECKING:
    from cmprompt.store import Store

TASKS = ("classification", "regression", "retrieval", "alignment")
SEPARATORS = re.compile(r"[|;]")  # between the labels of one cell
NAMED = 8  # lines that one message names


@dataclass(frozen=True)
class Labelled:
    """N items, each with a target. `numbers` (N,) float32 for regression, else None; `multi_label`: a target is any
    number of labels, `cat | outdoors`."""

    source: str
    items: tuple[Item, ...]
    numbers: Array | None = None
    multi_label: bool = False

    @property
    def targets(self) -> list[str]:
        """The label of each item."""
        return [str(item.target or "") for item in self.items]

    @property
    def names(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted({name for labels in self.label_sets for name in labels})

    @property
    def label_sets(self) -> list[tuple[str, ...]]:
        """The labels of each item."""
        return [parts(target) if self.multi_label else (target,) for target in self.targets]

    def check_labels(self, known: Collection[str], advice: str = "") -> None:
        """Raises UsageError that names the lines of labels that are not `known`, and ends in the `advice`."""
        others = [set(labels).difference(known) for labels in self.label_sets]
        if rows := [row for row, names in enumerate(others) if names]:
            strange = sorted(set().union(*others))
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
        places, lines = list(rows), _lines(self.source)
        named = [f"line {lines[i]} ({self.items[i].id})" if lines else self.items[i].id for i in places[:NAMED]]
        more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
        return ", ".join(named) + more


def read_labelled(
    source: str,
    options: SourceOptions = SourceOptions(),  # noqa: B008
    *,
    task: str = "classification",
    multi_label: bool = False,
    level: int | None = None,
    to_train: bool = False,
) -> Labelled:
    """Every row of a table, or every picture of a folder of class folders. Retrieval wants no targets; under
    `multi_label` a row may have none. `level` N cuts labels a/b/c to their first N parts.

    Raises UsageError that names the lines: rows without a target or anything to see, pictures that are not there, one
    picture with two labels, numbers that are none; of what is `to_train` on, only one label or number.
    """
    from cmprompt import row_checks as check

    folders = os.path.isdir(source)
    if not folders and not os.path.isfile(source):
        raise UsageError(f"no such table or folder: {source!r}")
    items = tuple(read_items([source], replace(options, class_folders=folders, videos=True)))
    data = Labelled(source, items, multi_label=multi_label)
    if not items:
        raise UsageError(f"{source}: no rows")
    check.pictures(data)
    if task == "retrieval":
        check.some_pair(data)
        return data
    if not (multi_label and any(item.target for item in items)):
        check.targets(data)
    if task == "regression":
        if level is not None:
            raise UsageError(f"--level {level} cuts labels a/b/c, and --task regression has numbers; leave it out")
        return replace(data, numbers=check.numbers(data, to_train=to_train))
    data = data if level is None else data.at_level(level)
    check.one_answer_each(data)
    if to_train and len(names := data.names) < 2:
        raise UsageError(f"{source}: every row has the label {names[0]!r}; at least two labels are needed")
    return data


def read_pictures(source: str, options: SourceOptions) -> list[Item]:
    """Every picture or clip of a folder or table, with the target that its class folder or its row may give."""
    return list(read_items([source], replace(options, class_folders=os.path.isdir(source), videos=True)))


def targets_among(items: Sequence[Item], labels: Sequence[str]) -> Array | None:
    """(N,) the place of each item's target among `labels`, -1 where it has none there; None where no item has one."""
    places: dict[str | float | None, int] = {label: place for place, label in enumerate(labels)}
    target = np.array([places.get(item.target, -1) for item in items], np.int64)
    return target if (target >= 0).any() else None


def known_vectors(source: str, batches: Iterable[Embedded]) -> tuple[list[Item], Array, int]:
    """The items of `source` that have an image vector, their (N, D) vectors, and how many items have none.

    Raises UsageError where none has one.
    """
    items: list[Item] = []
    parts: list[Array] = []
    failed, first = 0, ""
    for batch in batches:
        has_image = batch.features.has_image
        good = [place for place, outcome in enumerate(batch.outcomes) if outcome.status == "ok" and has_image[place]]
        failed += len(batch.outcomes) - len(good)
        first = first or next((str(each.error) for each in batch.outcomes if each.status != "ok"), "")
        if good and batch.features.image is not None:
            items += [batch.items[place] for place in good]
            parts.append(batch.features.image[good])
    if not parts:
        what = f"none of {counted(failed, 'picture')} can be read" if failed > 1 else "no picture can be read"
        raise UsageError(f"{source}: {what}{first and f' ({first})'}")
    return items, np.concatenate(parts), failed


def columns_of(source: str, options: SourceOptions) -> dict[str, str]:
    """The names of the columns that are read, by the fields of their flags; none for folders and for no rows."""
    if not is_table_name(source):
        return {}
    from cmprompt.sources.rows import read_rows
    from cmprompt.sources.tables import choose_columns

    first = next(read_rows(source), None)
    if first is None:
        return {}
    found = choose_columns(source, list(first.cells), options)
    named = {"image_col": found.image, "text_col": found.text, "target_col": found.target}
    return {field: name for field, name in named.items() if name}


def columns_line(source: str, columns: Mapping[str, str]) -> str:
    """One line that says what `columns_of` found."""
    return f"{source}: " + ", ".join(
        f"{field.removesuffix('_col')} = column {name!r}" for field, name in columns.items()
    )


def contents_line(data: Labelled, options: SourceOptions) -> str:
    """One line that says what was read: a table's columns, how many class folders, or rows and labels of a shard."""
    if columns := columns_of(data.source, options):
        return columns_line(data.source, columns)
    labels = [name for name in data.names if name]
    if os.path.isdir(data.source):
        return f"{data.source}: {counted(len(labels), 'class folder')}"
    of = f" of {counted(len(labels), 'label')}" if labels and data.numbers is None else ""
    return f"{data.source}: {counted(len(data.items), 'row')}{of}"


def embed_labelled(data: Labelled, encoder: Encoder, store: Store | None, needs: frozenset[str]) -> Features:
    """The vectors of every row, a clip's from all its frames. Raises UsageError that names the lines which failed."""
    from cmprompt.clips import pooled, with_frames
    from cmprompt.embed import embed

    return join_features(data, pooled(embed(with_frames(data.items), encoder, store, needs=needs)))


def embed_views(data: Labelled, encoder: Encoder, store: Store | None, count: int, seed: int) -> Array:
    """(N, count, D) vectors of random crops and flips of each row's picture, stored; zero where there is none."""
    from cmprompt.embed import embed
    from cmprompt.views import views_of

    places = [place for place, item in enumerate(data.items) if item.image is not None]
    views = tuple(view for place in places for view in views_of(data.items[place], encoder.preprocess, count, seed))
    rows = np.zeros((len(data.items), count, encoder.dim), np.float32)
    seen = join_features(Labelled("", views), embed(views, encoder, store)).image
    assert seen is not None
    rows[places] = seen.reshape(len(places), count, -1)
    return rows


def join_features(data: Labelled, batches: Iterable[Embedded]) -> Features:
    """The vectors of every row as one. Raises UsageError that names the lines which failed."""
    parts: list[Features] = []
    failed: dict[int, str] = {}
    for batch in batches:
        done = sum(map(len, parts))
        failed.update({done + i: str(o.error) for i, o in enumerate(batch.outcomes) if o.status != "ok"})
        parts.append(batch.features)
    if failed:
        first = next(iter(failed.values()))
        raise UsageError(f"{data.source}: {counted(len(failed), 'row')} cannot be read ({first}): {data.where(failed)}")
    return Features.joined(parts)


def photo_groups(features: Features) -> Array:
    """(N,) a number for each photo: rows with the same picture (or without one, the same text) have the same."""
    rows = features.text if features.image is None else features.image
    assert rows is not None
    keys = [row.tobytes() for row in rows]
    if features.image is not None and features.text is not None:
        keys = [features.text[i].tobytes() if not there else keys[i] for i, there in enumerate(features.has_image)]
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def parts(target: str) -> tuple[str, ...]:
    """The labels of one cell, each once."""
    return tuple(dict.fromkeys(name for part in SEPARATORS.split(target) if (name := part.strip())))


def _lines(source: str) -> Sequence[int] | None:
    """The line of each row of a table; read again, since only a message asks for it."""
    if not is_table_name(source):
        return None
    from cmprompt.sources.rows import read_rows

    return [row.line for row in read_rows(source)]
