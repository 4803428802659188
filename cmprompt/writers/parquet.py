"""Parquet with one fixed schema, written a row group at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from cmprompt.writers.records import FIELDS, SECONDS, Record, own_names

ROWS_PER_GROUP = 16_384


class ParquetWriter:
    """The columns are the record's fields, then `columns`, by default what else the first record has, as text but
    for seconds.

    The run's header is in the file's metadata under `cmprompt`.
    """

    def __init__(
        self, stream: BinaryIO, header: Mapping[str, Any] | None = None, *, columns: Sequence[str] | None = None
    ) -> None:
        self._stream = stream
        self._columns = columns
        self._metadata = {} if header is None else {"cmprompt": json.dumps(header)}
        self._rows: list[Record] = []
        self._writer: Any = None

    def write(self, record: Record) -> None:
        self._rows.append(record)
        if len(self._rows) == ROWS_PER_GROUP:
            self._write_group()

    def close(self) -> None:
        if self._rows or self._writer is None:
            self._write_group()
        self._writer.close()
        self._stream.flush()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._writer is None:
            columns = own_names(self._rows[0] if self._rows else {}) if self._columns is None else self._columns
            schema = _schema(columns).with_metadata(self._metadata)
            self._writer = open_parquet(self._stream, schema, compression="zstd")
        schema = self._writer.schema
        kept = [name for name in schema.names if name not in (*FIELDS, *SECONDS)]
        rows = [{**row, **{name: _text(row.get(name)) for name in kept}, "top": _top(row)} for row in self._rows]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        self._rows = []


def open_parquet(stream: BinaryIO, schema: Any, **options: Any) -> Any:
    """pyarrow's writer of tables. One that an error leaves behind is not finished when it is collected: its stream is
    closed by then."""
    import pyarrow.parquet as pq

    class Writer(pq.ParquetWriter):  # type: ignore[misc]
        def __del__(self) -> None:
            pass

    return Writer(stream, schema, **options)


def _schema(columns: Sequence[str]) -> Any:
    """The fixed fields and then `columns`."""
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    top = pa.list_(pa.struct([("label", text), ("score", pa.float64())]))
    types = {"labels": texts, "flags": texts, "top": top}
    types |= {name: pa.float64() for name in ("score", "cosine", "margin", "value", *SECONDS)}
    return pa.schema([(name, types.get(name, text)) for name in (*FIELDS, *columns)])


def _top(row: Record) -> list[dict[str, Any]] | None:
    top = row.get("top")
    return None if top is None else [{"label": label, "score": score} for label, score in top]


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return None if value is None else str(value)
