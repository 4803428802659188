"""How scores become decisions: softmax or sigmoid, how many labels, and when to say nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cmprompt.errors import UsageError

Unit = Literal["p", "z", "cos"]
NONE_NAME = "none of these"


@dataclass(frozen=True)
class Threshold:
    """What the winning label must reach: a probability `p`, a standardised `z` or a cosine."""

    unit: Unit
    value: float

    @staticmethod
    def parse(text: str) -> Threshold:
        """`0.6`, `z:1.5` or `cos:0.25`. Raises UsageError."""
        unit, _, number = text.strip().rpartition(":")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if unit == "" and 0 <= value <= 1:
            return Threshold("p", value)
        if unit == "z" and math.isfinite(value):
            return Threshold("z", value)
        if unit == "cos" and -1 <= value <= 1:
            return Threshold("cos", value)
        raise UsageError(
            f"threshold {text!r} is none of: a probability from 0 to 1 (0.6), z:NUMBER (z:1.5), cos:NUMBER (cos:0.25)"
        )


@dataclass(frozen=True)
class Rule:
    """What `predict` decides by.

    `threshold` None means none for softmax and 0.5 for sigmoid; `label_thresholds` go before it. With `none`, an image
    of which no label reaches its z (its own threshold's or the common one's, if that is a z, else `openset.DEFAULT_Z`)
    is `none_name`.
    `level` N keeps the first N parts of labels such as `animal/cat`.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    top_k: int | None = 5  # None: all
    threshold: Threshold | None = None
    label_thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    min_margin: float | None = None
    none: bool = False
    none_name: str = NONE_NAME
    level: int | None = None

    @staticmethod
    def parse(
        *,
        multi_label: bool = False,
        top_k: str | int = 5,
        threshold: str | None = None,
        label_thresholds: Mapping[str, str] | None = None,
        min_margin: float | None = None,
        none: bool = False,
        none_name: str = NONE_NAME,
        level: int | None = None,
    ) -> Rule:
        """A rule from what a command line says. Raises UsageError."""
        if min_margin is not None and not 0 <= min_margin <= 1:
            raise UsageError(f"--min-margin {min_margin:g} is not a difference of probabilities; give 0 to 1")
        if level is not None and level < 1:
            raise UsageError(f"--level {level} is not a level; the first part of `animal/cat` is level 1")
        if level is not None:
            _check_leaves(label_thresholds or {}, level)
        if none and not none_name.strip():
            raise UsageError("--none-name is empty; name the label that stands for none of these")
        return Rule(
            kind="sigmoid" if multi_label else "softmax",
            top_k=parse_top_k(top_k),
            threshold=None if threshold is None else Threshold.parse(threshold),
            label_thresholds={label: _parse_for(label, text) for label, text in (label_thresholds or {}).items()},
            min_margin=min_margin,
            none=none,
            none_name=none_name,
            level=level,
        )

    @property
    def units(self) -> frozenset[Unit]:
        """The units its thresholds are in."""
        own = () if self.threshold is None else (self.threshold,)
        return frozenset(threshold.unit for threshold in (*own, *self.label_thresholds.values()))

    @property
    def one_will_do(self) -> bool:
        """Whether one label alone tells something: an image need not get it."""
        return self.none or self.kind == "sigmoid" or bool(self.units & {"z", "cos"})

    def check_labels(self, shown: Sequence[str]) -> None:
        """Raises UsageError where an answer would tell nothing: every image gets the one label that is `shown`, or none
        of these is called as one of them."""
        if self.none and self.none_name.strip() in shown:
            raise UsageError(
                f"--none: its answer {self.none_name!r} could not be told from the label of that name; "
                "call it otherwise by --none-name"
            )
        if len(shown) == 1 and not self.one_will_do:
            leaves = "" if self.level is None else f"--level {self.level} leaves "
            raise UsageError(
                f"{leaves}one label only, {shown[0]!r}, which every image would get; "
                "take more, or ask whether it fits with --none or --multi-label"
            )

    def of_label(self, label: str) -> Threshold | None:
        """The threshold of one label."""
        default = Threshold("p", 0.5) if self.kind == "sigmoid" else None
        return self.label_thresholds.get(label) or self.threshold or default


def _check_leaves(thresholds: Iterable[str], level: int) -> None:
    """A branch's probability is a sum, which the limit of one label below it says nothing about."""
    for label in thresholds:
        if label.count("/") >= level:
            raise UsageError(
                f"label {label!r} has a threshold of its own, which --level {level} cannot keep; "
                "take it out of the label file and give one for all by --threshold, or leave --level out"
            )


def _parse_for(label: str, text: str) -> Threshold:
    try:
        return Threshold.parse(text)
    except UsageError as error:
        raise UsageError(f"label {label!r}: {error}") from None


def parse_top_k(value: str | int) -> int | None:
    """What --top-k says; None for `all`. Raises UsageError."""
    if value == "all":
        return None
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"--top-k {value} is neither a number from 1 nor `all`")
    return number
