"""Embeddings on disk, keyed by store key and content hash.

    DIR/catalogue.sqlite    which row of which segment holds the vector of which content; which file has which content
    DIR/segments/           an append-only file of vectors for each store key (segments.py)
    DIR/aside-*/            what was damaged, kept for a look

The catalogue's write lock is the only lock between writers. Under it a writer appends its vectors, waits for the
disk, then commits the rows: a process killed anywhere leaves bytes that nobody counts and the next writer overwrites.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cmprompt.errors import CmpromptError, StoreError, UsageError
from cmprompt.store.catalogue import Catalogue, CatalogueDamaged
from cmprompt.store.segments import DType, Segment, SegmentDamaged, checksums
from cmprompt.types import Array

SETTLED_NS = 2_000_000_000  # a file younger than this may change again within its clock's tick
DAY_S = 86_400

T = TypeVar("T")


class Found(NamedTuple):
    """What the store had for M hashes: `found` (M,) bool, `vectors` (M, D) float32, zero where not found, `flags`."""

    found: Array
    vectors: Array
    flags: list[tuple[str, ...]]


class Identity(NamedTuple):
    """A file as it looked unopened: absolute path; inode, size, mtime and ctime; whether those can be relied on."""

    path: bytes
    stamp: bytes
    settled: bool


@dataclass(frozen=True)
class Key:
    """One namespace of the store; `rows` is where the next vector goes. Times are seconds since 1970."""

    id: int
    store_key: str
    dim: int
    dtype: DType
    generation: int
    rows: int
    added_at: int
    used_at: int

    @property
    def file_name(self) -> str:
        return f"{self.id:06d}-{self.generation}.{self.dtype}"


def default_store_dir() -> Path:
    """The store's place in the user's cache."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("cmprompt", appauthor=False)) / "store"


def store_dir(path: str | None = None) -> Path:
    """Where the store is: at `path`, with None in the user's cache. Raises UsageError for an empty name."""
    if path is None:
        return default_store_dir()
    if not path:
        raise UsageError("--store '': name a folder, or leave it out")
    return Path(path)


def open_store(path: str | None = None, notice: Callable[[str], None] | None = None) -> Store | None:
    """The store at `path`; with None the default one, or none at all, with a notice, where the cache cannot be used."""
    return usable_store(store_dir(), notice) if path is None else Store(store_dir(path), notice)


def usable_store(path: Path, notice: Callable[[str], None] | None = None) -> Store | None:
    """The store at `path`, or none at all, with a notice, where it cannot be used: the work goes on without it."""
    try:
        return Store(path, notice)
    except CmpromptError as error:
        if notice:
            notice(f"nothing is kept between runs: {error}")
        return None


def identify(path: str) -> Identity:
    """How `path` looks now, without opening it. Raises OSError."""
    seen = os.stat(path)
    mask = 0x7FFF_FFFF_FFFF_FFFF
    stamp = struct.pack("<4Q", seen.st_ino & mask, seen.st_size, seen.st_mtime_ns & mask, seen.st_ctime_ns & mask)
    settled = max(seen.st_mtime_ns, seen.st_ctime_ns) < time.time_ns() - SETTLED_NS
    absolute = path if path.startswith(os.sep) else os.path.join(os.getcwd(), path)
    return Identity(os.fsencode(absolute), stamp, settled)


class Store:
    """A directory of vectors that several threads and processes share.

    `notice` hears of what was set aside. Any call raises StoreError where the directory cannot be used, OutputError
    where it is full.
    """

    def __init__(self, path: str | os.PathLike[str], notice: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self.catalogue = Catalogue(self.path, notice or (lambda message: None))
        self._segments: dict[str, Segment] = {}

    def close(self) -> None:
        """Let go of the files. The store must not be used afterwards."""
        self._segments.clear()
        self.catalogue.close()

    def reopened(self) -> Store:
        """The same store through a connection of its own, for another thread."""
        return Store(self.path, self.catalogue.notice)

    def lookup(self, store_key: str, hashes: Sequence[bytes]) -> Found:
        """The vectors of M content hashes under `store_key`, those that are here."""
        return self.run(lambda: self._lookup(store_key, hashes))

    def put(
        self,
        store_key: str,
        hashes: Sequence[bytes],
        vectors: Array,
        flags: Sequence[tuple[str, ...]] | None = None,
        dtype: DType = "float16",
    ) -> None:
        """Keep (M, D) unit rows; those that are here already stay as they are. On return they are on disk."""
        if len(hashes):
            self.run(lambda: self._put(store_key, hashes, vectors, flags or [()] * len(hashes), dtype))

    def lookup_files(self, store_key: str, files: Sequence[Identity | None]) -> Found:
        """The vectors of M files that have not changed since they were remembered. Opens none of them."""
        return self.run(lambda: self._lookup_files(store_key, files))

    def remember_files(self, files: Sequence[Identity], hashes: Sequence[bytes]) -> None:
        """Note which content each file has. One that changed a moment ago is left out: it may change again unseen."""
        rows = [(file.path, file.stamp, sha) for file, sha in zip(files, hashes, strict=True) if file.settled]
        if rows:
            self.run(lambda: self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows))

    def matrix(self, store_key: str) -> tuple[list[bytes], Array]:
        """Every hash of a key and its vectors (N, D) in the store's dtype, memory-mapped, in the order they came."""
        return self.run(lambda: self._matrix(store_key))

    def keys(self) -> list[Key]:
        """Every namespace, the last used first."""
        sql = "SELECT * FROM keys ORDER BY used_at DESC, id DESC"
        return self.run(lambda: [Key(*row) for row in self.catalogue.db.execute(sql)])

    def segment(self, key: Key) -> Segment:
        """The file that holds a key's vectors."""
        if key.file_name not in self._segments:
            path = self.path / "segments" / key.file_name
            self._segments[key.file_name] = Segment(path, key.dim, key.dtype)
        return self._segments[key.file_name]

    def run(self, action: Callable[[], T]) -> T:
        """Do `action`; where what it reads is damaged, set that aside and do it again on what is left."""
        with self.catalogue.lock:
            if self.catalogue.renew():
                self._segments.clear()
            for _ in range(3):
                try:
                    with self.catalogue.translated():
                        return action()
                except SegmentDamaged as damage:
                    with self.catalogue.translated():
                        self._set_segments_aside(str(damage))
                except CatalogueDamaged as damage:
                    self._segments.clear()
                    self.catalogue.rebuild(str(damage))
        raise StoreError(f"the store {self.path} is damaged and could not be rebuilt; remove it or name another")

    def _lookup(self, store_key: str, hashes: Sequence[bytes]) -> Found:
        sql = "SELECT sha256, row, checksum, flags FROM vectors WHERE key_id = ? AND sha256 IN ({})"
        with self.catalogue.transaction("DEFERRED"):  # the key's generation and its rows must be of one moment
            key = self._key(store_key)
            rows = {row[0]: row for row in self.catalogue.select_in(sql, (key.id,), hashes)} if key else {}
        return self._read(key, [rows.get(sha) for sha in hashes])

    def _lookup_files(self, store_key: str, files: Sequence[Identity | None]) -> Found:
        sql = (
            "SELECT f.path, f.identity, v.sha256, v.row, v.checksum, v.flags FROM files f "
            "JOIN vectors v ON v.key_id = ? AND v.sha256 = f.sha256 WHERE f.path IN ({})"
        )
        settled = [file.path for file in files if file and file.settled]
        with self.catalogue.transaction("DEFERRED"):
            key = self._key(store_key)
            rows = {row[:2]: row[2:] for row in self.catalogue.select_in(sql, (key.id,), settled)} if key else {}
        return self._read(key, [rows.get(file[:2]) if file and file.settled else None for file in files])

    def _read(self, key: Key | None, records: Sequence[Sequence[Any] | None]) -> Found:
        """The vectors of M (hash, row, checksum, flags), None for those that are not here."""
        found = np.array([record is not None for record in records], bool)  # (M,)
        vectors = np.zeros((len(records), key.dim if key else 0), np.float32)  # (M, D)
        flags: list[tuple[str, ...]] = [
            tuple(record[3].split(",")) if record and record[3] else () for record in records
        ]
        if key is not None and found.any():
            hashes, rows, sums, _ = zip(*(record for record in records if record), strict=True)
            raw, places = self.segment(key).read(np.array(rows)), np.flatnonzero(found)  # (k, D), (k,)
            vectors[places] = raw
            wrong = checksums(raw) != np.array(sums)
            found[places[wrong]], vectors[places[wrong]] = False, 0
            self._after_lookup(key, [hashes[i] for i in np.flatnonzero(wrong)])
        return Found(found, vectors, flags)

    def _after_lookup(self, key: Key, wrong: list[bytes]) -> None:
        if wrong:
            self.catalogue.notice(f"{len(wrong)} damaged vectors in {self.segment(key).path} will be computed again")
            self.forget(key, wrong)
        if time.time() - key.used_at > DAY_S:
            self._write("UPDATE keys SET used_at = ? WHERE id = ?", [(int(time.time()), key.id)])

    def forget(self, key: Key, hashes: Sequence[bytes]) -> None:
        """Take rows out of the catalogue; their bytes stay until `prune`."""
        self._write("DELETE FROM vectors WHERE key_id = ? AND sha256 = ?", [(key.id, sha) for sha in hashes])

    def _put(
        self, store_key: str, hashes: Sequence[bytes], vectors: Array, flags: Sequence[tuple[str, ...]], dtype: DType
    ) -> None:
        dim, now = vectors.shape[1], int(time.time())
        with self.catalogue.transaction() as db:
            key = self._key(store_key) or self._new_key(db, store_key, dim, dtype, now)
            if (key.dim, key.dtype) != (dim, dtype):
                raise StoreError(f"the store has {key.dim} x {key.dtype} under {store_key!r}, not {dim} x {dtype}")
            sql = "SELECT sha256 FROM vectors WHERE key_id = ? AND sha256 IN ({})"
            here = {row[0] for row in self.catalogue.select_in(sql, (key.id,), hashes)}
            fresh = {sha: place for place, sha in reversed(list(enumerate(hashes))) if sha not in here}
            places = sorted(fresh.values())
            if not places:
                return
            rows = vectors[places].astype(dtype)  # (n, D)
            self.segment(key).write(key.rows, rows)
            records = [
                (key.id, hashes[place], key.rows + i, int(checksum), ",".join(flags[place]), now)
                for i, (place, checksum) in enumerate(zip(places, checksums(rows), strict=True))
            ]
            db.executemany("INSERT INTO vectors VALUES (?, ?, ?, ?, ?, ?)", records)
            db.execute("UPDATE keys SET rows = ?, used_at = ? WHERE id = ?", (key.rows + len(places), now, key.id))

    def _matrix(self, store_key: str) -> tuple[list[bytes], Array]:
        sql = "SELECT row, sha256 FROM vectors WHERE key_id = ? ORDER BY row"
        with self.catalogue.transaction("DEFERRED") as db:
            key = self._key(store_key)
            rows = db.execute(sql, (key.id,)).fetchall() if key else []
        if key is None or not rows:
            return [], np.zeros((0, key.dim if key else 0), np.float16)
        count = rows[-1][0] + 1
        mapped = self.segment(key).mapped(count)[:count]
        return [row[1] for row in rows], mapped if count == len(rows) else mapped[[row[0] for row in rows]]

    def _key(self, store_key: str) -> Key | None:
        row = self.catalogue.db.execute("SELECT * FROM keys WHERE store_key = ?", (store_key,)).fetchone()
        return Key(*row) if row else None

    def _new_key(self, db: sqlite3.Connection, store_key: str, dim: int, dtype: DType, now: int) -> Key:
        sql = "INSERT INTO keys VALUES (NULL, ?, ?, ?, 0, 0, ?, ?) RETURNING *"
        return Key(*db.execute(sql, (store_key, dim, dtype, now, now)).fetchone())

    def _write(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self.catalogue.transaction() as db:
            db.executemany(sql, rows)

    def _set_segments_aside(self, why: str) -> None:
        """Move away every segment that is damaged now (another process may have replaced it) and forget its rows."""
        self._segments.clear()
        with self.catalogue.transaction() as db:
            for key in [Key(*row) for row in db.execute("SELECT * FROM keys WHERE rows > 0").fetchall()]:
                try:
                    self.segment(key).mapped(key.rows)
                except SegmentDamaged:
                    self._set_aside(db, key, why)

    def _set_aside(self, db: sqlite3.Connection, key: Key, why: str) -> None:
        aside, path = self.catalogue.aside(), self.path / "segments" / key.file_name
        if path.exists():
            path.rename(aside / key.file_name)
        db.execute("DELETE FROM vectors WHERE key_id = ?", (key.id,))
        db.execute("DELETE FROM keys WHERE id = ?", (key.id,))
        del self._segments[key.file_name]
        self.catalogue.notice(f"part of the store was damaged ({why}); it was set aside in {aside} and is rebuilt")
