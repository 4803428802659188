"""The rows of a table file, one at a time, each with the line it begins on."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any

from cmprompt.errors import UsageError

MAX_CELL_CHARACTERS = 131_072  # the csv module's own limit, for every kind of text
_MAX_LINE_CHARACTERS = 1 << 23
_BATCH_ROWS = 64


@dataclass(frozen=True)
class Row:
    """`line` counts from 1; in Parquet it is the row's number."""

    line: int
    cells: dict[str, Any]


def read_rows(path: str) -> Iterator[Row]:
    """Raises UsageError: not there, not a table, or a bad line."""
    if not os.path.isfile(path):
        raise UsageError(f"no such table: {path!r}")
    ending = os.path.splitext(path)[1].lower()
    if ending == ".parquet":
        yield from _parquet(path)
        return
    try:
        with _open_text(path) as stream:
            yield from _json_lines(path, stream) if ending == ".jsonl" else _separated(path, stream, ending == ".tsv")
    except OSError as error:
        raise UsageError(f"cannot read {path!r}: {error.strerror}") from error


def _open_text(path: str) -> TextIOWrapper:
    """UTF-8 with or without a BOM, or UTF-16 with one; other bytes are kept, since they may be a file's name."""
    with open(path, "rb") as file:
        is_utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    encoding, errors = ("utf-16", "replace") if is_utf16 else ("utf-8-sig", "surrogateescape")
    return open(path, encoding=encoding, errors=errors, newline="")


def _lines(path: str, stream: TextIOWrapper) -> Iterator[str]:
    """The lines of a table. Raises UsageError for one that would fill the memory."""
    line = 0
    while text := stream.readline(_MAX_LINE_CHARACTERS):
        line += 1
        if len(text) == _MAX_LINE_CHARACTERS:
            raise UsageError(f"{path}, line {line}: longer than {_MAX_LINE_CHARACTERS} characters")
        yield text


def _separated(path: str, stream: TextIOWrapper, is_tsv: bool) -> Iterator[Row]:
    first = stream.readline(_MAX_LINE_CHARACTERS)
    stream.seek(0)
    lines = _lines(path, stream)
    if is_tsv:  # captions in TSV hold bare quotes
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=";" if ";" in first and "," not in first else ",")
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            cells = [_unquoted(cell) for cell in cells] if is_tsv else cells
            if header is None:
                header = _checked_header(path, cells)
            elif cells:
                if len(cells) != len(header):
                    raise UsageError(f"{path}, line {line}: {len(cells)} cells, but the header has {len(header)}")
                yield Row(line, dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{path}, line {line}: {error}") from error
    if header is None:
        raise UsageError(f"{path} is empty; its first line must name the columns")


def _checked_header(path: str, header: list[str]) -> list[str]:
    header = [name.strip() for name in header]
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise UsageError(f"{path}, line 1: columns of the same name: {', '.join(map(repr, sorted(twice)))}")
    return header


def _unquoted(cell: str) -> str:
    is_quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"') if is_quoted else cell


def _json_lines(path: str, stream: TextIOWrapper) -> Iterator[Row]:
    for line, text in enumerate(_lines(path, stream), 1):
        if text.strip():
            yield Row(line, _object(f"{path}, line {line}", text))


def _object(where: str, text: str) -> dict[str, Any]:
    try:
        cells = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(cells, dict):
        raise UsageError(f'{where}: not an object like {{"image": "a.jpg"}}')
    for name, value in cells.items():
        if isinstance(value, str) and len(value) > MAX_CELL_CHARACTERS:
            raise UsageError(f"{where}: {name!r} is longer than {MAX_CELL_CHARACTERS} characters")
    return cells


def _parquet(path: str) -> Iterator[Row]:
    """Batch by batch; buffered reads keep a row group of pictures from being loaded at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as table:
            classes = _class_names(table.schema_arrow.metadata or {})
            for batch in table.iter_batches(_BATCH_ROWS):
                columns = {name: _values(name, batch.column(i)) for i, name in enumerate(batch.schema.names)}
                columns.update({name: _named(columns[name], classes[name]) for name in columns.keys() & classes.keys()})
                for row in range(batch.num_rows):
                    line += 1
                    cells = {name: values[row] for name, values in columns.items()}
                    yield Row(line, cells)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"cannot read {path!r} after row {line}: {error}") from error


def _values(name: str, column: Any) -> list[Any]:
    """A column's cells; as text where Python has no value for one: a date far away, nanoseconds, bytes not UTF-8.
    Lists of floats, which are vectors, stay Arrow's: Python's take eight times the room, and few are asked for.

    Raises ArrowException.
    """
    import pyarrow as pa

    if _is_vector(column.type):
        return list(column)
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError) as error:
        try:
            texts = column.cast(pa.string()).cast(pa.binary()).to_pylist()
        except pa.ArrowException:
            raise pa.ArrowInvalid(f"column {name!r}: {error}") from error
    return [None if text is None else text.decode("utf-8", "surrogateescape") for text in texts]


def _is_vector(kind: Any) -> bool:
    """Whether it is the type of lists of floats."""
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of numbered classes by their column, which Hugging Face data sets keep beside the schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: [*map(str, its["names"])] for name, its in features.items() if its["_type"] == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _named(numbers: list[Any], names: list[str]) -> list[Any]:
    """Each class by its name, none for -1, which stands for no label; what is no such number as it is."""
    of = {**dict(enumerate(names)), -1: None}
    return [of.get(number, number) if isinstance(number, int) else number for number in numbers]
