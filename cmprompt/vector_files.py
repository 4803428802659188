"""Vectors as files for other tools: .npy, .safetensors and .parquet, written as they come and renamed when complete.

Row i belongs to input i; where an input failed its row is NaN (null in Parquet). Parquet holds ids, statuses, errors
and targets beside the vectors; the other two have them in `FILE.ids.jsonl`, one record for each row. The texts' vectors
are `text` in .safetensors and `text_vector` in Parquet; .npy holds one array and has no place for them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Protocol

import numpy as np

from cmprompt.atomic import beside, check_folder, locked, replacing, there_already, writing
from cmprompt.errors import UsageError, unknown
from cmprompt.types import Array, Embedded
from cmprompt.utf8 import clean
from cmprompt.writers.parquet import open_parquet
from cmprompt.writers.records import identity

ENDINGS = (".npy", ".parquet", ".safetensors")
ROWS_PER_GROUP = 8192  # of Parquet, or a few more
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
def vector_file(
    path: str,
    dim: int,
    about: Mapping[str, str],
    *,
    overwrite: bool = False,
    texts: bool = False,
    targets: bool = False,
) -> Iterator[VectorFile]:
    """A new file at `path`, its format by its ending; it appears when the block is left without an exception.

    `texts` and `targets`: keep those of the inputs too. Raises UsageError for an ending that is not known or has no
    place for texts, OutputError where it cannot be written, is there already, or is being written by another run.
    """
    target = Path(os.path.realpath(path))  # a link is written through
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(unknown("kind of vector file", ending or path, ENDINGS))
    if texts and ending == ".npy":
        raise UsageError(f"{path}: .npy holds one array; for texts beside the images name a .parquet or .safetensors")
    ids_file = beside(target, "ids.jsonl")
    names = {target: path} if ending == ".parquet" else {target: path, ids_file: str(ids_file)}
    for file, name in names.items():
        check_folder(file, name)
        if file.exists() and not overwrite:
            raise there_already(name)
    with locked(target), writing(path), ExitStack() as files:
        stream = files.enter_context(replacing(target))  # entered first, so it is renamed last
        if ending == ".parquet":
            made: VectorFile = ParquetFile(stream, dim, about, texts=texts, targets=targets)
        else:
            ids = files.enter_context(replacing(ids_file))
            spool = files.enter_context(TemporaryFile(dir=target.parent)) if texts else None
            made = ArrayFile(stream, ids, dim, ending, about, texts=spool, targets=targets)
        yield made
        made.close()


class ArrayFile:
    """.npy: (N, D) float32. .safetensors: the same as `image`, with the model that made it in the metadata; what is
    spooled to `texts` follows as `text`."""

    def __init__(
        self,
        stream: BinaryIO,
        ids: BinaryIO,
        dim: int,
        ending: str,
        about: Mapping[str, str],
        *,
        texts: BinaryIO | None = None,
        targets: bool = False,
    ) -> None:
        self._stream, self._ids, self._dim, self._ending, self._about = stream, ids, dim, ending, dict(about)
        self._texts, self._targets = texts, targets
        self._count = 0
        stream.write(self._header())

    def write(self, embedded: Embedded) -> None:
        self._stream.write(image_rows(embedded, self._dim).tobytes())
        if self._texts is not None:
            self._texts.write(text_rows(embedded, self._dim).tobytes())
        self._count += len(embedded.items)
        for record in records(embedded, targets=self._targets):
            self._ids.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        if self._texts is not None:
            self._texts.seek(0)
            shutil.copyfileobj(self._texts, self._stream)
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
        names = ("image",) if self._texts is None else ("image", "text")
        tensors = {
            name: {
                "dtype": "F32",
                "shape": [self._count, self._dim],
                "data_offsets": [place * size, (place + 1) * size],
            }
            for place, name in enumerate(names)
        }
        header = json.dumps({"__metadata__": self._about, **tensors}).encode().ljust(HEADER_BYTES)
        return len(header).to_bytes(8, "little") + header


class ParquetFile:
    """Columns id, path_b64 (where a name is not UTF-8), status, error, flags and vector (a list of D float32); target
    and text_vector where they are asked for."""

    def __init__(
        self, stream: BinaryIO, dim: int, about: Mapping[str, str], *, texts: bool = False, targets: bool = False
    ) -> None:
        import pyarrow as pa

        text = pa.string()
        columns = {"id": text, "path_b64": text, "status": text, "error": text, "flags": pa.list_(text)}
        columns |= {"target": text} if targets else {}
        vectors = {name: pa.list_(pa.float32(), dim) for name in ("vector", *(["text_vector"] if texts else []))}
        self._facts, self._vectors = list(columns), list(vectors)
        self._schema = pa.schema({**columns, **vectors}, metadata=dict(about))
        self._writer = open_parquet(stream, self._schema)
        self._dim = dim
        self._waiting: list[Any] = []  # batches
        self._count = 0  # of their rows

    def write(self, embedded: Embedded) -> None:
        import pyarrow as pa

        x, rows = embedded.features, list(records(embedded, targets="target" in self._facts))
        columns = [pa.array([row.get(name) for row in rows], self._schema.field(name).type) for name in self._facts]
        made = {"vector": (image_rows, x.has_image), "text_vector": (text_rows, x.has_text)}
        for rows_of, has in (made[name] for name in self._vectors):
            vectors = pa.array(rows_of(embedded, self._dim).ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(vectors, self._dim, mask=pa.array(~has)))
        self._waiting.append(pa.record_batch(columns, schema=self._schema))
        self._count += len(rows)
        if self._count >= ROWS_PER_GROUP:
            self._write_group()

    def close(self) -> None:
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
            self._waiting, self._count = [], 0


def image_rows(embedded: Embedded, dim: int) -> Array:
    """(N, D) little-endian float32, NaN where an input failed."""
    return _rows(embedded.features.image, embedded.features.has_image, dim)


def text_rows(embedded: Embedded, dim: int) -> Array:
    """(N, D) little-endian float32, NaN where an input has no text, or failed."""
    return _rows(embedded.features.text, embedded.features.has_text, dim)


def _rows(vectors: Array | None, there: Array, dim: int) -> Array:
    rows = np.full((len(there), dim), np.nan, "<f4")
    if vectors is not None:
        rows[there] = vectors[there]
    return rows


def answers(embedded: Embedded) -> Iterator[dict[str, Any]]:
    """`records` with the vectors of each: `vector` of the image, `text_vector` where there is a text."""
    x = embedded.features
    for row, record in enumerate(records(embedded)):
        if record.get("flags") == ["no_text"]:  # nobody asked for one
            del record["flags"]
        for name, vectors, there in (("vector", x.image, x.has_image), ("text_vector", x.text, x.has_text)):
            if vectors is not None and there[row]:
                record[name] = [float(f"{number:.8g}") for number in vectors[row]]
        yield record


def records(embedded: Embedded, *, targets: bool = False) -> Iterator[dict[str, Any]]:
    """Which input each row is, and what became of it."""
    for item, outcome in zip(embedded.items, embedded.outcomes, strict=True):
        record = {**identity(item), "status": outcome.status}
        if outcome.error:
            record["error"] = clean(outcome.error)
        if outcome.flags:
            record["flags"] = list(outcome.flags)
        if targets and item.target is not None:
            record["target"] = clean(str(item.target))
        yield record
