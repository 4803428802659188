"""Records to files and terminals. A writer is two methods; a new format is one file and one line in `registry.py`.

Writers are made as `Writer(stream, header=None, **options)`: `stream` is binary, `header` the run's header for the
formats that can hold it. They take the records that `records.to_record` makes.
"""

from __future__ import annotations

from typing import Protocol

from cmprompt.writers.records import Record, to_record

__all__ = ["Record", "Writer", "to_record"]


class Writer(Protocol):
    """Takes records one at a time, in order."""

    def write(self, record: Record) -> None:
        """Add one record."""
        ...

    def close(self) -> None:
        """Write what is still held back. Leaves the stream open: who opened it closes it."""
        ...
