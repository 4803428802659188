"""What is wrong, or likely to disappoint, in prompts and labels: an error or a warning for each finding.

These checks are of the wording alone and need no model; `lint_model` asks an encoder about the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmprompt.errors import UsageError, unknown
from cmprompt.label_files import parse_toml, place, read_lines, read_text
from cmprompt.labels import LabelSet, load_labels, prompts_dir
from cmprompt.prompts import (
    OPEN_CLIP_SETS,
    OTHER,
    QUESTION,
    SET_KEYS,
    STATEMENT,
    PromptSet,
    choose_sets,
    has_place,
    language_of,
    load_prompt_set,
    prompt_set_names,
)

if TYPE_CHECKING:
    from cmprompt.types import Encoder

# Models of this kind see the noun and not the "no": "no cat" lies close to "cat".
NEGATIONS = {
    "en": r"(?<![\w-])(?:no|not|never|without|none|nobody|nothing|neither|nor|cannot|lacking|\w+n't)(?![\w-])",
    "es": r"(?<![\w-])(?:no|sin|ni|nunca|ningún|ninguna?|tampoco)(?![\w-])",
    "fr": r"(?<![\w-])(?:sans|pas|aucune?|jamais|ni)(?![\w-])",
    "de": r"(?<![\w-])(?:kein(?:e[mnrs]?)?|nicht|ohne|nie|weder)(?![\w-])",
    "zh": r"没有|不是|不含|不带|並非|并非|沒有",
    "ja": r"ではない|じゃない|でない|がない|のない|いない|なしの?|無しの?",
    "ar": r"(?<!\w)(?:لا|ليس|ليست|بدون|بلا|دون|غير)(?!\w)",
    "hi": r"(?<!\S)(?:नहीं|बिना|मत|रहित)(?!\S)",
}
_BRACES = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Finding:
    """One thing found: `where` is a file and line, a label or a text. A note is a figure, nothing wrong."""

    severity: Literal["error", "warning", "note"]
    where: str
    message: str


def lint(
    prompts: Sequence[str],
    labels: Sequence[str] = (),
    literal: Sequence[str] = (),
    *,
    encoder: Encoder | None = None,
    language: str = "auto",
    translations: str | None = None,
) -> list[Finding]:
    """Check prompt sets or files, the labels of --labels and --label, and, given an encoder, the texts they make.

    `translations`: a file of the labels in another language, which should mean the same to the encoder.
    """
    findings = [finding for name in prompts for finding in lint_prompts(name)]
    try:
        label_set = load_labels(labels, literal, minimum=0)
        sets = choose_sets(
            [] if any(each.severity == "error" for each in findings) else prompts, [], label_set, language=language
        )
    except UsageError as error:
        return [*findings, Finding("error", "labels", str(error))]
    languages = {"en", language, *(each.language for each in sets)}
    findings += [*lint_labels(label_set, languages), *_mixed_languages(label_set, sets)]
    if encoder is not None:
        from cmprompt.lint_model import lint_model

        findings += lint_model(label_set, sets, encoder)
    if encoder is not None and translations is not None:
        from cmprompt.lint_languages import lint_languages
        from cmprompt.translation import read_translations

        findings += lint_languages(label_set, read_translations(translations, list(label_set.phrases)), encoder)
    return findings


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


def lint_labels(labels: LabelSet, languages: set[str]) -> list[Finding]:
    """Check the wording of labels and their phrases."""
    findings: list[Finding] = []
    alike: dict[str, str] = {}
    for label, phrases in labels.phrases.items():
        where = f"label {label!r}"
        key = " ".join(label.replace("_", " ").casefold().split())
        if key in alike:
            findings.append(Finding("error", where, f"reads as {alike[key]!r}; most models cannot tell them apart"))
        alike.setdefault(key, label)
        findings += [Finding("warning", where, message) for message in _label_doubts(label, phrases, labels)]
        findings += _negations(where, {label, *phrases}, languages)
    return findings


def _label_doubts(label: str, phrases: Sequence[str], labels: LabelSet) -> Iterator[str]:
    if " #" in label:
        yield "holds ' #'; a comment in a label file stands on a line of its own"
    if " | " in label:
        yield "holds ' | '; phrases are written label: phrase | phrase"
    if len(set(phrases)) < len(phrases):
        yield "has the same phrase twice"
    if label in labels.verbatim:
        if any("{}" in phrase for phrase in phrases):
            yield "has {} in a description; descriptions are used as they are"
        if short := next((phrase for phrase in phrases if len(phrase.split()) < 3 and phrase.isascii()), None):
            yield f"has the description {short!r}, used as it is; write a sentence, or put it under phrases"


def _mixed_languages(labels: LabelSet, sets: Sequence[PromptSet]) -> Iterator[Finding]:
    """A warning where labels in one script go into templates in another."""
    language = language_of(labels)
    for prompt_set in sets:
        if language not in ("en", OTHER) and prompt_set.language not in ("", language):
            message = f"its language is {prompt_set.language}, the labels look like {language}; take photo-{language}"
            yield Finding("warning", f"prompt set {prompt_set.name!r}", message)


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
        yield from _negations(where, [template], languages)


def _negations(where: str, texts: Sequence[str] | set[str], languages: set[str]) -> list[Finding]:
    """A warning where a text says what is not there."""
    for text in sorted(texts):
        for language in sorted(languages & set(NEGATIONS)):
            found = re.search(NEGATIONS[language], text.replace("\u2019", "'"), re.IGNORECASE)
            if found:
                message = (
                    f"{text!r} says {found.group()!r}; these models do not understand a negation, name what is there"
                )
                return [Finding("warning", where, message)]
    return []


def _languages(data: Mapping[str, object]) -> set[str]:
    language = data.get("language")
    return {language} if isinstance(language, str) and language in NEGATIONS else {"en"}
