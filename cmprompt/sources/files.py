"""What is named on the command line or in a list: files, folders, globs."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from cmprompt.errors import UsageError
from cmprompt.registry import SOURCES, resolve
from cmprompt.sources.globs import expand, is_pattern
from cmprompt.sources.options import SourceOptions, file_item
from cmprompt.sources.walk import walk
from cmprompt.types import Item

_MAX_PATH_BYTES = 1 << 16


def read_named(name: str, options: SourceOptions) -> Iterator[Item]:
    """The items of one input: a path, a pattern or a shard spec. What exists under the very name is not a pattern."""
    if name.startswith("pipe:"):
        raise UsageError(f"{name!r} would start a command; give the archive itself")
    if os.path.lexists(name) or not is_pattern(name):
        return read_path(name, options)
    return read_pattern(name, options)


def read_path(path: str, options: SourceOptions) -> Iterator[Item]:
    """A folder's pictures, a table's rows, an archive's members, or one file."""
    if os.path.isdir(path):
        return walk(path, options)
    ending = next((ending for ending in SOURCES if path.lower().endswith(ending)), None)
    if ending is None:
        return iter([file_item(path)])
    items: Iterator[Item] = resolve(SOURCES, "source", ending)(path, options)
    return items


def read_pattern(pattern: str, options: SourceOptions) -> Iterator[Item]:
    """Every match of a glob as if it had been named; one that ends in `**` takes pictures, as a folder does."""
    has_matches = False
    for path in expand(pattern):
        if "**" in pattern and os.path.isdir(path):
            continue
        has_matches = True
        if pattern.endswith("**") and not options.takes(path):
            options.skip(path)
        else:
            yield from read_path(path, options)
    if not has_matches:
        yield file_item(pattern)


def read_list(stream: BinaryIO, name: str, options: SourceOptions) -> Iterator[Item]:
    """The files that a list names, one a line or one before each NUL byte; empty entries are passed over.

    The first line may begin with a byte order mark, each may end with a carriage return.
    """
    mark = BOM_UTF8
    for entry in _entries(stream, name, b"\0" if options.null_separated else b"\n"):
        path = entry if options.null_separated else entry.removeprefix(mark).removesuffix(b"\r")
        mark = b""
        if path:
            yield file_item(os.path.join(options.list_folder, os.fsdecode(path)))


def _entries(stream: BinaryIO, name: str, separator: bytes) -> Iterator[bytes]:
    rest = b""
    while block := _read_some(stream):
        *entries, rest = (rest + block).split(separator)
        yield from entries
        if len(rest) > _MAX_PATH_BYTES:
            raise UsageError(f"{name}: not a list of paths: an entry is longer than {_MAX_PATH_BYTES} bytes")
    yield rest


def _read_some(stream: BinaryIO) -> bytes:
    """At most 64 KB, and no more than is there: a slow producer's paths are given as they come. What embeds them waits
    for a block of them."""
    read: bytes = stream.read1(1 << 16) if hasattr(stream, "read1") else stream.read(1 << 16)
    return read
