"""How far a run got: its records as JSON Lines beside the output, appended a batch at a time.

The first line says what the run is; a run that goes on must be the same. What a kill left half-written is cut off, back
to a whole batch, so that a run that goes on forms the batches of an uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmprompt.writers.jsonl import to_line
from cmprompt.writers.records import Record

VERSION = 1


class Journal:
    """An open journal; `done` records are in it. Raises OSError where the disk refuses."""

    def __init__(self, path: Path, header: Mapping[str, Any], done: int, end: int) -> None:
        self.path = path
        self.header = header
        self.done = done
        self._end = end  # bytes that are whole
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(path, flags, 0o666)
        os.ftruncate(self._descriptor, end)
        os.lseek(self._descriptor, end, os.SEEK_SET)

    @staticmethod
    def create(path: Path, header: Mapping[str, Any]) -> Journal:
        """A new journal in place of what is there."""
        journal = Journal(path, header, done=0, end=0)
        journal._write(to_line({"journal": VERSION, "header": header}))
        return journal

    @staticmethod
    def reopen(path: Path, batch_size: int) -> Journal | None:
        """The journal of a run that stopped, cut back to whole batches; None where there is nothing to go on from."""
        with open(path, "rb") as file:
            header = _parse(file.readline())
            if header is None or header.get("journal") != VERSION:
                return None
            done = count = 0
            end = position = file.tell()
            for line in file:
                if _parse(line) is None:
                    break
                count, position = count + 1, position + len(line)
                if count % batch_size == 0:
                    done, end = count, position
        return Journal(path, header["header"], done, end) if done else None

    def append(self, records: Sequence[Record]) -> None:
        """Add records; all of them or, on an error, none."""
        try:
            self._write(b"".join(map(to_line, records)))
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise
        self.done += len(records)

    def records(self) -> Iterator[Record]:
        """The records, in order."""
        with open(self.path, "rb") as file:
            file.readline()
            for _ in range(self.done):
                yield json.loads(file.readline())

    def close(self) -> None:
        """Let go of the file; it stays."""
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._end += len(data)


def _parse(line: bytes) -> dict[str, Any] | None:
    """A whole line's object; None for a torn or foreign one."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
