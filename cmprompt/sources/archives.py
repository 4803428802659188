"""The members of a tar or zip, read in memory under a budget; nothing is ever written to disk."""

from __future__ import annotations

import gzip
import posixpath
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, NoReturn, Self, cast
from zlib import crc32

from cmprompt.errors import ItemError
from cmprompt.types import MemberBytes, open_regular, stamp_of

MAX_MEMBER_BYTES = 256 << 20
_MAX_RATIO = 300
_RATIO_COUNTS_FROM = 1 << 20
_BLOCK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 17  # an attribute of Linux may have half of that
_MOST_FIELDS = 100  # that a tar gives all its members
_LONG_NUMBER = re.compile(rb"\d{256}")  # no name is as long
PICKLES = (".pkl", ".pickle", ".pyd", ".pyc", ".pt", ".pth")

_faults = cast(Any, tarfile)  # its stubs do not know all of them
_END, _CUT = _faults.EOFHeaderError, (_faults.EmptyHeaderError, _faults.TruncatedHeaderError)


@dataclass(frozen=True)
class Member:
    """`read` may be called until the next member is asked for; it raises ItemError, as does a member to be refused.
    `stored`, in a tar that is not compressed, may be called at any time."""

    name: str
    read: Callable[[], bytes]
    stored: MemberBytes | None = None


def read_members(path: str) -> Iterator[Member]:
    """Every member but folders, in the archive's order; a second one of a name is refused. Holds the names of all.

    Raises OSError; ItemError for what is no regular file, and where the archive itself is broken.
    """
    seen: set[str] = set()
    try:
        for member in _zip_members(path) if path.lower().endswith(".zip") else _tar_members(path):
            yield Member(member.name, _refuse_second) if member.name in seen else member
            seen.add(member.name)
    except Exception as error:  # hostile bytes make these libraries raise anything
        if isinstance(error, ItemError) or (isinstance(error, OSError) and error.errno is not None):
            raise  # no regular file, no such file, no permission
        raise _broken(error) from error


def _refuse_second() -> NoReturn:
    raise ItemError("unsupported", "a second member of this name is refused")


def _tar_members(path: str) -> Iterator[Member]:
    with open_regular(path) as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if is_gzip else file
        stamp = stamp_of(file)
        with tarfile.open(fileobj=cast(IO[bytes], _Headers(stream)), mode="r:", tarinfo=_Header) as archive:
            while (info := archive.next()) is not None:
                cast(Any, archive).members.clear()  # tarfile remembers every member it has seen
                if not info.isdir():
                    refusal = _refusal_of_tar(info, archive.offset)
                    read = partial(_read_at, stream, info.offset_data, info.size)
                    header = cast(_Header, info).checksum
                    place = MemberBytes(path, stamp, header, info.offset_data, info.size)
                    yield Member(info.name, _reader(refusal, read, info.size), None if is_gzip or refusal else place)
        while is_gzip and stream.read(_BLOCK_BYTES):  # gzip's checksum stands at its end
            pass


def _read_at(stream: IO[bytes], offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


class _Header(tarfile.TarInfo):
    """A member's header, whose faults are raised, where `tarfile` would take them for the end of the archive, or go
    back to where it was (CVE-2025-8194). `checksum` is the CRC-32 of its block."""

    checksum: int

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        member.checksum = crc32(buf)
        return member

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        start = archive.offset
        if len(archive.pax_headers) > _MOST_FIELDS:
            raise tarfile.ReadError(f"more than {_MOST_FIELDS} fields for all members at byte {start}")
        try:
            member = super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, _END) or archive.offset == 0:  # where there is no archive at all, `tarfile` says so
                raise
            what = "unexpected end of data" if isinstance(error, _CUT) else str(error)
            raise tarfile.ReadError(f"{what} at byte {archive.offset}") from error
        except (ValueError, OverflowError) as error:  # a length in it that no file can have
            raise tarfile.ReadError(f"a header that makes no sense at byte {archive.offset}") from error
        if member.size < 0 or archive.offset <= start:
            raise tarfile.ReadError(f"a size below 0 at byte {start}")
        return member


class _Headers:
    """What `tarfile` reads of a stream, the headers alone: it believes their sizes, and takes quadratic time for long
    ones (CVE-2024-6232)."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self._read(size)
        if _LONG_NUMBER.search(data):
            raise tarfile.ReadError("a header that makes no sense")
        return data


def _refusal_of_tar(info: tarfile.TarInfo, next_offset: int) -> ItemError | None:
    if not info.isreg():
        return ItemError("unsupported", "a link or a device in an archive is refused")
    if info.issparse():
        return ItemError("unsupported", "a sparse member is refused; pack it without --sparse")
    if info.offset_data + info.size > next_offset:  # by a size for all members: each would be read again and again
        return ItemError("unreadable", "broken archive: this member overlaps the next")
    return _refusal(info.name, info.size)


def _zip_members(path: str) -> Iterator[Member]:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.filename.endswith("/"):
                reader = _reader(_refusal_of_zip(info), partial(_read_zipped, archive, info), info.file_size)
                yield Member(info.filename, reader)


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        return file.read(info.file_size + 1)


def _refusal_of_zip(info: zipfile.ZipInfo) -> ItemError | None:
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return ItemError("unsupported", "a link or a device in an archive is refused")
    if info.flag_bits & 1:
        return ItemError("unsupported", "encrypted")
    if info.file_size > max(_RATIO_COUNTS_FROM, _MAX_RATIO * info.compress_size):
        return ItemError("too_large", f"{info.file_size} bytes from {info.compress_size}: refused as a bomb")
    return _refusal(info.filename, info.file_size)


def _refusal(name: str, size: int) -> ItemError | None:
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
        return ItemError("unsupported", "a name that leads out of the archive is refused")
    if name.lower().endswith(PICKLES):
        return ItemError("unsupported", "a pickle is refused: it could run code")
    if size > MAX_MEMBER_BYTES:
        return ItemError("too_large", f"{size} bytes; the cap on a member is {MAX_MEMBER_BYTES}")
    return None


def _reader(refusal: ItemError | None, take: Callable[[], bytes], size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        if refusal is not None:
            raise refusal
        try:
            data = take()
        except Exception as error:
            raise _broken(error) from error
        if len(data) < size:
            raise ItemError("truncated", "the archive ends within this member")
        return data

    return read


def _broken(error: Exception) -> ItemError:
    """What a fault in the archive itself makes of a member, or of the archive as a whole."""
    if isinstance(error, MemoryError):
        return ItemError("out_of_memory", "not enough memory to read this archive")
    is_cut = isinstance(error, EOFError) or ("end of" in str(error) and not isinstance(error, UnicodeError))
    return ItemError("truncated" if is_cut else "unreadable", f"broken archive: {error}")


def normal_name(name: str) -> str:
    """Without a leading `./`, which tar writes."""
    return posixpath.normpath(name) if name.startswith("./") else name
