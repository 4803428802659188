"""Tar and zip archives of pictures, with what stands beside each by the WebDataset convention.

`KEY.jpg` goes with the `KEY.txt`, `KEY.json` and `KEY.cls` next to it, where KEY is the name up to the first dot.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cmprompt.errors import ItemError
from cmprompt.sources.archives import BROKEN, PICKLES, Member, broken, normal_name, read_members
from cmprompt.sources.names import is_image_name
from cmprompt.sources.options import SourceOptions, failed
from cmprompt.types import Item
from cmprompt.utf8 import clean

_SIDE_ENDINGS = frozenset({".txt", ".caption", ".json", ".cls"})
_TEXT_FACTS = ("caption", "captions", "text")
_TARGET_FACTS = ("label", "target", "class")
_MAX_SIDE_BYTES = 1 << 20
_MAX_SAMPLE_BYTES = 64 << 20
_MAX_SAMPLE_PICTURES = 64


@dataclass
class _Sample:
    """The members of one key, until the next key or the budget ends it."""

    key: str
    items: list[Item] = field(default_factory=list)
    n_bytes: int = 0
    sides: dict[str, bytes] = field(default_factory=dict)

    def is_full(self) -> bool:
        return self.n_bytes > _MAX_SAMPLE_BYTES or len(self.items) >= _MAX_SAMPLE_PICTURES


def read_shard(path: str, options: SourceOptions) -> Iterator[Item]:
    """One item for each picture, `archive::name`; a broken archive is one item that fails, after those before it."""
    sample = _Sample("")
    try:
        for member in read_members(path):
            if (key := _key(member.name)) != sample.key or sample.is_full():
                yield from _finished(sample)
                sample = _Sample(key)
            _add(sample, path, member, options)
        yield from _finished(sample)
    except BROKEN as error:
        yield from _finished(sample)
        is_systems = isinstance(error, OSError) and error.errno is not None  # no such file, no permission
        yield failed(path, error if is_systems else broken(error))


def _key(name: str) -> str:
    folder, file = posixpath.split(normal_name(name))
    return posixpath.join(folder, file.split(".", 1)[0])


def _add(sample: _Sample, path: str, member: Member, options: SourceOptions) -> None:
    """Read what belongs to the sample; any other member is only counted, and so is a caption or label that is lost."""
    name = f"{path}::{member.name}"
    ending = posixpath.splitext(member.name)[1].lower()
    is_hidden = any(part.startswith(".") for part in normal_name(member.name).split("/") if part != "..")
    if ending in _SIDE_ENDINGS and not is_hidden:
        if (side := _side(member)) is None:
            options.skip(name)
        else:
            sample.sides[ending] = side
    elif member.name.lower().endswith(PICKLES) or ((options.all_files or is_image_name(member.name)) and not is_hidden):
        _add_picture(sample, name, member)
    else:
        options.skip(name)


def _add_picture(sample: _Sample, id: str, member: Member) -> None:
    try:
        data = member.read()
    except ItemError as error:
        sample.items.append(failed(id, error))
        return
    sample.n_bytes += len(data)
    sample.items.append(Item(id, partial(bytes, data)))


def _side(member: Member) -> bytes | None:
    """None for what cannot be read, or is too large to be a caption or a label."""
    try:
        data = member.read()
    except ItemError:
        return None
    return data if len(data) <= _MAX_SIDE_BYTES else None


def _finished(sample: _Sample) -> Iterator[Item]:
    """The sample's pictures, each with the text and target that stood beside them."""
    facts = _facts(sample.sides.get(".json", b""))
    text = _decoded(sample.sides.get(".txt", sample.sides.get(".caption", b""))) or _first(facts, _TEXT_FACTS)
    target = _decoded(sample.sides.get(".cls", b"")) or _first(facts, _TARGET_FACTS)
    columns = {
        name: clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in facts.items()
    }
    for item in sample.items:
        yield Item(item.id, item.image, text, target, columns=columns)


def _decoded(data: bytes) -> str | None:
    return data.decode("utf-8", "replace").strip() or None


def _facts(data: bytes) -> Mapping[str, Any]:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _first(facts: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of these that is there; of a list, its first entry."""
    for name in names:
        value = facts.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is not None and value != "":
            return clean(str(value))
    return None
