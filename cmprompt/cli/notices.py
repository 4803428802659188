"""Lines for people: notices on stderr, which --quiet leaves out, and text on standard output.

What strangers wrote (names, cells, labels) may hold control characters. A notice has their escapes, and so has text on
a terminal; a pipe or a file gets the text as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from cmprompt.utf8 import printable

Say = Callable[[str], None]


def speaker(quiet: bool) -> Say:
    """A function that puts one notice on stderr, in one line, or nowhere."""

    def say(message: str) -> None:
        if not quiet:
            print(f"cmprompt: {printable(message)}", file=sys.stderr)

    return say


def echo(*lines: str) -> None:
    """Lines on standard output."""
    typer.echo("\n".join(map(shown, lines)))


def shown(line: str) -> str:
    """A line as standard output should get it. Tabs part its cells."""
    return "\t".join(map(printable, line.split("\t"))) if sys.stdout.isatty() else line
