"""Where items come from: files, folders, globs, lists, tables, class folders and shards, all as one stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from cmprompt.errors import UsageError
from cmprompt.sources.files import read_list, read_named
from cmprompt.sources.options import SourceOptions
from cmprompt.sources.requests import read_requests
from cmprompt.types import Item

__all__ = ["SourceOptions", "read_items"]


def read_items(inputs: Sequence[str], options: SourceOptions = SourceOptions()) -> Iterator[Item]:  # noqa: B008
    """Every input's items, in order. What is wrong with one item is raised by its own `image`.

    Raises UsageError for a table or a list that makes no sense.
    """
    return islice(_all(inputs, options), options.limit)


def _all(inputs: Sequence[str], options: SourceOptions) -> Iterator[Item]:
    if options.requests:
        yield from read_requests(options.stdin or sys.stdin.buffer)
    if options.files_from is not None:
        yield from _listed(options.files_from, options)
    for name in inputs:
        yield from _listed(name, options) if name == "-" else read_named(name, options)


def _listed(name: str, options: SourceOptions) -> Iterator[Item]:
    if name == "-":
        yield from read_list(options.stdin or sys.stdin.buffer, "standard input", options)
        return
    try:
        stream = open(name, "rb")
    except OSError as error:
        raise UsageError(f"cannot read the list {name!r}: {error.strerror}") from error
    with stream:
        yield from read_list(stream, name, options)
