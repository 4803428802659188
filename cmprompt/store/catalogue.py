"""The store's SQLite file: opening it, its transactions, and what happens when it is damaged, full or too new."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmprompt.errors import OutputError, StoreError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x636D7072  # "cmpr"
BUSY_TIMEOUT_S = 60
CHUNK = 900  # values in one IN (...): below the limit of every SQLite
LOCAL_FILE_SYSTEMS = {
    "apfs", "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus", "jfs", "msdos",
    "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "tmpfs", "udf", "ufs", "vfat", "xfs", "zfs",
}  # fmt: skip
FILE_NAMES = ("catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm", "catalogue.sqlite-journal")

SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, store_key TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL, dtype TEXT NOT NULL,
    generation INTEGER NOT NULL, rows INTEGER NOT NULL, added_at INTEGER NOT NULL, used_at INTEGER NOT NULL);
CREATE TABLE vectors (
    key_id INTEGER NOT NULL, sha256 BLOB NOT NULL, row INTEGER NOT NULL, checksum INTEGER NOT NULL, flags TEXT NOT NULL,
    added_at INTEGER NOT NULL, PRIMARY KEY (key_id, sha256)) WITHOUT ROWID;
CREATE TABLE files (path BLOB PRIMARY KEY, identity BLOB NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class CatalogueDamaged(Exception):
    """The catalogue is not one."""


class Catalogue:
    """One connection to DIR/catalogue.sqlite, used by one thread at a time."""

    def __init__(self, folder: Path, notice: Callable[[str], None]) -> None:
        self.folder = folder
        self.notice = notice
        self.lock = threading.RLock()
        self._inode: int | None = None
        self.db = self._open(broken=None, why="")

    def close(self) -> None:
        with self.lock:
            self.db.close()

    def __del__(self) -> None:
        if hasattr(self, "db"):  # opening may have failed
            self.db.close()

    def renew(self) -> bool:
        """Open again where that is due, and say whether it was: where another catalogue has taken this one's place, or
        it was removed; and in a fork, which has none of the locks of the process that opened it."""
        if self._process == os.getpid() and self._inode == _inode(self.folder / FILE_NAMES[0]):
            return False
        self.db.close()
        self.db = self._open(broken=None, why="")
        return True

    def rebuild(self, why: str) -> None:
        """Set the damaged catalogue aside and start another; only reopen where another process did that already."""
        self.db.close()
        self.db = self._open(self._inode, why)

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One transaction; IMMEDIATE holds the write lock among threads and processes."""
        with self.lock:
            self.db.execute(f"BEGIN {kind}")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def select_in(self, sql: str, before: tuple[object, ...], values: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Rows of `sql`, whose `{}` stands for a list of values, however many there are."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK]
            rows += self.db.execute(sql.format(",".join("?" * len(part))), (*before, *part)).fetchall()
        return rows

    def aside(self) -> Path:
        """A folder for what is damaged now."""
        folder = self.folder / f"aside-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        folder.mkdir(exist_ok=True)
        return folder

    @contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._translate(error) from error
        except TimeoutError as error:
            raise StoreError(f"the store {self.folder} stays locked by another process: {error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise self._full(reason) if full else self._unusable(reason) from error

    def _translate(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such" in str(error):
            return CatalogueDamaged(str(error))
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return self._full(str(error))
        return self._unusable(str(error))

    def _full(self, reason: str) -> OutputError:
        return OutputError(f"cannot write the store {self.folder}: {reason}; make room, or name another with --store")

    def _unusable(self, reason: str) -> StoreError:
        return StoreError(f"cannot use the store {self.folder}: {reason}; name another with --store, or use --no-store")

    def _open(self, broken: int | None, why: str) -> sqlite3.Connection:
        """Connect, creating or rebuilding what is not there; `broken` is the inode of a catalogue known to be bad."""
        from filelock import FileLock

        catalogue = self.folder / FILE_NAMES[0]
        with self.translated():
            (self.folder / "segments").mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "open.lock", timeout=BUSY_TIMEOUT_S):
                if broken is not None and _inode(catalogue) == broken:
                    self._set_aside(why)
                try:
                    db = self._connect(catalogue)
                except CatalogueDamaged as damage:
                    self._set_aside(str(damage))
                    db = self._connect(catalogue)
                self._inode, self._process = _inode(catalogue), os.getpid()
                return db

    def _connect(self, catalogue: Path) -> sqlite3.Connection:
        with self.translated():
            db = sqlite3.connect(catalogue, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(db, catalogue)
            except BaseException:
                db.close()
                raise
            return db

    def _prepare(self, db: sqlite3.Connection, catalogue: Path) -> None:
        """Check whose catalogue this is, or make it ours."""
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{catalogue} was made by a newer cmprompt (schema {version}, this one knows {SCHEMA_VERSION}); "
                "upgrade, or use another store with --store DIR"
            )
        if tables and not {"keys", "vectors", "files"} <= tables:
            raise CatalogueDamaged(f"{catalogue} lacks tables")
        on_network = _on_network(self.folder)
        db.execute(f"PRAGMA journal_mode = {'DELETE' if on_network else 'WAL'}")
        db.execute(f"PRAGMA synchronous = {'FULL' if on_network else 'NORMAL'}")
        if not tables:
            db.executescript(SCHEMA)

    def _set_aside(self, why: str) -> None:
        """Move the catalogue and its segments away: neither can be trusted without the other."""
        aside = self.aside()
        for name in (*FILE_NAMES, "segments"):
            if (self.folder / name).exists():
                (self.folder / name).rename(aside / name)
        (self.folder / "segments").mkdir(exist_ok=True)
        self.notice(f"the store was damaged ({why}); it was set aside in {aside} and is rebuilt")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _on_network(path: Path) -> bool:
    """Whether `path` may lie on a network file system, where WAL does not work (told on Linux, and of UNC paths)."""
    real = os.path.join(os.path.realpath(path), "")
    if real.startswith("\\\\"):
        return True
    try:
        mounts = [line.split(" ")[1:3] for line in Path("/proc/mounts").read_text(errors="replace").splitlines()]
    except OSError:
        return False
    points = [(_unescaped(point), kind) for point, kind in mounts]
    holding = [(len(point), kind) for point, kind in points if real.startswith(os.path.join(point, ""))]
    return bool(holding) and max(holding)[1] not in LOCAL_FILE_SYSTEMS


def _unescaped(point: str) -> str:
    r"""A mount point as it is called: /proc/mounts writes a blank as \040, and tab, newline and backslash alike."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
