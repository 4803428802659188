"""Makes a collection of what is embedded."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import numpy as np

from cmprompt.atomic import locked, writing
from cmprompt.clips import ClipFrame
from cmprompt.errors import OutputError, StoreError, UsageError
from cmprompt.index.collections import KINDS, About, Collection, Entry, Kind, crcs, folder_of, mapped
from cmprompt.store.segments import Segment
from cmprompt.types import Array, Embedded, FileBytes, Item
from cmprompt.utf8 import raw_bytes

ROWS_AT_ONCE = 4096
SCHEMA = """
CREATE TABLE entries (
    kind TEXT NOT NULL, row INTEGER NOT NULL, id BLOB NOT NULL, time_s REAL, text TEXT, path BLOB,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (kind, row)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Changes:
    """How a collection differs from the one it replaces, counted in entries."""

    new: int
    changed: int
    deleted: int
    same: int


def build(store_dir: Path, about: About, embedded: Iterable[Embedded]) -> Changes:
    """Make the collection `about.name` of what is embedded, in place of the one that has this name.

    Items that failed are left out; a picture or text that several rows share is kept once. Returns what has changed.
    Raises OutputError where there is no room, or another run is building it; UsageError where there is nothing to keep.
    """
    folder = folder_of(store_dir, about.name)
    with writing(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder), writing(str(folder)):
        before = _fingerprints(store_dir, about.name)
        fresh = folder.with_name(f".{about.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        _fill(fresh, about, embedded)
        _put_in_place(fresh, folder)
        return _changes(before, _fingerprints(store_dir, about.name))


def _fill(fresh: Path, about: About, embedded: Iterable[Embedded]) -> None:
    """Write everything of a collection into a new folder. Raises OutputError; UsageError where there is nothing."""
    try:
        with _Builder(fresh, about) as builder:
            for batch in embedded:
                builder.add(batch)
    except sqlite3.Error as error:  # a full disk, as SQLite says it
        raise OutputError(f"cannot write {fresh}: {error}") from error
    if not sum(builder.counts.values()):
        raise UsageError(f"there is nothing to keep in {', '.join(about.sources)}; the collection stays as it was")
    finished = replace(about, built_at=int(time.time()), images=builder.counts["images"], texts=builder.counts["texts"])
    if about.ann:
        _index(fresh, finished)
    text = json.dumps(asdict(finished), ensure_ascii=False, indent=2)
    # half a surrogate pair, which UTF-8 cannot hold, becomes its JSON escape
    (fresh / "about.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Two renames, so that a reader meets the old one or the new one, whole.

    Windows moves no folder while a reader has a file of it open: then the old one stays, and the build fails.
    """
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.is_dir():
        folder.rename(aside)
    fresh.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _fingerprints(store_dir: Path, name: str) -> Mapping[tuple[object, ...], int]:
    """Those of the collection as it is; none where there is none, or a damaged one, which is what building mends."""
    if not folder_of(store_dir, name).is_dir():
        return {}
    try:
        with closing(Collection(store_dir, name)) as found:
            return found.fingerprints()
    except (UsageError, StoreError):
        return {}


def _index(folder: Path, about: About) -> None:
    """Add the approximate index over every kind of row there is."""
    from cmprompt.index import lancedb

    for kind in KINDS:
        if len(matrix := mapped(folder, about, kind)):
            lancedb.build(folder, kind, matrix)


class _Builder:
    """Writes vectors and entries as they come."""

    def __init__(self, folder: Path, about: About) -> None:
        self.counts: dict[Kind, int] = {"images": 0, "texts": 0}
        self._about = about
        self._segments = {kind: Segment(folder / f"{kind}.vectors", about.dim, about.dtype) for kind in KINDS}
        self._waiting: dict[Kind, list[tuple[Entry, Array]]] = {"images": [], "texts": []}
        self._seen: set[bytes] = set()
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
            path = _path_of(item)
            if image is not None and batch.features.has_image[row]:
                if self._is_new("images", path or item.id, item.time_s, crc32(image[row].tobytes())):
                    self._put("images", Entry(item.id, item.time_s, path=path), image[row])
            if text is not None and batch.features.has_text[row] and self._is_new("texts", item.text):
                self._put("texts", Entry(item.id, item.time_s, item.text, path), text[row])

    def _is_new(self, *parts: object) -> bool:
        digest = blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        is_new = digest not in self._seen
        self._seen.add(digest)
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
                raw_bytes(entry.id),
                entry.time_s,
                entry.text,
                entry.path and raw_bytes(entry.path),
                int(checksum),
            )
            for place, ((entry, _), checksum) in enumerate(zip(waiting, crcs(rows), strict=True))
        ]
        self._database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.counts[kind] += len(waiting)
        waiting.clear()


def _changes(before: Mapping[tuple[object, ...], int], after: Mapping[tuple[object, ...], int]) -> Changes:
    both = before.keys() & after.keys()
    same = sum(before[key] == after[key] for key in both)
    return Changes(len(after) - len(both), len(both) - same, len(before) - len(both), same)


def _path_of(item: Item) -> str | None:
    image = item.image.clip.image if isinstance(item.image, ClipFrame) else item.image
    return os.path.abspath(image.path) if isinstance(image, FileBytes) else None
