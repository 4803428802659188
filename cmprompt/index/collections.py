"""Named collections: the vectors of some inputs, in a row, to search in.

    STORE/collections/NAME/about.json       model, inputs, options, counts
                          /entries.sqlite   what each row is: id, second, text
                          /images.vectors   a segment (segments.py), and one for texts
                          /images.lance     an approximate index, where one was asked for (lancedb.py)

A collection holds vectors of its own, a kilobyte for each: one pass over them in order is what makes search quick, and
pruning the store does not hurt it. It is built beside the old one and takes its place when it is whole.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from cmprompt.errors import StoreError, UsageError, unknown
from cmprompt.index import exact
from cmprompt.index.exact import Neighbours
from cmprompt.store.segments import DType, Segment, SegmentDamaged
from cmprompt.types import Array

Kind = Literal["images", "texts"]
KINDS: tuple[Kind, ...] = ("images", "texts")
MOST_APPROXIMATE = 1000  # neighbours; for more an exact pass costs little more
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """What a row stands for: an image or a frame of a video, or a text and the id of the pair it came from.

    `path` is where the picture is, if it is a file of its own.
    """

    id: str
    time_s: float | None = None
    text: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class About:
    """What a collection was made of. `model` and `precision` are what `load_encoder` takes, `options` the source's."""

    name: str
    model: str
    model_id: str
    dim: int
    dtype: DType
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    ann: bool = False  # whether there is an approximate index beside the vectors
    built_at: int = 0
    images: int = 0
    texts: int = 0
    precision: str = "auto"

    @property
    def sources(self) -> tuple[str, ...]:
        """What was named: the list of --files-from, then the inputs; or that requests came on standard input."""
        if self.options.get("requests"):
            return ("standard input",)
        listed = self.options.get("files_from")
        return (listed, *self.inputs) if listed else self.inputs

    def precision_for(self, asked: str) -> str:
        """The one that is asked for, else the collection's own: vectors of two would not be the same."""
        return self.precision if asked == "auto" else asked


class Collection:
    """One collection, opened for reading. Raises UsageError for a name that is not there, StoreError for damage."""

    def __init__(self, store_dir: Path, name: str) -> None:
        self.folder = folder_of(store_dir, name)
        if not (self.folder / "about.json").is_file():
            raise UsageError(_missing(name, names(store_dir)))
        try:
            about = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
            self.about = About(**{**about, "inputs": tuple(about["inputs"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(f"the collection {name!r} is damaged ({error}); build it again") from error

    def count(self, kind: Kind) -> int:
        """How many rows of this kind there are."""
        return self.about.images if kind == "images" else self.about.texts

    def matrix(self, kind: Kind) -> Array:
        """(N, D) in the store's dtype, memory-mapped."""
        return mapped(self.folder, self.about, kind)

    def nearest(
        self, kind: Kind, queries: Array, k: int, *, threads: int | None = None, approximate: bool = False
    ) -> Neighbours:
        """The `k` best rows for each of `queries` (Q, D); `approximate` asks the index, which may miss some.

        Raises UsageError where there is no such index, or the extra for it is not installed.
        """
        matrix = self.matrix(kind)
        if not approximate or k > MOST_APPROXIMATE:
            return exact.nearest(queries, matrix, k, threads=threads)
        if not self.about.ann:
            name = self.about.name
            raise UsageError(
                f"{name!r} has no approximate index; build it with: cmprompt index build --ann --name {name}"
            )
        from cmprompt.index import lancedb

        return lancedb.nearest(queries, matrix, k, folder=self.folder, kind=kind)

    def entries(self, kind: Kind, rows: Sequence[int]) -> list[Entry]:
        """What some rows stand for, in the order asked for."""
        with self._database() as db:
            sql = "SELECT id, time_s, text, path FROM entries WHERE kind = ? AND row = ?"
            found = [db.execute(sql, (kind, int(row))).fetchone() for row in rows]
        return [Entry(_text(row[0]), row[1], row[2], row[3] and _text(row[3])) for row in found]

    def damaged(self) -> dict[Kind, int]:
        """How many vectors of each kind are not those that were written."""
        found: dict[Kind, int] = {}
        for kind in KINDS:
            with self._database() as db:
                rows = db.execute("SELECT checksum FROM entries WHERE kind = ? ORDER BY row", (kind,)).fetchall()
            matrix, sums = self.matrix(kind), np.array(rows, np.int64).reshape(-1)
            if len(sums) != len(matrix):
                found[kind] = abs(len(sums) - len(matrix))
            elif wrong := int((crcs(matrix) != sums).sum()):
                found[kind] = wrong
        return found

    def fingerprints(self) -> dict[tuple[object, ...], int]:
        """(kind, id, second, text) of every row -> the checksum of its vector."""
        with self._database() as db:
            rows = db.execute("SELECT kind, id, time_s, text, checksum FROM entries")
            return {row[:4]: row[4] for row in rows}

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{(self.folder / 'entries.sqlite').as_uri()}?mode=ro", uri=True)) as db:
                yield db
        except sqlite3.Error as error:
            raise StoreError(f"the collection {self.about.name!r} is damaged ({error}); build it again") from error


def names(store_dir: Path) -> list[str]:
    """The collections of a store."""
    found = (path.parent.name for path in (store_dir / "collections").glob("*/about.json"))
    return sorted(name for name in found if not name.startswith("."))  # those with a dot are being built or removed


def drop(store_dir: Path, name: str) -> None:
    """Remove a collection; the store's own embeddings stay. Raises UsageError for a name that is not there."""
    folder = folder_of(store_dir, name)
    if not folder.is_dir():
        raise UsageError(_missing(name, names(store_dir)))
    aside = folder.with_name(f".{name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)  # so that a reader sees all of it or none
    shutil.rmtree(aside)


def only_name(store_dir: Path) -> str:
    """The collection that is meant where none is named: the only one. Raises UsageError."""
    found = names(store_dir)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError("there is no collection yet; make one with: cmprompt index build FOLDER --name NAME")
    raise UsageError(f"there are {len(found)} collections; choose one with --name: {', '.join(found)}")


def mapped(folder: Path, about: About, kind: Kind) -> Array:
    """(N, D) of a collection's folder, memory-mapped. Raises StoreError."""
    count = about.images if kind == "images" else about.texts
    if not count:
        return np.zeros((0, about.dim), about.dtype)
    try:
        return Segment(folder / f"{kind}.vectors", about.dim, about.dtype).mapped(count)[:count]
    except SegmentDamaged as damage:
        raise StoreError(f"the collection {about.name!r} is damaged ({damage}); build it again") from damage


def crcs(rows: Array) -> Array:
    """(N,) int64 CRC-32 of each row: slower than the store's `segments.checksums`, which numbers that changed places
    leave as they are."""
    return np.fromiter((crc32(row) for row in rows), np.int64, len(rows))


def folder_of(store_dir: Path, name: str) -> Path:
    """Where a collection of this name is or would be. Raises UsageError for what cannot be one."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a collection; use letters, digits, '.', '_' and '-'")
    return store_dir.absolute() / "collections" / name


def _missing(name: str, known: Sequence[str]) -> str:
    if known:
        return unknown("collection", name, known)
    return f"no collection {name!r}; make one with: cmprompt index build FOLDER --name {name}"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
