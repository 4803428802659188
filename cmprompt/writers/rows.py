"""Rows that are not predictions: hits, suspicions, figures. Any keys, the first row's are the columns."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmprompt.atomic import check_folder, replacing, writing
from cmprompt.errors import OutputError
from cmprompt.types import Item
from cmprompt.utf8 import printable
from cmprompt.writers import choose_format, jsonl, make_writer
from cmprompt.writers.csv import to_line
from cmprompt.writers.records import cell_of, identity, rounded
from cmprompt.writers.table import LINES, width_of
from cmprompt.writers.tsv import ESCAPES

Row = Mapping[str, Any]
ID_WIDTH = 32  # of a table's columns the last to give way: a name cut short is of no use


def identity_of(id: str) -> dict[str, Any]:
    """`id`, and `path_b64` beside it for a name that is not UTF-8."""
    return identity(Item(id, None))


def second_of(time_s: float | None) -> dict[str, Any]:
    """`time_s` of a frame of a video; nothing for what is none."""
    return {} if time_s is None else {"time_s": rounded(time_s)}


def write_rows(
    rows: Iterable[Row],
    *,
    output: str | None = None,
    format: str | None = None,
    overwrite: bool = False,
    columns: Sequence[str] | None = None,
    csv_safe: bool = False,
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write to `output`, whole or not at all, or to standard output. `columns` are those that table and TSV show.

    `csv_safe` defuses the formulas of a CSV file, as `CsvWriter` does; `header` is the first line of JSONL, as
    `JsonlWriter` writes it.
    Raises OutputError where the file cannot be written or is there already, UsageError for an unknown format.
    """
    form = choose_format(format, output, terminal=sys.stdout.isatty())
    data = to_bytes([dict(row) for row in rows], form, columns, csv_safe=csv_safe)
    if header is not None and form == "jsonl":
        data = jsonl.to_line({"header": header}) + data
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_file(output, data, overwrite=overwrite)


def check_output(
    output: str | None, format: str | None, overwrite: bool, *, others: Sequence[str] = (), flag: str = "-o"
) -> None:
    """Raise before the work what `write_rows` would raise after it: OutputError, and UsageError as `choose_format`."""
    choose_format(format, output, terminal=sys.stdout.isatty(), others=others, flag=flag)
    if output is not None:
        check_file(output, overwrite)


def check_file(path: str, overwrite: bool) -> None:
    """Raise before the work what `write_file` would raise after it: OutputError."""
    _free(path, overwrite)


def _free(path: str, overwrite: bool) -> Path:
    """The real path. Raises OutputError where there is something already, or no folder."""
    target = Path(os.path.realpath(path))
    check_folder(target, path)
    if target.exists() and not overwrite:
        raise OutputError(f"{path} is there already; --overwrite replaces it, or name another file")
    return target


def write_file(path: str, data: bytes, *, overwrite: bool) -> None:
    """Put `data` into a new file, whole or not at all. Raises OutputError."""
    target = _free(path, overwrite)
    with writing(path), replacing(target) as stream:
        stream.write(data)


def to_bytes(rows: Sequence[Row], form: str, columns: Sequence[str] | None = None, *, csv_safe: bool = False) -> bytes:
    """The rows in one of the formats."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    if form == "jsonl":
        return b"".join(map(jsonl.to_line, rows))
    if form == "csv":
        return _csv(rows, names, csv_safe)
    if form == "parquet":
        return _parquet(rows, names)
    if form not in ("tsv", "table"):
        return _as_records(rows, form)
    shown = [name for name in columns or names if name in names]
    return _tsv(rows, shown) if form == "tsv" else _table(rows, shown)


def _as_records(rows: Sequence[Row], form: str) -> bytes:
    """By the writer of records, where the format has no other way for rows."""
    stream = io.BytesIO()
    writer = make_writer(form, stream)
    for row in rows:
        writer.write(dict(row))
    writer.close()
    return stream.getvalue()


def _csv(rows: Sequence[Row], names: Sequence[str], safe: bool) -> bytes:
    lines = (to_line((row.get(name) for name in names), safe) for row in rows)
    return to_line(names, safe) + b"".join(lines)


def _tsv(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    lines = ["\t".join(cell_of(row.get(name)).translate(ESCAPES) for name in names) for row in rows]
    return "".join(line + "\n" for line in lines).encode()


def _parquet(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), sink, compression="zstd")
    return sink.getvalue()


def _table(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    if not rows:
        return b""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False)
    names = [name for name in names if any(row.get(name) not in (None, "ok") for row in rows)]
    for name in names:
        number = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        least = min(ID_WIDTH, max(len(cell_of(row.get(name))) for row in rows)) if name == "id" else None
        table.add_column(
            name, justify="right" if number else "left", overflow="ellipsis", no_wrap=number, min_width=least
        )
    for row in rows:
        table.add_row(*(printable(_shown(row.get(name))) for name in names))
    width = width_of(sys.stdout.isatty())
    console = Console(file=io.StringIO(), width=width, height=LINES, highlight=False, markup=False)
    console.print(table)
    return str(console.file.getvalue()).encode()  # type: ignore[attr-defined]


def _shown(value: Any) -> str:
    """A cell for eyes: numbers with the same decimals stand under each other."""
    return f"{value:.4f}" if isinstance(value, float) else cell_of(value)
