"""Quoted globs and braces, expanded here: sorted, in one pass over the folders, each match once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

_MAGIC = re.compile(r"[*?\[]")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


def is_pattern(path: str) -> bool:
    """Whether the shell would expand it."""
    return any(form.search(path) for form in (_MAGIC, _RANGE, _CHOICE))


def expand(pattern: str) -> Iterator[str]:
    """The paths that match: `* ? [a-z]` within a name, `**` across folders; `{000..011}` counts, `{png,jpg}` chooses.

    Names with a leading dot match only a part that has one; `**` does not follow links.
    """
    if found := _RANGE.search(pattern):
        first, last = found.groups()
        for number in range(int(first), int(last) + 1):
            yield from expand(pattern[: found.start()] + str(number).zfill(len(first)) + pattern[found.end() :])
        return
    if _CHOICE.search(pattern):
        for chosen in _choices(pattern):
            yield from expand(chosen)
        return
    if not _MAGIC.search(pattern):
        yield pattern
        return
    parts = tuple(part for part in pattern.split("/") if part)
    yield from _below("/" if pattern.startswith("/") else "", parts, _closed(parts, {0}))


def _choices(pattern: str) -> list[str]:
    """Every pattern without commas in braces that `pattern` stands for, each once: braces may hold others."""
    found = _CHOICE.search(pattern)
    if found is None:
        return [pattern]
    parts = (pattern[: found.start()] + choice + pattern[found.end() :] for choice in found[1].split(","))
    return list(dict.fromkeys(chosen for part in parts for chosen in _choices(part)))


def _below(folder: str, parts: tuple[str, ...], states: frozenset[int]) -> Iterator[str]:
    """Matches below `folder`; `states` are the positions in `parts` that the next name may match."""
    for name in _names(folder, parts, states):
        path = os.path.join(folder, name)
        after = _closed(parts, _step(parts, states, name))
        if len(parts) in after and os.path.lexists(path):
            yield path
        deeper = after - {len(parts)}
        if deeper and os.path.isdir(path) and not (_has_stars(parts, after) and os.path.islink(path)):
            yield from _below(path, parts, deeper)


def _closed(parts: tuple[str, ...], states: set[int]) -> frozenset[int]:
    """`**` may also match no folder at all."""
    closed = set(states)
    for i in sorted(states):
        while i < len(parts) and parts[i] == "**":
            i += 1
            closed.add(i)
    return frozenset(closed)


def _step(parts: tuple[str, ...], states: frozenset[int], name: str) -> set[int]:
    after = set()
    for i in states:
        if i == len(parts) or (name.startswith(".") and not parts[i].startswith(".")):
            continue
        if parts[i] == "**":
            after.add(i)
        elif fnmatchcase(name, parts[i]) or name == parts[i]:
            after.add(i + 1)
    return after


def _has_stars(parts: tuple[str, ...], states: frozenset[int]) -> bool:
    return any(i < len(parts) and parts[i] == "**" for i in states)


def _names(folder: str, parts: tuple[str, ...], states: frozenset[int]) -> list[str]:
    """The names to try: the part itself where it is plain, else the folder's own."""
    if len(states) == 1:
        part = parts[next(iter(states))]
        if not _MAGIC.search(part):
            return [part]
    try:
        return sorted(os.listdir(folder or "."))
    except OSError:  # as a shell does: what cannot be listed matches nothing
        return []
