"""Parquet with one fixed schema, written a row group at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, BinaryIO

from cmprompt.writers.records import FIELDS, SECONDS, Record, own_names

ROWS_PER_GROUP = 16_384
ENTRIES_PER_GROUP = 1 << 20  # in the lists of its rows, which a record of every label has a thousand of


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
        self._entries = 0
        self._writer: Any = None

    def write(self, record: Record) -> None:
        self._rows.append(record)
        self._entries += sum(len(value) for value in record.values() if isinstance(value, list))
        if len(self._rows) == ROWS_PER_GROUP or self._entries >= ENTRIES_PER_GROUP:
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
        arrays = [_column(self._rows, field.name, field.type) for field in schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._rows, self._entries = [], 0


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


def _column(rows: Sequence[Record], name: str, kind: Any) -> Any:
    """What the rows have under a name, as an array of this type."""
    import pyarrow as pa

    values = [row.get(name) for row in rows]
    if name == "top":
        return _top(values, kind)
    return pa.array(values if name in (*FIELDS, *SECONDS) else [_text(value) for value in values], kind)


def _top(values: Sequence[Any], kind: Any) -> Any:
    """Lists of labels with their scores, null for None. Made of its parts, since a dict for each entry takes more room
    than all else."""
    import pyarrow as pa

    entries = [entry for value in values for entry in value or ()]
    parts = [pa.array([entry[place] for entry in entries], field.type) for place, field in enumerate(kind.value_type)]
    ends = list(accumulate((len(value or ()) for value in values), initial=0))
    starts = [None if value is None else start for value, start in zip(values, ends[:-1], strict=True)]
    offsets = pa.array([*starts, ends[-1]], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(parts, fields=list(kind.value_type)), kind)


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return None if value is None else str(value)
