"""The wording of labels and their phrases, and whether they fit the language of the templates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cmprompt.labels import LabelSet
from cmprompt.lint.findings import Finding, negations
from cmprompt.prompts import OTHER, PromptSet, language_of


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
        findings += negations(where, {label, *phrases}, languages)
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


def mixed_languages(labels: LabelSet, sets: Sequence[PromptSet]) -> Iterator[Finding]:
    """A warning where labels in one script go into templates in another."""
    language = language_of(labels)
    for prompt_set in sets:
        if language not in ("en", OTHER) and prompt_set.language not in ("", language):
            message = f"its language is {prompt_set.language}, the labels look like {language}; take photo-{language}"
            yield Finding("warning", f"prompt set {prompt_set.name!r}", message)
