"""What to choose from: `cat,dog`, `@file`, `@everyday` -> LabelSet.

A label with a slash is a place in a hierarchy: `animal/cat` is read aloud as "cat", and as "crane (bird)" where two
places share their last name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from os.path import expanduser
from pathlib import Path

from cmprompt.errors import UsageError, unknown
from cmprompt.labels.files import Entry, entries_of, read_entries, read_lines

VOCABULARIES = ("everyday",)


@dataclass(frozen=True)
class LabelSet:
    """Labels in order, each with the phrases that stand for it.

    Phrases go into templates, but for the labels in `verbatim`: theirs are whole descriptions and are used as they are.
    `thresholds` holds what a label file gave, as written ("0.6", "z:1.5", "cos:0.25").
    """

    phrases: dict[str, tuple[str, ...]]
    thresholds: dict[str, str] = field(default_factory=dict)
    name: str = "labels"
    verbatim: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.phrases)


def load_labels(specs: Sequence[str], literal: Sequence[str] = (), *, minimum: int = 2) -> LabelSet:
    """Read the values of --labels (`specs`) and of --label (`literal`, one label each, commas kept), in that order.

    Raises UsageError for a file that cannot be read, an empty or repeated label, or fewer than `minimum` labels, unless
    the one that is there has a limit of its own.
    """
    specs = [specs] if isinstance(specs, str) else specs
    entries = [entry for spec in specs for entry in _read_spec(spec)]
    entries += [Entry(label.strip(), "--label") for label in literal]
    return _collect(entries, _name(specs, literal), minimum)


def label_set(labels: Sequence[str] | Mapping[str, object], *, minimum: int = 2) -> LabelSet:
    """The same from Python values: a list of labels, or what a JSON label file may hold."""
    return _collect(entries_of(labels, "labels"), "labels", minimum)


def describe(path: str, chosen: LabelSet | None = None) -> LabelSet:
    """The labels that the file describes or, of `chosen`, all, with its descriptions where it has some.

    Raises UsageError where that leaves none described.
    """
    found = _collect(_read_file(path), Path(path).stem, 1)
    chosen = chosen or found
    described = {label: found.phrases[label] for label in chosen.phrases if label in found.verbatim}
    if not described:
        raise UsageError(f'{path}: describes none of the labels; write JSON or TOML like {{"cat": ["a cat has ..."]}}')
    return replace(
        chosen,
        phrases={**chosen.phrases, **described},
        thresholds={**found.thresholds, **chosen.thresholds},
        verbatim=chosen.verbatim | set(described),
    )


@cache
def everyday() -> tuple[str, ...]:
    """About a thousand everyday words: labels for tagging, and the fixed yardstick of "none of these"."""
    return tuple(word for _, word in read_lines(prompts_dir() / "everyday.txt"))


@cache
def prompts_dir() -> Path:
    """Where the prompt sets lie: beside the package's data in a wheel, at the top of a checkout."""
    package = Path(__file__).parents[1]
    bundled = package / "data" / "prompts"
    return bundled if bundled.is_dir() else package.parent / "prompts"


def _read_spec(spec: str) -> list[Entry]:
    """The entries of one --labels value."""
    if not spec.startswith("@"):
        return [Entry(part.strip(), f"--labels {spec!r}") for part in spec.split(",")] if spec.strip() else []
    if spec[1:] in VOCABULARIES:
        return [Entry(word, spec) for word in everyday()]
    path = Path(spec[1:])
    if not path.suffix and path.name == spec[1:] and not path.exists():
        raise UsageError(f"{unknown('label list', spec[1:], VOCABULARIES)}; no file of that name is here either")
    return _read_file(spec[1:])


def _read_file(name: str) -> list[Entry]:
    """The entries of a label file."""
    if not name:
        raise UsageError("a label file without a name; write @FILE")
    entries = read_entries(Path(expanduser(name)))  # no shell opens the ~ of @~/labels.txt
    if not entries:
        raise UsageError(f"{name}: no labels; write one on each line")
    return entries


def _collect(entries: Sequence[Entry], name: str, minimum: int) -> LabelSet:
    """Check the entries against each other and give every label its phrases."""
    seen: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        _check(entry, seen)
        seen[_parts(entry.label)] = entry
    if len(seen) < minimum and not (seen and _has_own_limit(entries[0])):
        raise UsageError(_too_few(entries, minimum))
    spoken = _spoken([entry.label for entry in entries])
    return LabelSet(
        phrases={entry.label: entry.phrases or (spoken[entry.label],) for entry in entries},
        thresholds={entry.label: entry.threshold for entry in entries if entry.threshold is not None},
        name=name,
        verbatim=frozenset(entry.label for entry in entries if entry.described),
    )


def _check(entry: Entry, seen: Mapping[tuple[str, ...], Entry]) -> None:
    if not entry.label:
        raise UsageError(f"{entry.where}: an empty label")
    if not all(parts := _parts(entry.label)):
        raise UsageError(f"{entry.where}: label {entry.label!r} has an empty level; write parent/child")
    if parts in seen:
        raise UsageError(f"{entry.where}: label {entry.label!r} is given twice, first by {seen[parts].where}")
    for text in (entry.label, *entry.phrases):
        # a lone surrogate is a byte of argv that is not UTF-8: tokenizers stumble over it
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(f"{entry.where}: label {text!r} is not UTF-8")


def _has_own_limit(entry: Entry) -> bool:
    """Whether the label may not fit, though it be the only one: a probability among one is always 1."""
    return (entry.threshold or "").startswith(("z:", "cos:"))


def _too_few(entries: Sequence[Entry], minimum: int) -> str:
    if not entries:
        return "no labels; give --labels cat,dog or --labels @FILE or --labels @everyday"
    return (
        f"{entries[0].where}: one label only, {entries[0].label!r}, which every image would get; "
        f"give at least {minimum}, or ask whether it fits with --none or --multi-label"
    )


def _spoken(labels: Sequence[str]) -> dict[str, str]:
    """Each label as it is read aloud: its last part, with its parents in brackets where another label ends the same."""
    parts = {label: _parts(label) for label in labels}
    endings = Counter(path[-1].casefold() for path in parts.values())

    def spoken(path: Sequence[str]) -> str:
        *parents, leaf = path
        alone = not parents or endings[leaf.casefold()] == 1
        return leaf if alone else f"{leaf} ({', '.join(reversed(parents))})"

    return {label: spoken(path) for label, path in parts.items()}


def _name(specs: Sequence[str], literal: Sequence[str]) -> str:
    """What a run's header calls these labels: the files and lists they came from."""
    names = [Path(spec[1:]).stem if spec.startswith("@") else "labels" for spec in specs]
    return "+".join(dict.fromkeys([*names, *(["labels"] if literal else [])])) or "labels"


def first_parts(label: str, level: int) -> str:
    """`a/b` of the label `a/b/c`, or `a / b / c`, at level 2; a label with no more parts as it is."""
    parts = _parts(label)
    return label if len(parts) <= level else "/".join(parts[:level])


def _parts(label: str) -> tuple[str, ...]:
    """`a` and `b` of the label `a/b`, or `a / b`."""
    return tuple(part.strip() for part in label.split("/"))
