"""Prompt sets and files of templates: their form and their wording."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cmprompt.errors import UsageError, unknown
from cmprompt.labels import prompts_dir
from cmprompt.labels.files import parse_toml, place, read_lines, read_text
from cmprompt.lint.findings import NEGATIONS, Finding, negations
from cmprompt.prompts import OPEN_CLIP_SETS, QUESTION, SET_KEYS, STATEMENT, has_place, load_prompt_set, prompt_set_names

_BRACES = re.compile(r"\{[^{}]*\}")


def lint_prompts(name: str) -> list[Finding]:
    """Check a set by its name, or a file of templates. Raises UsageError for a name that is nowhere."""
    own = name in prompt_set_names()
    if name in OPEN_CLIP_SETS:
        return list(_lint_templates([(name, text) for text in load_prompt_set(name).templates], {"en"}))
    path = prompts_dir() / f"{name}.toml" if own else Path(name)
    if not own and not path.exists():
        load_prompt_set(name)
    try:
        return list(_lint_toml(path) if path.suffix.lower() == ".toml" else _lint_lines(path))
    except UsageError as error:
        return [Finding("error", str(path), str(error).removeprefix(f"{path}: "))]


def _lint_toml(path: Path) -> Iterator[Finding]:
    text = read_text(path)
    data = parse_toml(text, path)
    for key in data:
        if key not in SET_KEYS:
            yield Finding("error", place(str(path), text, key), unknown("key", key, SET_KEYS))
    templates = data.get("templates")
    if not isinstance(templates, list) or not templates:
        yield Finding("error", str(path), "no list of templates; a label file is checked with --labels @FILE")
        return
    if strange := [template for template in templates if not isinstance(template, str)]:
        yield Finding("error", str(path), f"template {strange[0]!r} is not a text; put it in quotes")
    placed = [(place(str(path), text, each), each) for each in templates if isinstance(each, str)]
    yield from _lint_templates(placed, _languages(data))


def _lint_lines(path: Path) -> Iterator[Finding]:
    lines = [(f"{path}, line {number}", line) for number, line in read_lines(path)]
    if not lines:
        yield Finding("error", str(path), "no templates")
    yield from _lint_templates(lines, set(NEGATIONS))


def _lint_templates(placed: Sequence[tuple[str, str]], languages: set[str]) -> Iterator[Finding]:
    """Check templates, each with where it stands."""
    seen: dict[str, str] = {}
    for where, template in placed:
        if template in seen:
            yield Finding("warning", where, f"template {template!r} is there twice, first at {seen[template]}")
        seen.setdefault(template, where)
        if not has_place(template):
            yield Finding("error", where, f"template {template!r} has no {{}} for the label")
        rest = _BRACES.sub("", template)
        if "{" in rest or "}" in rest:
            yield Finding("error", where, f"template {template!r} has unbalanced braces")
        named = [part for part in _BRACES.findall(template) if part not in ("{}", QUESTION, STATEMENT)]
        if named:
            yield Finding(
                "warning", where, f"template {template!r} keeps {named[0]} as it is; the label's place is {{}}"
            )
        yield from negations(where, [template], languages)


def _languages(data: Mapping[str, object]) -> set[str]:
    language = data.get("language")
    return {language} if isinstance(language, str) and language in NEGATIONS else {"en"}
