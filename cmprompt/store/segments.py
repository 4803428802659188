"""Append-only files of vectors behind a header that names what they hold. The catalogue says which rows count."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal

import numpy as np

from cmprompt.types import Array

DType = Literal["float16", "float32"]

MAGIC = b"CMPSEG01"
HEADER_BYTES = 64  # one cache line, so that rows stay aligned
TOUCHED_BYTES = 64 << 20  # mapped pages count as resident memory; a long pass lets go of them after this many


class SegmentDamaged(Exception):
    """The file is absent, shorter than its catalogue says, or not a segment."""


def checksums(rows: Array) -> Array:
    """(N,) int64, the sum of each row's 16-bit words: any flipped bit changes it, words that changed places do not, and
    numpy adds it at memory speed."""
    words = np.ascontiguousarray(rows).view(np.uint16).reshape(len(rows), -1)
    sums: Array = words.sum(axis=1, dtype=np.int64)
    return sums


def sync(descriptor: int) -> None:
    """Wait until the file's data is on disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


class Segment:
    """(rows, D) numbers of one dtype in one file."""

    def __init__(self, path: Path, dim: int, dtype: DType) -> None:
        self.path = path
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self.row_bytes = dim * self.dtype.itemsize
        self._map: Array | None = None
        self._touched = 0

    def write(self, first_row: int, rows: Array) -> None:
        """Put (n, D) `rows` at `first_row`, over what an unfinished write left there, and wait for the disk."""
        data = np.ascontiguousarray(rows, self.dtype)
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", 0) as file:
            if first_row == 0:
                _write_all(file.fileno(), 0, self._header())
            _write_all(file.fileno(), HEADER_BYTES + first_row * self.row_bytes, data.tobytes())
            sync(file.fileno())

    def read(self, rows: Array) -> Array:
        """(k, D) in the file's dtype. Raises SegmentDamaged where the file does not hold them."""
        if not len(rows):
            return np.zeros((0, self.dim), self.dtype)
        taken: Array = self.mapped(int(rows.max()) + 1)[rows]
        self._touched += taken.nbytes
        if self._touched > TOUCHED_BYTES:
            self._map, self._touched = None, 0
        return taken

    def mapped(self, count: int) -> Array:
        """The first `count` rows or more, as one memory-mapped array."""
        if self._map is None or len(self._map) < count:
            self._map = self._open(count)
        return self._map

    def _open(self, count: int) -> Array:
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            raise SegmentDamaged(f"{self.path} is gone") from None
        with file:  # mapped as it is open: another file may take its place
            header, size = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
            held = (size - HEADER_BYTES) // self.row_bytes
            if header != self._header():
                raise SegmentDamaged(f"{self.path} is not a segment of {self.dim} x {self.dtype}")
            if held < count:
                raise SegmentDamaged(f"{self.path} holds {held} of {count} rows")
            return np.asarray(np.memmap(file, self.dtype, "r", offset=HEADER_BYTES, shape=(held, self.dim)))

    def _header(self) -> bytes:
        return struct.pack("<8sII", MAGIC, self.dim, self.dtype.itemsize).ljust(HEADER_BYTES, b"\0")


def _write_all(descriptor: int, offset: int, data: bytes) -> None:
    os.lseek(descriptor, offset, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
