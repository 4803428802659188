"""Files that are whole or not there, and written by one process at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cmprompt.errors import OutputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

NAME_CHARACTERS = 50  # of a file in the name of its temporary one


def there_already(name: object) -> OutputError:
    """The error for an output that would be replaced unasked."""
    return OutputError(f"{name} is there already; --overwrite replaces it, -o names another file")


def check_folder(target: Path, name: object) -> None:
    """Raises OutputError where the folder of `target`, which the user called `name`, is not there, or where no file can
    have its name."""
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {name}: there is no folder {target.parent}")
    with writing(str(name)), suppress(FileNotFoundError):
        target.lstat()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` against other runs. The lock is the system's, so that a killed run leaves none behind."""
    from filelock import FileLock, Timeout

    lock = FileLock(beside(path, "lock"), timeout=0)
    with writing(str(path)):
        check_folder(path, path)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(f"{path} is being written by another run; wait for it or name another file") from None
    try:
        yield
    finally:
        _let_go(lock)


@contextmanager
def in_turn(lock_file: Path) -> Iterator[None]:
    """One process at a time in the block, the others wait.

    No lock where none can be made: nothing can be written beside it either.
    """
    from filelock import FileLock

    lock = FileLock(lock_file)
    with suppress(OSError, NotImplementedError):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        if lock.is_locked:
            _let_go(lock)


def _let_go(lock: BaseFileLock) -> None:
    with suppress(OSError):  # unlinked while it is held: who comes next makes a new one, and who waits sees that
        os.unlink(lock.lock_file)
    lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream that becomes `path` when the block is left, and is removed when an exception leaves it.

    Until then it is `.FILE.????????.tmp`, a name of its own, which is all that a killed process leaves behind. Of a
    long name it has the beginning alone.
    """
    temporary = path.with_name(f".{path.name[:NAME_CHARACTERS]}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as stream:  # never what is there, nor where a link leads
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            error.filename = str(path)  # the name that the user knows
        raise


@contextmanager
def writing(name: str) -> Iterator[None]:
    """The system's refusals to write, as OutputError; a reader that left is no refusal."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {error.filename or name}: {error.strerror or error}") from error


def beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")
