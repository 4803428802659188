"""Putting a phrase into a template as its language writes it: `a` or `an`, `de` or `d'`, no underscores.

Only our own prompt sets are adjusted. A wrong guess costs a little grammar, so the rules are few.
"""

from __future__ import annotations

import re

_PLACE = "{}"
_ARTICLE = re.compile(r"\b(?:an?|the) \{\}", re.IGNORECASE)
_A = re.compile(r"\b([Aa]) \{\}")
_OWN_ARTICLE = re.compile(r"(?:an?|the)\s", re.IGNORECASE)
# words spelt out letter by letter, the first of them said with a vowel (an MRI scan, an LP)
_SPELT = re.compile(r"[FHLMNRSX][B-DF-HJ-NP-TV-Z]{0,3}s?\b|(?:FBI|LED|MRI|NBA|NGO|SOS|SUV)s?\b|[Xx]-ray")
_VOWEL = re.compile(r"[aeiouàáâäèéêëìíîïòóôöùúûü]|hour|heir|honou?r|honest", re.IGNORECASE)
_SAID_WITH_Y_OR_W = re.compile(
    r"uni(?![nmd])|us[aeu]|ut[ei]|ur[ai]|uk|eu|ewer?\b|u\b|ufo|one\b|ones|once|ouija", re.IGNORECASE
)
_DE = re.compile(r"\b([Dd])e \{\}")
# the vowels, and the commoner words whose h is mute
_ELIDED = re.compile(
    r"[aeiouàâäéèêëîïôöùûüœæ]|h(?:abit|élico|erbe|eure|ippo|irond|istoir|iver|omme|orloge|ôpital|ôtel|uile|uître|umain)",
    re.IGNORECASE,
)


def fill(template: str, phrase: str) -> str:
    """The phrase in every `{}` of the template, as it stands."""
    return template.replace(_PLACE, phrase)


def fill_adjusted(template: str, phrase: str, language: str) -> str:
    """The same, with underscores as blanks and the article before the phrase made to fit it."""
    phrase = " ".join(phrase.replace("_", " ").split(" ")).strip()
    return fill(_ADJUST.get(language, _unchanged)(template, phrase), phrase)


def _unchanged(template: str, _phrase: str) -> str:
    return template


def _english(template: str, phrase: str) -> str:
    if _OWN_ARTICLE.match(phrase):
        return _ARTICLE.sub(_PLACE, template)
    return _A.sub(r"\1n {}", template) if _takes_an(phrase) else template


def _takes_an(phrase: str) -> bool:
    if _SPELT.match(phrase):
        return True
    return bool(_VOWEL.match(phrase)) and not _SAID_WITH_Y_OR_W.match(phrase)


def _french(template: str, phrase: str) -> str:
    return _DE.sub(r"\1'{}", template) if _ELIDED.match(phrase) else template


_ADJUST = {"en": _english, "fr": _french}
