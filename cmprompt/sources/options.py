"""What the input flags say, and the small pieces that every source shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NoReturn

from cmprompt.errors import ItemError
from cmprompt.sources.names import is_image_name
from cmprompt.types import FileBytes, Item

_URL = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class SourceOptions:
    """The input flags. `stdin` is what `-` reads, or `requests`, lines of JSON. A list's relative paths begin at
    `list_folder`, by default where the process runs.

    `usual_columns` are those of a fitted head by the names of their flags' fields: taken where a table has them and no
    flag names another. `skipped` is called with each file that a walk leaves out. `videos`: folders give videos too,
    where the extra for them is installed.
    """

    files_from: str | None = None
    null_separated: bool = False
    list_folder: str = ""
    requests: bool = False
    image_col: str | None = None
    text_col: str | None = None
    target_col: str | None = None
    usual_columns: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    all_files: bool = False
    class_folders: bool = False
    videos: bool = False
    stdin: BinaryIO | None = None
    skipped: Callable[[str], None] | None = None

    def takes(self, name: str) -> bool:
        """Whether a walk reads a file of this name."""
        if self.all_files or is_image_name(name):
            return True
        if not self.videos:
            return False
        from cmprompt.sources.video import has_decoder, is_video_name

        return is_video_name(name) and has_decoder()

    def skip(self, path: str) -> None:
        """Count one file that is not read."""
        if self.skipped is not None:
            self.skipped(path)


def failed(id: str, error: Exception) -> Item:
    """An item that becomes a record of this failure when its image is asked for."""
    return Item(id, partial(_throw, error))


def failure_of(image: Callable[[], object] | None) -> ItemError | None:
    """What an item's `image` is known to raise before it is asked for; None where that is not known."""
    error = image.args[0] if isinstance(image, partial) and image.func is _throw else None
    return error if isinstance(error, ItemError) else None


def _throw(error: Exception) -> NoReturn:
    raise error


def file_item(path: str, target: str | None = None) -> Item:
    """One file, whatever it turns out to be."""
    return Item(path, image_at(path), target=target)


def is_address(path: str) -> bool:
    """Whether this is an http or https address."""
    return _URL.match(path) is not None


def image_at(path: str) -> Callable[[], bytes]:
    """The bytes of what was named; an address is not fetched."""
    if is_address(path):
        return partial(_throw, ItemError("unsupported", "addresses are not fetched; download the picture first"))
    return FileBytes(path)
