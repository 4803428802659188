"""Named collections: the vectors of some inputs, in a row, to search in.

    STORE/collections/NAME/about.json       model, inputs, options, counts
                          /entries.sqlite   what each row is: id, second, text
                          /images.vectors   a segment (segments.py), and one for texts

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from cmprompt.clips import ClipFrame
from cmprompt.errors import StoreError, UsageError, unknown
from cmprompt.segments import DType, Segment, SegmentDamaged
from cmprompt.types import Array, Embedded, FileBytes, Item

Kind = Literal["images", "texts"]
KINDS: tuple[Kind, ...] = ("images", "texts")
ROWS_AT_ONCE = 4096
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
SCHEMA = """
CREATE TABLE entries (
    kind TEXT NOT NULL, row INTEGER NOT NULL, id BLOB NOT NULL, time_s REAL, text TEXT, path BLOB,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (kind, row)) WITHOUT ROWID;
"""


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
    """What a collection was made of. `model` is a name that `load_encoder` takes, `options` those of the source."""

    name: str
    model: str
    model_id: str
    dim: int
    dtype: DType
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    built_at: int = 0
    images: int = 0
    texts: int = 0


@dataclass(frozen=True)
class Changes:
    """How a collection differs from the one it replaces, counted in entries."""

    new: int
    changed: int
    deleted: int
    same: int


class Collection:
    """One collection, opened for reading. Raises UsageError for a name that is not there, StoreError for damage."""

    def __init__(self, store_dir: Path, name: str) -> None:
        self.folder = _folder(store_dir, name)
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
        if not self.count(kind):
            return np.zeros((0, self.about.dim), self.about.dtype)
        segment = Segment(self.folder / f"{kind}.vectors", self.about.dim, self.about.dtype)
        try:
            return segment.mapped(self.count(kind))[: self.count(kind)]
        except SegmentDamaged as damage:
            raise StoreError(f"the collection {self.about.name!r} is damaged ({damage}); build it again") from damage

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
            elif wrong := int((_checksums(matrix) != sums).sum()):
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
    return sorted(path.parent.name for path in (store_dir / "collections").glob("*/about.json"))


def build(store_dir: Path, about: About, embedded: Iterable[Embedded]) -> Changes:
    """Make the collection `about.name` of what is embedded, in place of the one that has this name.

    Items that failed are left out; a text that several rows share is kept once. Returns what has changed.
    """
    folder = _folder(store_dir, about.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    before = Collection(store_dir, about.name).fingerprints() if (folder / "about.json").is_file() else {}
    fresh = folder.with_name(f".{about.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    with _Builder(fresh, about) as builder:
        for batch in embedded:
            builder.add(batch)
    finished = replace(about, built_at=int(time.time()), images=builder.counts["images"], texts=builder.counts["texts"])
    text = json.dumps(asdict(finished), ensure_ascii=False, indent=2)
    (fresh / "about.json").write_text(text + "\n", encoding="utf-8")
    drop(store_dir, about.name, missing_ok=True)
    fresh.rename(folder)
    return _changes(before, Collection(store_dir, about.name).fingerprints())


def drop(store_dir: Path, name: str, *, missing_ok: bool = False) -> None:
    """Remove a collection; the store's own embeddings stay. Raises UsageError for a name that is not there."""
    folder = _folder(store_dir, name)
    if not folder.is_dir():
        if not missing_ok:
            raise UsageError(_missing(name, names(store_dir)))
        return
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


class _Builder:
    """Writes vectors and entries as they come."""

    def __init__(self, folder: Path, about: About) -> None:
        self.counts: dict[Kind, int] = {"images": 0, "texts": 0}
        self._about = about
        self._segments = {kind: Segment(folder / f"{kind}.vectors", about.dim, about.dtype) for kind in KINDS}
        self._waiting: dict[Kind, list[tuple[Entry, Array]]] = {"images": [], "texts": []}
        self._seen_texts: set[bytes] = set()
        self._database = sqlite3.connect(folder / "entries.sqlite")

    def __enter__(self) -> _Builder:
        self._database.executescript(SCHEMA)
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            for kind in KINDS:
                self._write(kind)
        self._database.commit()
        self._database.close()

    def add(self, batch: Embedded) -> None:
        """Take the rows of a batch that did not fail."""
        image, text = batch.features.image, batch.features.text
        for row, item in enumerate(batch.items):
            if image is not None and batch.features.has_image[row]:
                self._put("images", Entry(item.id, item.time_s, path=_path_of(item)), image[row])
            if text is not None and batch.features.has_text[row] and self._is_new(item):
                self._put("texts", Entry(item.id, item.time_s, item.text, _path_of(item)), text[row])

    def _is_new(self, item: Item) -> bool:
        digest = blake2b((item.text or "").encode("utf-8", "surrogatepass"), digest_size=16).digest()
        is_new = digest not in self._seen_texts
        self._seen_texts.add(digest)
        return is_new

    def _put(self, kind: Kind, entry: Entry, vector: Array) -> None:
        self._waiting[kind].append((entry, vector))
        if len(self._waiting[kind]) == ROWS_AT_ONCE:
            self._write(kind)

    def _write(self, kind: Kind) -> None:
        waiting, first = self._waiting[kind], self.counts[kind]
        if not waiting:
            return
        rows = np.stack([vector for _, vector in waiting]).astype(self._about.dtype)  # (n, D)
        self._segments[kind].write(first, rows)
        values = [
            (
                kind,
                first + place,
                _bytes(entry.id),
                entry.time_s,
                entry.text,
                entry.path and _bytes(entry.path),
                int(checksum),
            )
            for place, ((entry, _), checksum) in enumerate(zip(waiting, _checksums(rows), strict=True))
        ]
        self._database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.counts[kind] += len(waiting)
        waiting.clear()


def _checksums(rows: Array) -> Array:
    """(N,) CRC-32 of each row."""
    return np.fromiter((crc32(row) for row in rows), np.int64, len(rows))


def _changes(before: Mapping[tuple[object, ...], int], after: Mapping[tuple[object, ...], int]) -> Changes:
    both = before.keys() & after.keys()
    same = sum(before[key] == after[key] for key in both)
    return Changes(len(after) - len(both), len(both) - same, len(before) - len(both), same)


def _folder(store_dir: Path, name: str) -> Path:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a collection; use letters, digits, '.', '_' and '-'")
    return store_dir.absolute() / "collections" / name


def _missing(name: str, known: Sequence[str]) -> str:
    if known:
        return unknown("collection", name, known)
    return f"no collection {name!r}; make one with: cmprompt index build FOLDER --name {name}"


def _path_of(item: Item) -> str | None:
    image = item.image.clip.image if isinstance(item.image, ClipFrame) else item.image
    return os.path.abspath(image.path) if isinstance(image, FileBytes) else None


def _bytes(id: str) -> bytes:
    """Names may hold bytes that are not UTF-8."""
    return id.encode("utf-8", "surrogateescape")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
