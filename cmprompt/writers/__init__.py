"""Records to files and terminals. A writer is two methods; a new format is one file and one line in `registry.py`.

Writers are made as `Writer(stream, header=None, **options)`: `stream` is binary, `header` the run's header for the
formats that can hold it. They take the records that `records.to_record` makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from cmprompt.errors import UsageError, unknown
from cmprompt.registry import WRITERS, resolve
from cmprompt.writers.records import Record, to_record

__all__ = ["COLUMNAR", "Record", "Writer", "choose_format", "make_writer", "to_record"]

COLUMNAR = ("tsv", "csv", "parquet")  # formats that have the same columns from the first record to the last


class Writer(Protocol):
    """Takes records one at a time, in order."""

    def write(self, record: Record) -> None:
        """Add one record."""
        ...

    def close(self) -> None:
        """Write what is still held back. Leaves the stream open: who opened it closes it."""
        ...


def make_writer(
    name: str,
    stream: BinaryIO,
    header: Mapping[str, Any] | None = None,
    *,
    csv_safe: bool = False,
    columns: Sequence[str] | None = None,
) -> Writer:
    """The writer that `name` calls. Raises UsageError that lists the known formats.

    `columns`: what records have beside FIELDS, for the formats in COLUMNAR; by default what the first record has.
    """
    options: dict[str, Any] = {"safe": True} if csv_safe and name == "csv" else {}
    options |= {"columns": columns} if columns is not None and name in COLUMNAR else {}
    writer: Writer = resolve(WRITERS, "format", name)(stream, header, **options)
    return writer


def choose_format(
    asked: str | None, output: str | None, *, terminal: bool, others: Sequence[str] = (), flag: str = "-o"
) -> str:
    """The format: the one asked for, else what the output's name ends with, else a table on a terminal, else TSV.

    Raises UsageError for a name that says nothing; it names the `flag` that gave the name, beside which --format says
    nothing unless it is -o, and the `others` too, endings that the caller sees to itself.
    """
    if asked is not None:
        if asked not in WRITERS:
            raise UsageError(unknown("format", asked, WRITERS))
        return asked
    if output is None:
        return "table" if terminal else "tsv"
    ending = output.rpartition(".")[2].lower()
    ending = {"ndjson": "jsonl", "txt": "table", "pq": "parquet"}.get(ending, ending)
    if ending not in WRITERS:
        instead = f"name a file that ends in {' or '.join(others)}, or " if others else ""
        how = f"{instead}add --format, one of" if flag == "-o" else "end it in one of"
        raise UsageError(f"{flag} {output}: its ending names no format; {how} {', '.join(WRITERS)}")
    return ending
