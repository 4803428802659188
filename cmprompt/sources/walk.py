"""The picture files below a folder: sorted, depth first, each once, however the links run."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cmprompt.errors import ItemError
from cmprompt.sources.options import SourceOptions, failed, file_item
from cmprompt.types import FileBytes, Item

_MAX_IGNORE_BYTES = 1 << 20
_MOST_PATTERNS = 64  # folders whose patterns are kept: each link asks again what is left out on the way to its target
_MOST_STARS = 3  # in a name of a pattern: with each more, a long name takes a hundred times as long
_MOST_STARRY = 20  # lines of an ignore file that have several


@dataclass(frozen=True)
class _Folder:
    """`rules`: the (folder, patterns) of every .gitignore that applies, innermost first."""

    path: str
    rules: tuple[tuple[str, Any], ...] = ()
    linked: bool = False  # reached through a link


@dataclass
class _Walk:
    options: SourceOptions
    real_root: str
    entered: set[tuple[int, int]] = field(default_factory=set)  # folders reached through links, by device and inode
    patterns: Callable[[str], Any] = field(default_factory=lambda: lru_cache(_MOST_PATTERNS)(_patterns))

    def wants(self, name: str) -> bool:
        return self.options.takes(name)

    def enters(self, path: str) -> bool:
        """Whether this is the first way to the folder `path`, which a link leads to."""
        info = os.stat(path)
        key = (info.st_dev, info.st_ino)
        is_new = key not in self.entered
        self.entered.add(key)
        return is_new

    def rules_in(self, folder: _Folder) -> tuple[tuple[str, Any], ...]:
        """The folder's own rules, then those of the folders above it."""
        patterns = self.patterns(os.path.join(folder.path, ".gitignore"))
        return folder.rules if patterns is None else ((folder.path, patterns), *folder.rules)

    def reaches(self, target: str, is_folder: bool) -> bool:
        """Whether the walk comes to the real path `target` without a link: nothing on the way is left out."""
        if os.path.splitdrive(target)[0] != os.path.splitdrive(self.real_root)[0]:
            return False
        relative = os.path.relpath(target, self.real_root)
        folder = _Folder(self.real_root)
        for part in relative.split(os.sep) if relative != "." else ():
            path, rules = os.path.join(folder.path, part), self.rules_in(folder)
            if part.startswith(".") or _is_ignored(path, is_folder or path != target, rules):
                return False
            folder = _Folder(path, rules)
        return True

    def is_above(self, target: str) -> bool:
        """Whether the real path `target` is a folder that holds the root."""
        return (self.real_root + os.sep).startswith(target.rstrip(os.sep) + os.sep)


def walk(root: str, options: SourceOptions) -> Iterator[Item]:
    """Items for the files below `root`; an unreadable folder is one item that fails.

    Hidden files and what a `.gitignore` names are left out. A link is followed only to what the walk does not reach
    by itself, so that nothing is read twice and loops end. Holds the names of the folders on the way down, no more.
    """
    state = _Walk(options, os.path.realpath(root))
    pending: list[Iterator[str | _Folder]] = [iter([_Folder(root)])]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif isinstance(entry, str):
            yield file_item(entry, _class_of(entry, root) if options.class_folders else None)
        else:
            try:
                if not entry.linked or state.enters(entry.path):
                    pending.append(_entries(state, entry))
            except OSError as error:
                yield failed(entry.path, error)


def _class_of(path: str, root: str) -> str | None:
    """The first folder below the root (the ImageFolder convention)."""
    parts = os.path.relpath(path, root).split(os.sep)
    return parts[0] if len(parts) > 1 else None


def _entries(state: _Walk, folder: _Folder) -> Iterator[str | _Folder]:
    """What to read (a path) or to enter (a folder), sorted by name. Raises OSError."""
    rules = state.rules_in(folder)
    files: list[str] = []
    folders: dict[str, _Folder] = {}
    with os.scandir(folder.path) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            kind = _kind(state, entry)
            if kind != "nothing" and (kind == "other" or _is_ignored(entry.path, kind == "folder", rules)):
                state.options.skip(entry.path)
            elif kind == "folder":
                folders[entry.name] = _Folder(entry.path, rules, folder.linked or entry.is_symlink())
            elif kind == "file":
                files.append(entry.name)
    names = sorted([*files, *folders])
    return (folders.get(name) or os.path.join(folder.path, name) for name in names)


def _kind(state: _Walk, entry: os.DirEntry[str]) -> str:
    """file, folder, other (to be counted as skipped) or nothing (met again under its own name)."""
    if entry.is_symlink():
        return _kind_of_link(state, entry)
    if entry.is_dir():
        return "folder"
    return "file" if entry.is_file() and state.wants(entry.name) else "other"


def _kind_of_link(state: _Walk, entry: os.DirEntry[str]) -> str:
    target = os.path.realpath(entry.path)
    try:
        mode = os.stat(entry.path).st_mode
    except OSError:  # leads nowhere, or in a circle: the record will say so
        return "file" if state.wants(entry.name) else "other"
    if stat.S_ISDIR(mode):
        return "nothing" if state.is_above(target) or state.reaches(target, True) else "folder"
    if not stat.S_ISREG(mode) or not state.wants(entry.name):
        return "other"
    return "nothing" if state.wants(os.path.basename(target)) and state.reaches(target, False) else "file"


def _patterns(path: str) -> Any:
    """What a .gitignore says, None where there is none; a line that is no pattern is passed over, as Git does, and so
    is one that could take for ever."""
    try:
        if os.stat(path).st_size > _MAX_IGNORE_BYTES:
            return None
        lines = FileBytes(path)().decode("utf-8", "surrogateescape").splitlines()
    except (OSError, ItemError):
        return None
    from pathspec import GitIgnoreSpec

    # of `[[`, which may come to mean something else in Python; `catch_warnings` would race between threads
    warnings.filterwarnings("ignore", category=FutureWarning, module="pathspec")
    patterns: list[Any] = []
    starry = 0
    for line in (line for line in lines if not line.startswith("#")):
        stars = _stars(line)
        starry += stars > 1
        if stars > _MOST_STARS or (stars > 1 and starry > _MOST_STARRY):
            continue
        with suppress(ValueError, re.error):
            patterns += GitIgnoreSpec.from_lines([line]).patterns
    return GitIgnoreSpec(patterns)


def _stars(line: str) -> int:
    """The most stars in one name of a pattern, but for those at its end, which take all; or of `**` between names, that
    count for nearly two: paths are longer than names."""
    return max(2 * line.count("/**/") - 1, *(name.rstrip("*").count("*") for name in line.split("/")))


def _is_ignored(path: str, is_folder: bool, rules: tuple[tuple[str, Any], ...]) -> bool:
    for base, patterns in rules:
        relative = os.path.relpath(path, base).replace(os.sep, "/")
        include = patterns.check_file(relative + "/" if is_folder else relative).include
        if include is not None:
            return bool(include)
    return False
