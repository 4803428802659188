"""What a check finds, and what every wording is checked for: that it says what is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class Finding:
    """One thing found: `where` is a file and line, a label or a text. A note is a figure, nothing wrong."""

    severity: Literal["error", "warning", "note"]
    where: str
    message: str


def negations(where: str, texts: Sequence[str] | set[str], languages: set[str]) -> list[Finding]:
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
