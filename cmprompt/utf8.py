"""Text that no file can hold: names whose bytes are not UTF-8, and halves of surrogate pairs, which JSON can escape."""

from __future__ import annotations


def clean(text: str) -> str:
    """`text` with what is not UTF-8 replaced, so that any file can hold it."""
    return text if text.isascii() else raw_bytes(text).decode("utf-8", "replace")


def raw_bytes(text: str) -> bytes:
    """The bytes a name was made from; lone surrogates that stand for no byte keep their own encoding."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
