"""What is typed against what is set: a setting of the environment or the file gives way to a flag that refuses it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

Names = tuple[str, ...]


def _rivals(some: Names, others: Names) -> tuple[tuple[Names, Names], ...]:
    return (some, others), (others, some)


# (what is typed, the settings that give way to it)
EVERYWHERE: tuple[tuple[Names, Names], ...] = (
    *_rivals(("fps",), ("frames",)),
    *_rivals(("timeline",), ("resume",)),
    *_rivals(("question",), ("describe",)),
    (("stdin_jsonl",), ("files_from", "output", "format", "timeline")),
    (("inputs", "files_from", "output", "timeline"), ("stdin_jsonl",)),
    (("language",), ("prompts", "template")),
)
COLUMNS = ("image_col", "text_col", "target_col")  # which a folder in the place of a table has not
OWN = {  # where --head is a fitted one
    "classify": _rivals(("head",), ("labels", "label", "question", "describe")),
    "explain": _rivals(("head",), ("labels", "label", "output", "level")),
}


def typed(context: Any) -> dict[str, str]:
    """The parameters that the command line gives other values than their defaults: name -> how it is spelt."""
    return {
        str(each.name): "/".join(each.opts)
        for each in context.command.params
        if _source(context, each) == "COMMANDLINE" and context.params.get(each.name) != each.default
    }


def settle(context: Any) -> None:
    """Put the default in the place of every setting that gives way."""
    losers = set(_losers(context.command.name, typed(context)))
    if os.path.isdir(context.params.get("table") or ""):
        losers.update(COLUMNS)
    for each in context.command.params:
        if each.name in losers and _source(context, each) == "DEFAULT_MAP":
            context.params[each.name] = () if each.multiple else each.default


def _losers(command: str, given: dict[str, str]) -> Iterator[str]:
    for winners, losers in (*EVERYWHERE, *OWN.get(command, ())):
        if any(name in given for name in winners):
            yield from losers


def _source(context: Any, parameter: Any) -> str:
    source = context.get_parameter_source(parameter.name)
    return "" if source is None else str(source.name)
