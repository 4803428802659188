"""Flags that change nothing beside others: refused by name, not passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from cmprompt.cli.precedence import typed
from cmprompt.errors import UsageError

NAMED = ("labels", "label", "question", "describe", "compare_prompts")  # each makes prompts a line of the table
PROMPTS = ("pool", "prompts", "template", "language")  # what the texts of zero-shot are made of
TEXTS = (*NAMED, *PROMPTS)
DECISION = ("threshold", "min_margin", "none", "none_name", "level")
ANSWERS = ("predictions", "top_k", "csv_safe")
TUNING = ("tune_prompts", "tune_thresholds")
TUNED = ("head", "question", "describe", "compare_prompts", "pool", "translate_labels", *DECISION, *ANSWERS)


@dataclass(frozen=True)
class Unused:
    """Where `holds` of the flags' values, `what` makes no use of these flags."""

    what: str
    holds: Callable[[Mapping[str, Any]], bool]
    flags: tuple[str, ...]
    advice: str = "leave out what it cannot use"


REQUESTS = Unused("--stdin-jsonl", lambda flags: flags["stdin_jsonl"], ("fps", "frames"), "clips want a run without it")
WITHOUT_NONE = Unused("a run without --none", lambda flags: not flags["none"], ("none_name",), "add --none")

EVALUATE = (
    Unused(
        "--task retrieval",
        lambda flags: flags["task"] == "retrieval",
        (*TEXTS, "translate_labels", "head", "multi_label", *DECISION, *ANSWERS, *TUNING),
    ),
    Unused(
        "--task alignment",
        lambda flags: flags["task"] == "alignment",
        ("head", "compare_prompts", "multi_label", "seed", *DECISION, *ANSWERS, *TUNING),
    ),
    Unused(
        "--task regression",
        lambda flags: flags["task"] == "regression",
        (*TEXTS, "translate_labels", "multi_label", *DECISION, "top_k", *TUNING),
    ),
    Unused("--tune-prompts", lambda flags: flags["tune_prompts"], (*TUNED, "multi_label")),
    Unused("--tune-thresholds", lambda flags: flags["tune_thresholds"], TUNED),
    Unused(
        "a task other than alignment", lambda flags: flags["task"] != "alignment", ("plot",), "add --task alignment"
    ),
    Unused(
        "--compare-prompts",
        lambda flags: bool(flags["compare_prompts"]),
        ("prompts",),
        "name every set in --compare-prompts A,B",
    ),
    Unused("--question", lambda flags: bool(flags["question"]), ("describe",)),
    Unused(
        "--head by itself",
        lambda flags: bool(flags["head"]) and not any(flags[name] for name in NAMED),
        PROMPTS,
        "add --labels, to measure zero-shot beside it",
    ),
    Unused(
        "a run without --predictions",
        lambda flags: not flags["predictions"],
        ("top_k", "csv_safe"),
        "add --predictions FILE",
    ),
    Unused(
        "--multi-label without --predictions",
        lambda flags: flags["multi_label"] and not flags["predictions"],
        ("none", "min_margin"),
        "give --threshold, or add --predictions FILE",
    ),
    WITHOUT_NONE,
)

# `form` is the format that is written; `numbers`: the head answers with a number
CLASSIFY = (
    Unused("--head", lambda flags: bool(flags["head"]), PROMPTS),
    Unused(
        "a head of numbers",
        lambda flags: flags["numbers"],
        ("multi_label", "top_k", *DECISION, "translate_labels"),
    ),
    Unused("--prompts", lambda flags: bool(flags["prompts"]), ("language",)),
    Unused("--template", lambda flags: bool(flags["template"]), ("language",)),
    WITHOUT_NONE,
    REQUESTS,
    Unused("a run without -o", lambda flags: not flags["output"], ("resume", "overwrite"), "add -o FILE"),
    Unused(
        "a format other than csv",
        lambda flags: flags["form"] != "csv",
        ("csv_safe",),
        "add --format csv, or name a .csv file by -o",
    ),
    Unused("a table for people", lambda flags: flags["form"] == "table", ("header",), "add --format tsv or jsonl"),
)

FINETUNE = (
    Unused("--task regression", lambda flags: flags["task"] == "regression", ("labels", "label", *PROMPTS)),
    Unused("a fit that starts from no zero-shot head", lambda flags: not flags.get("from_text", True), PROMPTS),
)
EXPLAIN = (
    Unused(
        "--head",
        lambda flags: bool(flags["head"]),
        ("top_k", "method", *PROMPTS),
        "it explains the words of a text; leave out what it cannot use",
    ),
)


def refuse(context: typer.Context, table: Sequence[Unused], **known: Any) -> None:
    """Raises UsageError for flags on the command line that the others leave without effect.

    `known` are values that are more than their flag says. A setting of the environment or a file may lie idle: it is
    for all runs.
    """
    values, given = {**context.params, **known}, typed(context)
    for case in table:
        if case.holds(values) and (idle := [given[name] for name in case.flags if name in given]):
            raise UsageError(f"{case.what} makes no use of {', '.join(idle)}; {case.advice}")
