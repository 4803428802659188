"""Text that a file cannot hold: names whose bytes are not UTF-8, halves of surrogate pairs, which JSON can escape; and
text that a terminal would obey."""

from __future__ import annotations

from unicodedata import category

JOINERS = "\u200c\u200d"  # of Persian and Hindi words, and of emoji


def clean(text: str) -> str:
    """`text` with what is not UTF-8 replaced, so that any file can hold it."""
    return text if text.isascii() else raw_bytes(text).decode("utf-8", "replace")


def raw_bytes(text: str) -> bytes:
    """The bytes a name was made from; lone surrogates that stand for no byte keep their own encoding."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def printable(text: str) -> str:
    """Control characters, which could move a terminal's cursor, as escapes."""
    return "".join(char if _is_harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _is_harmless(char: str) -> bool:
    """What takes its place and no more; the spaces and joiners of some scripts, which Python would escape, among it."""
    return char.isprintable() or char in JOINERS or category(char) == "Zs"
