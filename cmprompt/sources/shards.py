"""Tar and zip archives of pictures, with what stands beside each by the WebDataset convention.

`KEY.jpg` goes with the `KEY.txt`, `KEY.json` and `KEY.cls` next to it, where KEY is the name up to the first dot. The
fields of a sample are those of its JSON, and `txt`, `caption` and `cls` where there are such files. Each line of a text
is a caption of its own, and so is each entry of a list in the JSON.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cmprompt.errors import ItemError, UsageError, unknown
from cmprompt.sources.archives import PICKLES, Member, normal_name, read_members
from cmprompt.sources.names import is_image_name
from cmprompt.sources.options import SourceOptions, failed
from cmprompt.types import HeldBytes, Item
from cmprompt.utf8 import clean

_SIDE_ENDINGS = frozenset({".txt", ".caption", ".json", ".cls"})
_TEXT_FIELDS = ("txt", "caption", "captions", "text")
_TARGET_FIELDS = ("cls", "label", "target", "class")
_MAX_SIDE_BYTES = 1 << 20
_MAX_SAMPLE_BYTES = 64 << 20
_MAX_SAMPLE_PICTURES = 64
_MAX_KNOWN_FIELDS = 1000


@dataclass
class _Sample:
    """The members of one key, until the next key or the budget ends it."""

    key: str
    items: list[Item] = field(default_factory=list)
    n_bytes: int = 0
    sides: dict[str, bytes] = field(default_factory=dict)

    def is_full(self) -> bool:
        return self.n_bytes > _MAX_SAMPLE_BYTES or len(self.items) >= _MAX_SAMPLE_PICTURES


@dataclass
class _Columns:
    """The fields of a shard's texts and targets, by preference, once a sample with fields is seen."""

    path: str
    options: SourceOptions
    text: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    known: set[str] = field(default_factory=set)

    def see(self, names: Collection[str]) -> None:
        """Take what the flags name, else a head's own where it is there, else what the convention has."""
        if not self.text:
            self.text = self._chosen("text_col", names, _TEXT_FIELDS)
            self.target = self._chosen("target_col", names, _TARGET_FIELDS)
        if len(self.known) < _MAX_KNOWN_FIELDS:
            self.known.update(names)

    def _chosen(self, flag: str, names: Collection[str], convention: tuple[str, ...]) -> tuple[str, ...]:
        asked: str | None = getattr(self.options, flag)
        usual = self.options.usual_columns.get(flag)
        name = asked if asked is not None else usual if usual in names else None
        return convention if name is None else (name,)

    def check(self) -> None:
        """Raises UsageError where a flag names a field that no sample has."""
        for flag in ("text_col", "target_col"):
            asked: str | None = getattr(self.options, flag)
            if asked is not None and asked not in self.known and len(self.known) < _MAX_KNOWN_FIELDS:
                none = f"no picture has a field {asked!r} beside it, nor any"
                what = unknown("field", asked, self.known) if self.known else none
                raise UsageError(f"{self.path}: --{flag.replace('_', '-')}: {what}")


def read_shard(path: str, options: SourceOptions) -> Iterator[Item]:
    """One item for each picture, `archive::name`; a broken archive is one item that fails, after those before it.

    Raises UsageError at the end where a flag names a field that no sample has.
    """
    sample, columns, has_pictures = _Sample(""), _Columns(path, options), False
    try:
        for member in read_members(path):
            if (key := _key(member.name)) != sample.key or sample.is_full():
                yield from _finished(sample, columns)
                sample = _Sample(key)
            _add(sample, path, member, options)
            has_pictures = has_pictures or bool(sample.items)
        yield from _finished(sample, columns)
    except (OSError, ItemError) as error:
        yield from _finished(sample, columns)
        yield failed(path, error)
    else:
        if has_pictures:
            columns.check()


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
    if member.stored is not None:
        sample.items.append(Item(id, member.stored))
        return
    try:
        data = member.read()
    except ItemError as error:
        sample.items.append(failed(id, error))
        return
    sample.n_bytes += len(data)
    sample.items.append(Item(id, HeldBytes(data)))


def _side(member: Member) -> bytes | None:
    """None for what cannot be read, or is too large to be a caption or a label."""
    try:
        data = member.read()
    except ItemError:
        return None
    return data if len(data) <= _MAX_SIDE_BYTES else None


def _finished(sample: _Sample, columns: _Columns) -> Iterator[Item]:
    """The sample's pictures, each with the text and target that stood beside them."""
    facts = _facts(sample.sides.get(".json", b""))
    sides = _side_texts(sample)
    fields = {**facts, **sides}
    if sample.items and fields:
        columns.see(fields)
    texts, targets = _entries(fields, columns.text), _entries(fields, columns.target)
    text, target = texts[0] if texts else None, " | ".join(targets) or None
    lines = text.splitlines() if text is not None and text in sides.values() else texts  # a file has one a line
    captions = tuple(filter(str.strip, lines))
    others = {
        name: clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in facts.items()
    }
    for item in sample.items:
        yield Item(item.id, item.image, text, target, columns=others, captions=captions)


def _side_texts(sample: _Sample) -> dict[str, str]:
    """What the files beside the pictures say, by their endings; nothing for JSON and for empty ones."""
    texts = {ending[1:]: data.decode("utf-8", "replace").strip() for ending, data in sample.sides.items()}
    return {name: text for name, text in texts.items() if text and name != "json"}


def _facts(data: bytes) -> Mapping[str, Any]:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _entries(fields: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """What the first of these that is there says, or each entry of it where it is a list."""
    for name in names:
        value = fields.get(name)
        said = [entry for entry in (value if isinstance(value, list) else [value]) if entry is not None and entry != ""]
        if said:
            return [clean(str(entry)) for entry in said]
    return []
