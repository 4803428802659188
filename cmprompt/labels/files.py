"""Label files: lines, `label: phrase | phrase`, JSON and TOML -> entries that know where they stand.

    cat                                   a label, in templates by its own name
    cat: cat | kitten                     a label, in templates by these phrases
    {"cat": ["A cat has whiskers."]}      whole descriptions, used as they are (CuPL, Pratt et al. 2023)
    {"cat": {"prompts": [...], "phrases": [...], "threshold": "z:1.5"}}

In lines, `#` begins a comment only at the start; a label with a colon and a blank in it needs JSON or TOML.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cmprompt.errors import UsageError

ENTRY_KEYS = ("prompts", "phrases", "threshold")
_COLON = re.compile(r":(?:\s+|$)")
_KEY_ENDS = re.compile(r"'?\s*[:=.]|'?\s*\]\s*(?:\n|$)")
_GLUE = re.compile(r"[\w-]")
_THRESHOLD = re.compile(r"(?:z:|cos:)?[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where a label stands in a file. Its line is looked for when a message asks: files may hold thousands."""

    where: str
    text: str
    label: str
    is_key: bool = True

    def __str__(self) -> str:
        return place(self.where, self.text, self.label, is_key=self.is_key)


@dataclass(frozen=True)
class Entry:
    """One label as it was given. No phrases: its own name. `described`: the phrases are whole descriptions."""

    label: str
    where: str | Place
    phrases: tuple[str, ...] = ()
    described: bool = False
    threshold: str | None = None


def read_entries(path: Path) -> list[Entry]:
    """The labels of a file; its ending says whether it is JSON, TOML or lines."""
    parsers = {".json": _parse_json, ".toml": parse_toml}
    parse = parsers.get(path.suffix.lower())
    if parse is None:
        return [_line_entry(line, f"{path}, line {number}") for number, line in read_lines(path)]
    text = read_text(path)
    return entries_of(parse(text, path), str(path), text)


def entries_of(data: object, where: str, text: str = "") -> list[Entry]:
    """The labels of a list or a mapping; `text` is the file they came from, to find the lines again."""
    if isinstance(data, Mapping):
        return [_entry(label, value, Place(where, text, str(label))) for label, value in data.items()]
    if isinstance(data, (list, tuple)):
        return [Entry(_string(label, where), Place(where, text, str(label), is_key=False)) for label in data]
    raise UsageError(f"{where}: labels are a list or a mapping of label to descriptions, not {type(data).__name__}")


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark. Raises UsageError that names the line of a wrong byte."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8; save it as UTF-8"
        ) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line) of what is neither blank nor a comment."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", read_text(path)), start=1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def parse_toml(text: str, path: Path) -> dict[str, object]:
    """A TOML document. Raises UsageError that names the line."""
    try:
        return tomllib.loads(text.replace("\r\n", "\n") + "\n")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error


def place(where: str, text: str, needle: str, *, is_key: bool = True) -> str:
    """`where`, with the first line of `text` that holds `needle`, as a key where there is such a one."""
    forms = dict.fromkeys((json.dumps(needle), json.dumps(needle, ensure_ascii=False), needle)) if needle else ()
    keys = (_find_key(text, form) for form in forms if is_key)
    found = next((at for at in chain(keys, (text.find(form) for form in forms)) if at >= 0), -1)
    return f"{where}, line {text.count(chr(10), 0, found) + 1}" if found >= 0 else where


def _find_key(text: str, form: str) -> int:
    """Where `form` stands alone before a colon, an equals sign or a dot, or as a table of TOML; -1 for nowhere."""
    at = text.find(form)
    while at >= 0 and not (_KEY_ENDS.match(text, at + len(form)) and not _GLUE.fullmatch(text, at - 1, at)):
        at = text.find(form, at + 1)
    return at


def _parse_json(text: str, path: Path) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        counts = Counter(key.strip() for key, _ in pairs)
        if twice := next((key for key, count in counts.items() if count > 1), None):
            raise UsageError(f"{place(str(path), text, twice)}: {twice!r} is given twice")
        return dict(pairs)

    try:
        data: object = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from error
    return data


def _line_entry(line: str, where: str) -> Entry:
    colon = _COLON.search(line)
    if colon is None:
        return Entry(line, where)
    phrases = tuple(phrase.strip() for phrase in line[colon.end() :].split("|"))
    if not all(phrases):
        raise UsageError(f"{where}: an empty phrase in {line!r}; write label: phrase | phrase")
    return Entry(line[: colon.start()].strip(), where, phrases)


def _entry(label: object, value: object, where: str | Place) -> Entry:
    name = _string(label, where)
    if not isinstance(value, Mapping):
        texts = _strings(value, where)
        return Entry(name, where, texts, described=bool(texts))
    if unknown := sorted(str(key) for key in value if key not in ENTRY_KEYS):
        raise UsageError(
            f"{where}: label {name!r} has the unknown key {unknown[0]!r}; known: {', '.join(ENTRY_KEYS)}. "
            f'A hierarchy is written "{name}/{unknown[0]}"'
        )
    prompts, phrases = _strings(value.get("prompts"), where), _strings(value.get("phrases"), where)
    if prompts and phrases:
        raise UsageError(f"{where}: label {name!r} has both prompts (used as they are) and phrases (put in templates)")
    return Entry(name, where, prompts or phrases, bool(prompts), _threshold(value.get("threshold"), where))


def _strings(value: object, where: str | Place) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (_string(value, where),)
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{where}: descriptions are a list of texts, not {value!r}")
    return tuple(_string(text, where) for text in value)


def _string(value: object, where: str | Place) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r} is not a text; put it in quotes")
    if not value.strip():
        raise UsageError(f"{where}: an empty label or description")
    return value.strip()


def _threshold(value: object, where: str | Place) -> str | None:
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not _THRESHOLD.fullmatch(text):
        raise UsageError(f"{where}: threshold {value!r} is none of P (a probability), z:Z and cos:C")
    return text
