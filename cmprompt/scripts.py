"""Which texts a model's tokenizer never learned to read, told by what it makes of their letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmprompt.types import Encoder

# CLIP's tokenizer comes to 0.8 and more for Arabic, Chinese, Hindi, Japanese and Russian words; one that knows the
# language to a few hundredths.
UNREAD_SHARE = 0.5


def foreign_words(texts: Iterable[str]) -> list[str]:
    """The words of `texts` with letters past the Latin blocks, each once: those a tokenizer may not know."""
    return list(dict.fromkeys(word for text in texts for word in text.split() if any(map(is_foreign, word))))


def unread(texts: Iterable[str], encoder: Encoder) -> tuple[str, float] | None:
    """A word of `texts` and the share of fallback tokens in all such words, where it says the script is unknown."""
    words = foreign_words(texts)
    share = encoder.fallback_share(words) if words else 0.0
    return (words[0], share) if share > UNREAD_SHARE else None


def is_fallback(piece: str) -> bool:
    """Whether a token's text shows that its word was not known: a broken letter, or one letter of an alphabet alone.

    A Chinese character, kana or Korean syllable is a word or a part of one, and may stand alone.
    """
    if "\ufffd" in piece:
        return True
    lone = piece.strip()
    return len(lone) == 1 and is_foreign(lone) and unicodedata.east_asian_width(lone) not in "WF"


def is_foreign(letter: str) -> bool:
    """Whether it is a letter past the Latin blocks: Greek and Cyrillic, then everything else; vowel signs are marks."""
    past_latin = letter > "\u036f" and not "\u1e00" <= letter <= "\u1eff"
    return past_latin and unicodedata.category(letter)[0] in "LM"
