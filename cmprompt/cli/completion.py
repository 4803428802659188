"""What the shell completes for an option or an argument. Finding out imports nothing heavy, and opens no connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Names = Callable[[], Iterable[str]]
_WORD = re.compile(r"@?[a-z][a-z0-9-]*")


def prompt_sets() -> list[str]:
    """The template sets that can be named."""
    from cmprompt.prompts import prompt_set_names

    return prompt_set_names()


def models() -> list[str]:
    """The bundled model and the recommended ones."""
    from cmprompt.zoo import ZOO

    return ["tiny", *(model.name for model in ZOO)]


def heads() -> list[str]:
    """The kinds that are offered to be fitted."""
    from cmprompt.registry import head_kinds

    return head_kinds()


def completer(metavar: str | None, names: Names | None = None) -> Callable[[str], list[str]] | None:
    """Completes the words that a metavar lists, such as `table|tsv`, and `names`; None where there is neither."""
    words = [part for part in (metavar or "").split("|") if _WORD.fullmatch(part)]
    if not words and names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        found = [*words, *(names() if names else [])]
        return [word for word in dict.fromkeys(found) if word.startswith(incomplete)]

    return complete
