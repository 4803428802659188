r"""Tab-separated: id, label, score, status, error, then a row's question, descriptions that won, and kept columns.

Tab, newline, carriage return and backslash are written \t, \n, \r and \\. Several labels are joined by `|`.
A regression's value stands in the score column. The columns' names are the first line only where a header is asked
for, so that every line is a record to `head`, `cut` and `wc -l`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from cmprompt.writers.records import Record, cell_of, own_names

COLUMNS = ("id", "label", "score", "status", "error")
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


class TsvWriter:
    """After the five, `columns`; by default what else the first record has."""

    def __init__(
        self, stream: BinaryIO, header: Mapping[str, Any] | None = None, *, columns: Sequence[str] | None = None
    ) -> None:
        self._stream = stream
        self._named = header is not None
        self._kept: Sequence[str] | None = None
        if columns is not None:
            self._begin(columns)

    def write(self, record: Record) -> None:
        if self._kept is None:
            self._begin(own_names(record))
        labels = record.get("labels")
        label = record.get("label") if labels is None else "|".join(labels) or record.get("label")
        score = record.get("value", record.get("score"))
        kept = (record.get(name) for name in self._kept or ())
        self._line(record["id"], label, score, record["status"], record.get("error"), *kept)

    def close(self) -> None:
        if self._kept is None:
            self._begin(())
        self._stream.flush()

    def _begin(self, kept: Sequence[str]) -> None:
        self._kept = kept
        if self._named:
            self._line(*COLUMNS, *kept)

    def _line(self, *cells: object) -> None:
        self._stream.write("\t".join(cell_of(cell).translate(ESCAPES) for cell in cells).encode() + b"\n")
