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
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zlib import crc32

import numpy as np

from cmprompt.atomic import locked, writing
from cmprompt.errors import StoreError, UsageError, unknown
from cmprompt.index import exact
from cmprompt.index.exact import Neighbours
from cmprompt.store.segments import DType, Segment, SegmentDamaged
from cmprompt.types import Array

Kind = Literal["images", "texts"]
KINDS: tuple[Kind, ...] = ("images", "texts")
MOST_APPROXIMATE = 1000  # neighbours; for more an exact pass costs little more
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
TRIES, PAUSE_S = 20, 0.01  # a collection that is being replaced is absent for a moment: between two renames


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
    """One collection, opened for reading: what is built in its place afterwards changes none of its answers.

    Raises UsageError for a name that is not there, StoreError for damage.
    """

    about: About
    _database: sqlite3.Connection
    _matrices: Mapping[Kind, Array]

    def __init__(self, store_dir: Path, name: str) -> None:
        self._files = ExitStack()
        self.folder = folder_of(store_dir, name)
        while True:
            self._about_file = self._files.enter_context(_open_about(store_dir, name))
            try:
                self._open_others(name)
            except StoreError:
                if self._is_in_place():
                    raise
            if self._is_in_place():
                return
            self.close()  # another came in its place meanwhile: these files may be of both

    def close(self) -> None:
        """Let go of the files. The collection must not be used afterwards."""
        self._files.close()

    def __del__(self) -> None:
        self._files.close()

    def count(self, kind: Kind) -> int:
        """How many rows of this kind there are."""
        return self.about.images if kind == "images" else self.about.texts

    def matrix(self, kind: Kind) -> Array:
        """(N, D) in the store's dtype, memory-mapped."""
        return self._matrices[kind]

    def nearest(
        self, kind: Kind, queries: Array, k: int, *, threads: int | None = None, approximate: bool = False
    ) -> Neighbours:
        """The `k` best rows for each of `queries` (Q, D); `approximate` asks the index, which may miss some.

        Raises UsageError where there is no such index, or the extra for it is not installed.
        """
        if approximate and k <= MOST_APPROXIMATE and (found := self._approximate(kind, queries, k)):
            return found
        return exact.nearest(queries, self.matrix(kind), k, threads=threads)

    def entries(self, kind: Kind, rows: Sequence[int]) -> list[Entry]:
        """What some rows stand for, in the order asked for."""
        sql = "SELECT id, time_s, text, path FROM entries WHERE kind = ? AND row = ?"
        with _damage_told(self.about.name):
            found = [self._database.execute(sql, (kind, int(row))).fetchone() for row in rows]
        return [Entry(_text(row[0]), row[1], row[2], row[3] and _text(row[3])) for row in found]

    def damaged(self) -> dict[Kind, int]:
        """How many vectors of each kind are not those that were written."""
        found: dict[Kind, int] = {}
        for kind in KINDS:
            sql = "SELECT checksum FROM entries WHERE kind = ? ORDER BY row"
            with _damage_told(self.about.name):
                rows = self._database.execute(sql, (kind,)).fetchall()
            matrix, sums = self.matrix(kind), np.array(rows, np.int64).reshape(-1)
            if len(sums) != len(matrix):
                found[kind] = abs(len(sums) - len(matrix))
            elif wrong := int((crcs(matrix) != sums).sum()):
                found[kind] = wrong
        return found

    def fingerprints(self) -> dict[tuple[object, ...], int]:
        """(kind, id, second, text) of every row -> the checksum of its vector."""
        with _damage_told(self.about.name):
            rows = self._database.execute("SELECT kind, id, time_s, text, checksum FROM entries")
            return {row[:4]: row[4] for row in rows}

    def _open_others(self, name: str) -> None:
        self.about = _read_about(self._about_file, name)
        # immutable: nothing is written in place, so that SQLite need not look for locks and journals
        uri = f"{(self.folder / 'entries.sqlite').as_uri()}?mode=ro&immutable=1"
        with _damage_told(name):
            database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._database = self._files.enter_context(closing(database))
        self._matrices = {kind: mapped(self.folder, self.about, kind) for kind in KINDS}

    def _is_in_place(self) -> bool:
        """Whether the folder is still the one that was opened. While the file is open, none gets the same number."""
        with suppress(FileNotFoundError), open(self.folder / "about.json", "rb") as now:
            return os.path.sameopenfile(self._about_file.fileno(), now.fileno())
        return False

    def _approximate(self, kind: Kind, queries: Array, k: int) -> Neighbours | None:
        """None where another collection came in this one's place: LanceDB opens its files late, by name."""
        if not self.about.ann:
            name = self.about.name
            raise UsageError(
                f"{name!r} has no approximate index; build it with: cmprompt index build --ann --name {name}"
            )
        from cmprompt.index import lancedb

        try:
            found = lancedb.nearest(queries, self.matrix(kind), k, folder=self.folder, kind=kind)
        except StoreError:
            if self._is_in_place():
                raise
            return None
        return found if self._is_in_place() else None


def about_of(store_dir: Path, name: str) -> About:
    """What a collection was made of, without a look at its vectors. Raises as `Collection` does."""
    with _open_about(store_dir, name) as file:
        return _read_about(file, name)


def names(store_dir: Path) -> list[str]:
    """The collections of a store."""
    found = _names_now(store_dir)
    time.sleep(PAUSE_S)  # one that is being replaced is seen before or after
    return sorted(found | _names_now(store_dir))


def drop(store_dir: Path, name: str) -> None:
    """Remove a collection; the store's own embeddings stay.

    Raises UsageError for a name that is not there, OutputError where it cannot be removed, or is being built.
    """
    folder = folder_of(store_dir, name)
    if not folder.is_dir():
        raise UsageError(_missing(name, names(store_dir)))
    aside = folder.with_name(f".{name}.old")
    with locked(folder), writing(str(folder)):
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
        raise _damaged(about.name, damage) from damage


def crcs(rows: Array) -> Array:
    """(N,) int64 CRC-32 of each row: slower than the store's `segments.checksums`, which numbers that changed places
    leave as they are."""
    return np.fromiter((crc32(row) for row in rows), np.int64, len(rows))


def folder_of(store_dir: Path, name: str) -> Path:
    """Where a collection of this name is or would be. Raises UsageError for what cannot be one."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a collection; use letters, digits, '.', '_' and '-'")
    return store_dir.absolute() / "collections" / name


def _open_about(store_dir: Path, name: str) -> BinaryIO:
    path = folder_of(store_dir, name) / "about.json"
    for _ in range(TRIES):
        try:
            return open(path, "rb")
        except FileNotFoundError:
            time.sleep(PAUSE_S)
        except OSError as error:
            raise _damaged(name, error) from error
    raise UsageError(_missing(name, names(store_dir)))


def _read_about(file: BinaryIO, name: str) -> About:
    try:
        about = json.loads(file.read())
        return About(**{**about, "inputs": tuple(about["inputs"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(name, error) from error


def _names_now(store_dir: Path) -> set[str]:
    found = (path.parent.name for path in (store_dir / "collections").glob("*/about.json"))
    return {name for name in found if not name.startswith(".")}  # those with a dot are being built or removed


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _damaged(name, error) from error


def _damaged(name: str, why: Exception) -> StoreError:
    return StoreError(f"the collection {name!r} is damaged ({why}); build it again")


def _missing(name: str, known: Sequence[str]) -> str:
    if known:
        return unknown("collection", name, known)
    return f"no collection {name!r}; make one with: cmprompt index build FOLDER --name {name}"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
