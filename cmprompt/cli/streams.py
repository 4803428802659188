"""The three standard streams, as a shell may hand them over: closed, or in an encoding that cannot hold every name."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """What is closed reads as empty and swallows what it is given; any text can be written to what is open.

    Files and pipes get UTF-8, as the records are; a terminal keeps its encoding and shows the rest as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in order: each takes its own free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
