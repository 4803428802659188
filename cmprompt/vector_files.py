"""Vectors as files for other tools: .npy, .safetensors and .parquet, written as they come and renamed when complete.

Row i belongs to input i; where an input failed its row is NaN (null in Parquet). Parquet holds ids, statuses and errors
beside the vectors; the other two have them in `FILE.ids.jsonl`, one record for each row.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from cmprompt.atomic import beside, locked, replacing, writing
from cmprompt.errors import OutputError, UsageError, unknown
from cmprompt.types import Array, Embedded
from cmprompt.writers.records import clean, identity

ENDINGS = (".npy", ".parquet", ".safetensors")
HEADER_BYTES = 8192  # kept free for what is only known at the end: how many rows there are


class VectorFile(Protocol):
    """A file of vectors in the making."""

    def write(self, embedded: Embedded) -> None:
        """Add a batch."""
        ...

    def close(self) -> None:
        """Complete the file."""
        ...


@contextmanager
def vector_file(path: str, dim: int, about: Mapping[str, str], *, overwrite: bool = False) -> Iterator[VectorFile]:
    """A new file at `path`, its format by its ending; it appears when the block is left without an exception.

    Raises UsageError for an ending that is not known, OutputError where it cannot be written, is there already, or is
    being written by another run.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(unknown("kind of vector file", ending or path, ENDINGS))
    if target.exists() and not overwrite:
        raise OutputError(f"{path} is there already; --overwrite replaces it, -o names another file")
    with locked(target), writing(path), ExitStack() as files:
        stream = files.enter_context(replacing(target))  # entered first, so it is renamed last
        if ending == ".parquet":
            made: VectorFile = ParquetFile(stream, dim, about)
        else:
            made = ArrayFile(stream, files.enter_context(replacing(beside(target, "ids.jsonl"))), dim, ending, about)
        yield made
        made.close()


class ArrayFile:
    """.npy: (N, D) float32. .safetensors: the same as `image`, with the model that made it in the metadata."""

    def __init__(self, stream: BinaryIO, ids: BinaryIO, dim: int, ending: str, about: Mapping[str, str]) -> None:
        self._stream, self._ids, self._dim, self._ending, self._about = stream, ids, dim, ending, dict(about)
        self._count = 0
        stream.write(self._header())

    def write(self, embedded: Embedded) -> None:
        self._stream.write(image_rows(embedded, self._dim).tobytes())
        self._count += len(embedded.items)
        for record in records(embedded):
            self._ids.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        self._stream.seek(0)
        self._stream.write(self._header())

    def _header(self) -> bytes:
        """As long at the end as at the start: numpy leaves the first axis room to grow, JSON may end in spaces."""
        if self._ending == ".npy":
            buffer = io.BytesIO()
            shape = (self._count, self._dim)
            np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
            return buffer.getvalue()
        size = self._count * self._dim * 4
        tensor = {"dtype": "F32", "shape": [self._count, self._dim], "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": self._about, "image": tensor}).encode().ljust(HEADER_BYTES)
        return len(header).to_bytes(8, "little") + header


class ParquetFile:
    """Columns id, path_b64 (where a name is not UTF-8), status, error, flags and vector (a list of D float32)."""

    def __init__(self, stream: BinaryIO, dim: int, about: Mapping[str, str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        columns = {"id": text, "path_b64": text, "status": text, "error": text, "flags": pa.list_(text)}
        self._schema = pa.schema({**columns, "vector": pa.list_(pa.float32(), dim)}, metadata=dict(about))
        self._writer = pq.ParquetWriter(stream, self._schema)
        self._dim = dim

    def write(self, embedded: Embedded) -> None:
        import pyarrow as pa

        vectors = pa.array(image_rows(embedded, self._dim).ravel())
        failed = pa.array(~embedded.features.has_image)
        rows = list(records(embedded))
        columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in self._schema][:-1]
        columns.append(pa.FixedSizeListArray.from_arrays(vectors, self._dim, mask=failed))
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def image_rows(embedded: Embedded, dim: int) -> Array:
    """(N, D) little-endian float32, NaN where an input failed."""
    rows = np.full((len(embedded.items), dim), np.nan, "<f4")
    if embedded.features.image is not None:
        rows[embedded.features.has_image] = embedded.features.image[embedded.features.has_image]
    return rows


def records(embedded: Embedded) -> Iterator[dict[str, Any]]:
    """Which input each row is, and what became of it."""
    for item, outcome in zip(embedded.items, embedded.outcomes, strict=True):
        record = {**identity(item), "status": outcome.status}
        if outcome.error:
            record["error"] = clean(outcome.error)
        if outcome.flags:
            record["flags"] = list(outcome.flags)
        yield record
