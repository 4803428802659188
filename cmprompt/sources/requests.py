"""Requests on standard input: one JSON object a line, for a program that asks about one picture at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from cmprompt.errors import ItemError
from cmprompt.sources.options import failed, image_at
from cmprompt.types import Item
from cmprompt.utf8 import clean

MAX_LINE_BYTES = 1 << 20


def read_requests(stream: BinaryIO) -> Iterator[Item]:
    """`{"path": "a.jpg", "id": "7", "text": "..."}` on each line; `id` is the path where it is not given.

    A line that makes no sense or is too long is an item that fails, so that every line has its answer; empty ones
    have none.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"line {number}"
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            _pass_over_line(stream)
            yield failed(where, ItemError("too_large", f"{where} is over {MAX_LINE_BYTES >> 20} MB"))
        elif line.strip():
            yield _item(line, where)


def _pass_over_line(stream: BinaryIO) -> None:
    """Read to the end of a line, holding only a part of it."""
    while (part := stream.readline(MAX_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _item(line: bytes, where: str) -> Item:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deep
        request = None
    if not isinstance(request, dict) or not isinstance(request.get("path"), str):
        return failed(where, ItemError("unreadable", f'{where} is no JSON object with a "path"'))
    path = request["path"]
    return Item(_text(request.get("id", path)), image_at(path), text=clean(_text(request.get("text"))) or None)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
