"""How far a run got: its records as JSON Lines beside the output, appended a batch at a time.

The first line says what the run is; a run that goes on must be the same. What a kill left half-written is cut off, back
to a whole batch, so that a run that goes on forms the batches of an uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cmprompt.types import Item
from cmprompt.writers.jsonl import to_line
from cmprompt.writers.records import Record, identity

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
                if not _is_whole(line):
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

    def lines(self) -> Iterator[bytes]:
        """The records as JSON Lines, in order."""
        with open(self.path, "rb") as file:
            file.readline()
            yield from islice(file, self.done)

    def close(self) -> None:
        """Let go of the file; it stays."""
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._end += len(data)


def status_in(line: bytes, item: Item) -> str | None:
    """The status in the line of the record of `item`; None where it is another's.

    A record begins with what names its item and the status. The rest is not parsed: it may be the scores of a thousand
    labels, and there may be a hundred million lines.
    """
    begin = to_line(identity(item)).removesuffix(b"}\n") + b', "status": "'
    return line[len(begin) :].partition(b'"')[0].decode() if line.startswith(begin) else None


def _is_whole(line: bytes) -> bool:
    """Whether a record's line is neither torn nor foreign. A block that never came to the disk holds NUL bytes."""
    return line.startswith(b'{"id": ') and line.endswith(b"}\n") and b"\0" not in line


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object in the first line; None where that is torn or foreign."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
