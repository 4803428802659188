"""CSV as Python's csv module writes it: UTF-8, quoted where needed, lines end with newline alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from cmprompt.writers.records import FIELDS, Record, cell_of, own_names

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula


class CsvWriter:
    """Every field of a record has its column, then `columns`, by default what else the first record has. Lists are
    JSON.

    `safe` puts an apostrophe before text that a spreadsheet would run as a formula; numbers stay numbers.
    """

    def __init__(
        self,
        stream: BinaryIO,
        header: Mapping[str, Any] | None = None,
        *,
        safe: bool = False,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._stream = stream
        self._safe = safe
        self._columns: tuple[str, ...] = ()
        if columns is not None:
            self._begin(columns)

    def write(self, record: Record) -> None:
        if not self._columns:
            self._begin(own_names(record))
        self._stream.write(to_line((record.get(name) for name in self._columns), self._safe))

    def close(self) -> None:
        if not self._columns:
            self._begin(())
        self._stream.flush()

    def _begin(self, columns: Sequence[str]) -> None:
        self._columns = (*FIELDS, *columns)
        self._stream.write(to_line(self._columns, self._safe))


def to_line(values: Iterable[Any], safe: bool) -> bytes:
    """One row as a line; where `safe`, with an apostrophe before text that a spreadsheet would run as a formula."""
    text = io.StringIO()
    cells = (f"'{cell_of(value)}" if safe and _is_formula(value) else cell_of(value) for value in values)
    # the module quotes a carriage return only where its line ending holds one
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def _is_formula(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_FORMULA)
