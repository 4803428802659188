"""Every error that cmprompt raises on purpose, and the exit status each one promises.

    CmpromptError           1   something failed and says why
    |- UsageError           2   the command line, a table, a label file or a prompt set is wrong
    |   |- UnknownModel     2   no model has that name
    |- ModelError           3   a model, head or store is unusable
    |   |- StoreError       3   the embedding store in particular
    |- OutputError          4   the output could not be written
    |- HeadRefused          5   `finetune` fitted a head that does not help
    |- ItemError            1   one input failed; becomes a record, never ends a run

A message says what is wrong, with which value, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, get_args

Status = Literal[
    "ok",
    "missing",
    "denied",
    "unreadable",
    "truncated",
    "unsupported",
    "too_large",
    "timeout",
    "decoder_crash",
    "nan",
    "out_of_memory",
]
STATUSES: tuple[Status, ...] = get_args(Status)


class CmpromptError(Exception):
    """The root of every expected failure; `exit_status` is what the shell sees."""

    exit_status = 1


class UsageError(CmpromptError):
    """What was asked for makes no sense: flags, labels, templates, a table's columns."""

    exit_status = 2


class UnknownModel(UsageError):
    """No model has this name; the message has the near ones."""


class ModelError(CmpromptError):
    """A model, a head or a cache cannot be used."""

    exit_status = 3


class StoreError(ModelError):
    """The embedding store cannot be used."""


class OutputError(CmpromptError):
    """The output could not be written; the message names the path."""

    exit_status = 4


class HeadRefused(CmpromptError):
    """A fitted head does not beat what was there before."""

    exit_status = 5


class ItemError(CmpromptError):
    """One input failed. `status` is its record's status, one of `STATUSES`."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status


def counted(count: int, thing: str) -> str:
    """`1 text`, `2,000 texts`."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def unknown(kind: str, name: str, known: Iterable[str], *, listed_by: str = "") -> str:
    """A message for a name that is not in a table: the near misses, else the list, or what prints a long one."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else listed_by or f"known: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"
