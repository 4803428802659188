"""Notices on stderr, which --quiet leaves out."""

from __future__ import annotations

import sys
from collections.abc import Callable

Say = Callable[[str], None]


def speaker(quiet: bool) -> Say:
    """A function that puts one notice on stderr, or nowhere."""

    def say(message: str) -> None:
        if not quiet:
            print(f"cmprompt: {message}", file=sys.stderr)

    return say
