"""JSON Lines: one record a line, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

from cmprompt.writers.records import Record

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # `json.dumps` makes a new one each time


def to_line(record: Mapping[str, Any]) -> bytes:
    """One record as a line. Half a surrogate pair, which UTF-8 cannot hold, becomes its JSON escape."""
    return _encoder.encode(record).encode("utf-8", "backslashreplace") + b"\n"


class JsonlWriter:
    """With a header, the first line is `{"header": {...}}`."""

    def __init__(self, stream: BinaryIO, header: Mapping[str, Any] | None = None) -> None:
        self._stream = stream
        if header is not None:
            stream.write(to_line({"header": header}))

    def write(self, record: Record) -> None:
        self._stream.write(to_line(record))

    def close(self) -> None:
        self._stream.flush()
