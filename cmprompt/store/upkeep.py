"""Looking after a store: what is in it, what may go, whether it is sound."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cmprompt.atomic import in_turn
from cmprompt.encoding import are_usable
from cmprompt.store import DAY_S, Key, Store
from cmprompt.store.catalogue import FILE_NAMES
from cmprompt.store.segments import Segment, checksums
from cmprompt.types import Array

BLOCK = 8192  # rows copied or checked at once
SEGMENT = re.compile(r"\d{6,}-\d+\.float(16|32)")  # as `Key.file_name`; a folder may hold what is not the store's
ASIDE = re.compile(r"aside-\d{8}-\d{6}-\d+")  # as `Catalogue.aside`


@dataclass(frozen=True)
class Summary:
    """What a store holds: `keys` with their count of vectors, remembered `files`, what was set `aside`, and `size` in
    bytes of it all."""

    keys: list[tuple[Key, int]]
    files: int
    aside: list[Path]
    size: int


def summary(store: Store) -> Summary:
    """Count what is in the store."""

    def count() -> tuple[list[tuple[Key, int]], int]:
        db = store.catalogue.db
        counts = dict(db.execute("SELECT key_id, COUNT(*) FROM vectors GROUP BY key_id").fetchall())
        files = db.execute("SELECT COUNT(*) FROM files").fetchone()[0]
        return [(key, counts.get(key.id, 0)) for key in store.keys()], files

    keys, files = store.run(count)
    return Summary(keys, files, _asides(store.path), _size(store.path))


def prune(
    store: Store,
    *,
    older_than_days: float | None = None,
    unused_days: float | None = None,
    max_bytes: int | None = None,
) -> int:
    """Drop vectors kept more than so many days ago, keys not used for so many, and then, the least lately used key
    first and its oldest vectors first, as much as is over `max_bytes`; also what serves nothing any more: the files
    of dropped contents, holes in segments, what was set aside. Returns the bytes that came free."""
    before = _size(store.path)
    with in_turn(store.path / "prune.lock"):  # two at once would write the same new segments
        for key, first_kept in store.run(lambda: _plan(store, older_than_days, unused_days, max_bytes)):
            store.run(partial(_compact, store, key, first_kept))
        _sweep(store)
    return before - _size(store.path)


def clear(store: Store) -> None:
    """Drop everything. Other processes may go on with the store: for them it is empty from now on."""

    def drop() -> None:
        with store.catalogue.transaction() as db:
            for table in ("vectors", "files", "keys"):
                db.execute(f"DELETE FROM {table}")

    store.run(drop)
    _sweep(store)


def verify(store: Store) -> Iterator[tuple[Key, int, int]]:
    """For each key, how many vectors were read and how many of them were not as they were written, finite unit rows.
    Those are dropped, so that they are computed again."""
    for key in store.keys():
        yield (key, *store.run(partial(_verify, store, key)))


def _plan(
    store: Store, older_than_days: float | None, unused_days: float | None, max_bytes: int | None
) -> list[tuple[Key, int]]:
    """Every key and the first of its rows that stays."""
    now = time.time()
    with store.catalogue.transaction("DEFERRED") as db:
        keys = [Key(*row) for row in db.execute("SELECT * FROM keys ORDER BY used_at, id").fetchall()]
        first_kept = {key.id: 0 for key in keys}  # rows are in the order of their age
        for key in keys:
            if unused_days is not None and key.used_at < now - unused_days * DAY_S:
                first_kept[key.id] = key.rows
            elif older_than_days is not None:
                sql = "SELECT MIN(row) FROM vectors WHERE key_id = ? AND added_at >= ?"
                youngest = db.execute(sql, (key.id, now - older_than_days * DAY_S)).fetchone()[0]
                first_kept[key.id] = key.rows if youngest is None else youngest
        if max_bytes is not None:
            row_bytes = {key.id: store.segment(key).row_bytes for key in keys}
            excess = sum((key.rows - first_kept[key.id]) * row_bytes[key.id] for key in keys) - max_bytes
            for key in keys:
                dropped = min(key.rows - first_kept[key.id], max(0, -(-excess // row_bytes[key.id])))
                first_kept[key.id] += dropped
                excess -= dropped * row_bytes[key.id]
    return [(key, first_kept[key.id]) for key in keys]


def _compact(store: Store, planned: Key, first_kept: int) -> None:
    """Write the rows that stay to a new generation of the segment; the old one is swept once this is committed.

    That takes long, so it is done before the lock is taken: within a generation no row changes. A key that was dropped
    or set aside meanwhile is let be.
    """
    with store.catalogue.transaction("DEFERRED") as db:
        key, copied = _current(db, planned), _rows_from(db, planned, first_kept)
    if key is None or len(copied) == key.rows:
        return
    renewed = replace(key, generation=key.generation + 1)
    _copy(store.segment(key), copied, store.segment(renewed), 0)
    with store.catalogue.transaction() as db:
        if _current(db, key):
            late = _rows_from(db, key, key.rows)
            _copy(store.segment(key), late, store.segment(renewed), len(copied))
            db.execute("DELETE FROM vectors WHERE key_id = ? AND row < ?", (key.id, first_kept))
            _renumber(db, renewed, np.concatenate([copied, late]))


def _renumber(db: sqlite3.Connection, key: Key, rows: Array) -> None:
    """Go over to the new generation, which holds these `rows` (n,) of the old one in this order."""
    places = np.zeros(rows.max(initial=-1) + 1, np.int64)
    places[rows] = np.arange(len(rows))
    db.create_function("place_of", 1, places.tolist().__getitem__)  # a quarter of the time of a statement for each row
    db.execute("UPDATE keys SET generation = ?, rows = ? WHERE id = ?", (key.generation, len(rows), key.id))
    if not db.execute("UPDATE vectors SET row = place_of(row) WHERE key_id = ?", (key.id,)).rowcount:
        db.execute("DELETE FROM keys WHERE id = ?", (key.id,))


def _current(db: sqlite3.Connection, key: Key) -> Key | None:
    """The key as it is now; none where it is gone, or its rows have other places."""
    row = db.execute("SELECT * FROM keys WHERE id = ? AND generation = ?", (key.id, key.generation)).fetchone()
    return Key(*row) if row else None


def _rows_from(db: sqlite3.Connection, key: Key, first: int) -> Array:
    """(n,) the rows of a key from one on, rising."""
    sql = "SELECT row FROM vectors WHERE key_id = ? AND row >= ? ORDER BY row"
    return np.array(db.execute(sql, (key.id, first)).fetchall(), np.int64).reshape(-1)


def _copy(source: Segment, rows: Array, target: Segment, first_row: int) -> None:
    """Write some `rows` (n,) of one segment to another, from `first_row` on."""
    for start in range(0, len(rows), BLOCK):
        target.write(first_row + start, source.read(rows[start : start + BLOCK]))


def _sweep(store: Store) -> None:
    """Remove what the catalogue does not name. A file that another process has open (Windows) waits for the next."""

    def sweep() -> None:
        with store.catalogue.transaction() as db:
            db.execute("DELETE FROM files WHERE sha256 NOT IN (SELECT sha256 FROM vectors)")
            names = {Key(*row).file_name for row in db.execute("SELECT * FROM keys")}
            for path in _segments(store.path / "segments"):
                if path.name not in names:
                    with suppress(PermissionError):
                        path.unlink()
        store.catalogue.db.execute("VACUUM")
        store.catalogue.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for folder in _asides(store.path):
            _remove(folder)

    store.run(sweep)


def _verify(store: Store, key: Key) -> tuple[int, int]:
    db, bad = store.catalogue.db, []
    sql = "SELECT row, checksum, sha256 FROM vectors WHERE key_id = ? ORDER BY row"
    records = db.execute(sql, (key.id,)).fetchall()
    for start in range(0, len(records), BLOCK):
        part = records[start : start + BLOCK]
        raw = store.segment(key).read(np.array([row for row, _, _ in part]))  # (n, D)
        good = are_usable(raw, key.store_key) & (checksums(raw) == np.array([checksum for _, checksum, _ in part]))
        bad += [part[place][2] for place in np.flatnonzero(~good)]
    store.forget(key, bad)
    return len(records), len(bad)


def _remove(aside: Path) -> None:
    """Delete the store's own files of what was set aside, and the folder where nothing else is in it."""
    with suppress(OSError):
        for path in _own_files(aside):
            path.unlink()
        for folder in (aside / "segments", aside):
            if folder.exists():
                folder.rmdir()


def _size(folder: Path) -> int:
    """Bytes of the store's own files."""
    return sum(path.stat().st_size for each in (folder, *_asides(folder)) for path in _own_files(each))


def _own_files(folder: Path) -> list[Path]:
    """What the store's own naming made in `folder`: the store, or what was set aside of it."""
    catalogue = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    return [*catalogue, *_segments(folder), *_segments(folder / "segments")]


def _segments(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if SEGMENT.fullmatch(path.name) and path.is_file()]


def _asides(folder: Path) -> list[Path]:
    found = (path for path in folder.glob("aside-*") if ASIDE.fullmatch(path.name) and not path.is_symlink())
    return sorted(path for path in found if path.is_dir())
