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

# NLLB's code of the language that is most written in a script, by the first word of its letters' Unicode names
NLLB_CODES = {
    "ARABIC": "arb_Arab",
    "ARMENIAN": "hye_Armn",
    "BENGALI": "ben_Beng",
    "CJK": "zho_Hans",
    "CYRILLIC": "rus_Cyrl",
    "DEVANAGARI": "hin_Deva",
    "ETHIOPIC": "amh_Ethi",
    "GEORGIAN": "kat_Geor",
    "GREEK": "ell_Grek",
    "GUJARATI": "guj_Gujr",
    "GURMUKHI": "pan_Guru",
    "HANGUL": "kor_Hang",
    "HEBREW": "heb_Hebr",
    "HIRAGANA": "jpn_Jpan",
    "KANNADA": "kan_Knda",
    "KATAKANA": "jpn_Jpan",
    "KHMER": "khm_Khmr",
    "LAO": "lao_Laoo",
    "MALAYALAM": "mal_Mlym",
    "MYANMAR": "mya_Mymr",
    "ORIYA": "ory_Orya",
    "SINHALA": "sin_Sinh",
    "TAMIL": "tam_Taml",
    "TELUGU": "tel_Telu",
    "THAI": "tha_Thai",
}


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


def nllb_code(text: str) -> str:
    """NLLB's code of the language that the letters of `text` suggest: kana is Japanese, Latin letters are English."""
    scripts = [unicodedata.name(letter, "").partition(" ")[0] for letter in text if is_foreign(letter)]
    codes = [NLLB_CODES[script] for script in scripts if script in NLLB_CODES]
    return "jpn_Jpan" if "jpn_Jpan" in codes else next(iter(codes), "eng_Latn")


def is_foreign(letter: str) -> bool:
    """Whether it is a letter past the Latin blocks: Greek and Cyrillic, then everything else; vowel signs are marks."""
    past_latin = letter > "\u036f" and not "\u1e00" <= letter <= "\u1eff"
    return past_latin and unicodedata.category(letter)[0] in "LM"
