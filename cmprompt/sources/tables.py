"""Tables of pictures, texts and targets: CSV, TSV, JSON lines, Parquet. Rows stream; a bad one is named by its line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmprompt.errors import ItemError, UsageError, unknown
from cmprompt.sources.options import SourceOptions, failed, image_at
from cmprompt.sources.rows import Row, read_rows
from cmprompt.types import HeldBytes, Item
from cmprompt.utf8 import clean

# In order of preference; a column's name is compared in lower case, with "_" for spaces and hyphens.
IMAGE_NAMES = (
    "image img photo picture image_path img_path image_file path filepath file_path file filename file_name"
    " image_name image_url img_url url uri"
).split()
TEXT_NAMES = "text caption captions description title sentence sentences comment review query alt alt_text".split()
TARGET_NAMES = "label target class category class_name label_name category_name labels y price score rating".split()


class _Others(Mapping[str, str]):
    """The cells of a row beside its picture, as text. One is made when it is asked for, and most never are."""

    def __init__(self, cells: Mapping[str, Any], image: str | None) -> None:
        self._cells = cells
        self._image = image

    def __getitem__(self, name: str) -> str:
        if name == self._image:
            raise KeyError(name)
        return clean(_together(self._cells[name]))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._cells if name != self._image)

    def __len__(self) -> int:
        return len(self._cells) - (self._image in self._cells)


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; None for one that is not there."""

    image: str | None
    text: str | None
    target: str | None

    @property
    def names(self) -> list[str]:
        """Of those that are there."""
        return [name for name in (self.image, self.text, self.target) if name is not None]


def read_table(path: str, options: SourceOptions) -> Iterator[Item]:
    """One item for each row; `id` is the picture's cell as written, or `table:line` where there is none.

    Raises UsageError, which names the line.
    """
    columns = Columns(None, None, None)
    names: tuple[str, ...] | None = None
    for row in read_rows(path):
        if tuple(row.cells) != names:  # a line of JSON has its own
            names = tuple(row.cells)
            columns = _completed(columns, choose_columns(path, [*columns.names, *names], options))
        yield _item(path, row, columns)


def choose_columns(path: str, names: Sequence[str], options: SourceOptions) -> Columns:
    """The columns that the flags name, else a head's own, else those whose names are known.

    Raises UsageError where none is.
    """
    columns = Columns(
        _column(path, names, options, "image_col", IMAGE_NAMES),
        _column(path, names, options, "text_col", TEXT_NAMES),
        _column(path, names, options, "target_col", TARGET_NAMES),
    )
    if columns.image is None and columns.text is None:
        raise UsageError(
            f"{path}: no column of pictures or texts among {', '.join(map(repr, names))}; name one by --image-col"
        )
    return columns


def _completed(columns: Columns, found: Columns) -> Columns:
    """`columns`, those that are missing as `found`: what a first row had no cell for, a later one may have."""
    return Columns(
        found.image if columns.image is None else columns.image,
        found.text if columns.text is None else columns.text,
        found.target if columns.target is None else columns.target,
    )


def _column(path: str, names: Sequence[str], options: SourceOptions, field: str, known: Sequence[str]) -> str | None:
    asked: str | None = getattr(options, field)
    if asked is not None:
        if asked not in names:
            raise UsageError(f"{path}: --{field.replace('_', '-')}: {unknown('column', asked, names)}")
        return asked
    if (usual := options.usual_columns.get(field)) in names:
        return usual
    plain = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}
    return next((plain[name] for name in known if name in plain), None)


def _item(path: str, row: Row, columns: Columns) -> Item:
    def cell(name: str | None, plain: Callable[[Any], str] = _plain) -> str | None:
        value = plain(row.cells.get(name)) if name else None
        return clean(value) if value else None

    id, image = _picture(path, row, columns.image)
    if image is None and cell(columns.text) is None:
        return failed(id, ItemError("missing", f"{path}, line {row.line}: neither a picture nor a text"))
    return Item(
        id,
        image,
        text=cell(columns.text),
        target=(cell(columns.target, _together) or "").strip() or None,
        columns=_Others(row.cells, columns.image),
        captions=_captions(row.cells.get(columns.text)) if columns.text else (),
    )


def _picture(path: str, row: Row, name: str | None) -> tuple[str, Callable[[], bytes] | None]:
    """The item's id, and how to get the picture: bytes in the cell itself, or a path relative to the table."""
    value = row.cells.get(name) if name else None
    data: bytes | None = None
    if isinstance(value, Mapping):  # the Hugging Face convention: {"bytes", "path"}
        data, value = value.get("bytes"), value.get("path")
    elif isinstance(value, bytes):
        data, value = value, None
    written = value if isinstance(value, str) and value else None
    id = written or f"{path}:{row.line}"
    if isinstance(data, bytes):
        return id, HeldBytes(data)
    if written is None:
        return id, None
    return id, image_at(written if "://" in written else os.path.join(os.path.dirname(path), written))


def _together(value: Any) -> str:
    """A cell as text; of a list, all its entries (labels, choices)."""
    value = _own(value)
    return " | ".join(map(_spelled, value)) if isinstance(value, list | tuple) else _spelled(value)


def _plain(value: Any) -> str:
    """A cell as text; of a list, its first entry (one of several captions)."""
    value = _own(value)
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return _spelled(value)


def _captions(value: Any) -> tuple[str, ...]:
    """The entries of a list that say something; none for a cell of one text."""
    value = _own(value)
    entries = map(_spelled, value) if isinstance(value, list | tuple) else ()
    return tuple(clean(entry) for entry in entries if entry)


def _own(value: Any) -> Any:
    """Python's own value of a cell; numbers may be in Arrow's hands until they are asked for."""
    return value.as_py() if hasattr(value, "as_py") else value


def _spelled(value: Any) -> str:
    """One value as text: what is true, false or holds others as JSON writes it, nothing for null and for NaN, which is
    how tables of numbers say so; bytes as UTF-8.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=_spelled)
    return str(value)
