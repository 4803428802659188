"""Answers to --stdin-jsonl: one JSON object a line on standard output, none of them held back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any


def answer(records: Iterable[Mapping[str, Any]]) -> None:
    """Write the records of one or several requests. Raises OutputError; BrokenPipeError passes."""
    from cmprompt.atomic import writing
    from cmprompt.writers.jsonl import to_line

    with writing("standard output"):
        for record in records:
            sys.stdout.buffer.write(to_line(record))
        sys.stdout.buffer.flush()
