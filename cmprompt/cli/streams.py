"""The three standard streams, as a shell may hand them over: closed, or in an encoding that cannot hold every name."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def prepare_streams() -> None:
    """What is closed reads as empty and swallows what it is given; any text can be written to what is open.

    Files and pipes get UTF-8, as the records are; a terminal keeps its encoding and shows the rest as escapes. What
    stderr does not take, since its reader has left, is lost.
    """
    if sys.stderr:
        sys.stderr = _Notices(sys.stderr.buffer, sys.stderr.encoding, line_buffering=True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in order: each takes its own free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


class _Notices(io.TextIOWrapper):
    """A stream that nobody has to read."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()
