"""Labelled data: a table or class folders, checked whole before anything is computed, and its splits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cmprompt.errors import UsageError, counted
from cmprompt.labelled import checks
from cmprompt.labelled.rows import Labelled
from cmprompt.sources import SourceOptions, read_items
from cmprompt.sources.names import is_table_name
from cmprompt.types import Array, Item

TASKS = ("classification", "regression", "retrieval", "alignment")


def read_labelled(
    source: str,
    options: SourceOptions = SourceOptions(),  # noqa: B008
    *,
    task: str = "classification",
    multi_label: bool = False,
    level: int | None = None,
    to_train: bool = False,
) -> Labelled:
    """Every row of a table, or every picture of a folder of class folders. Retrieval wants no targets, and takes each
    caption for a row; under `multi_label` a row may have none. `level` N cuts labels a/b/c to their first N parts.

    Raises UsageError that names the lines: rows without a target or anything to see, pictures that are not there, one
    picture with two labels, numbers that are none; of what is `to_train` on, only one label or number.
    """
    if not os.path.isdir(source) and not os.path.isfile(source):
        raise UsageError(f"no such table or folder: {source!r}")
    items = tuple(read_items([source], with_classes(source, options)))
    data = Labelled(source, items, multi_label=multi_label)
    if not items:
        raise UsageError(f"{source}: no rows")
    checks.pictures(data)
    if task == "retrieval":
        data = data.one_caption_each()
        checks.some_pair(data)
        return data
    if not (multi_label and any(item.target for item in items)):
        checks.targets(data)
    if task == "regression":
        if level is not None:
            raise UsageError(f"--level {level} cuts labels a/b/c, and --task regression has numbers; leave it out")
        return replace(data, numbers=checks.numbers(data, to_train=to_train))
    data = data if level is None else data.at_level(level)
    checks.one_answer_each(data)
    if to_train and len(names := data.names) < 2:
        raise UsageError(f"{source}: every row has the label {names[0]!r}; at least two labels are needed")
    return data


def with_classes(source: str, options: SourceOptions) -> SourceOptions:
    """The `options` that take the class folders of a folder for its labels, and clips.

    Raises UsageError for flags that name a column where there is none, and for a folder of splits.
    """
    checks.splits(source)
    return _whole(source, options)


def read_pictures(source: str, options: SourceOptions) -> list[Item]:
    """Every picture or clip of a folder or table, with the target that its class folder or its row may give."""
    return list(read_items([source], _whole(source, options)))


def _whole(source: str, options: SourceOptions) -> SourceOptions:
    """The same for a folder of splits too."""
    checks.columns(source, options)
    return replace(options, class_folders=os.path.isdir(source), videos=True)


def targets_among(items: Sequence[Item], labels: Sequence[str]) -> Array | None:
    """(N,) the place of each item's target among `labels`, -1 where it has none there; None where no item has one."""
    places: dict[str | float | None, int] = {label: place for place, label in enumerate(labels)}
    target = np.array([places.get(item.target, -1) for item in items], np.int64)
    return target if (target >= 0).any() else None


def columns_of(source: str, options: SourceOptions) -> dict[str, str]:
    """The names of the columns that are read, by the fields of their flags; none for folders and for no rows, of a
    shard only those that flags name."""
    if not is_table_name(source):
        asked = {field: getattr(options, field) for field in ("text_col", "target_col")}
        return {} if os.path.isdir(source) else {field: name for field, name in asked.items() if name}
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
    if is_table_name(data.source):
        return columns_line(data.source, columns_of(data.source, options))
    labels = [name for name in data.names if name]
    if os.path.isdir(data.source):
        return f"{data.source}: {counted(len(labels), 'class folder')}"
    of = f" of {counted(len(labels), 'label')}" if labels and data.numbers is None else ""
    return f"{data.source}: {counted(len(data.items), 'row')}{of}"
