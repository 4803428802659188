"""From labelled vectors to a head on trial: what `finetune` does between reading and writing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import numpy as np

from cmprompt.encoders.tokens import TOKENS
from cmprompt.errors import UsageError, unknown
from cmprompt.heads.fit import check_weights, training_data
from cmprompt.heads.training import ClassWeight, Task
from cmprompt.heads.trial import Trial, run_trial, split_rows
from cmprompt.labelled import Labelled, photo_groups
from cmprompt.registry import FUSIONS, HEADS, resolve
from cmprompt.types import Array, Encoder, Features, Head

WISE_KINDS = ("linear", "gda", "coop")
LOSSES = ("huber", "squared")
FROM_KINDS = ("linear", "gda", "tip-adapter", "tip-adapter-f", "proker")  # those that read the head they start from


@dataclass(frozen=True)
class Plan:
    """What is to be fitted and how it is judged. `kind` None: `concat` with text beside the images, else `linear`."""

    kind: str | None = None
    use: Literal["image", "text"] | None = None
    regression: bool = False
    val_part: float = 0.2
    val_file: str | None = None
    shots: int | None = None
    seed: int = 0
    class_weight: ClassWeight | None = None
    wise: float | str | None = None
    multi_label: bool = False
    squared: bool = False
    unfreeze: bool = False
    augment: int = 0

    @staticmethod
    def parse(
        *,
        head: str | None,
        use: str | None,
        task: str,
        val: str,
        shots: int | None,
        seed: int,
        class_weight: str | None,
        wise: str | None,
        multi_label: bool = False,
        loss: str = "huber",
        unfreeze: str | None = None,
        augment: int = 0,
    ) -> Plan:
        """From the flags. Raises UsageError for a value that none of them takes."""
        if head is not None and head not in (kinds := [*HEADS, *FUSIONS]):
            raise UsageError(unknown("head", head, kinds))
        for flag, value, known in (
            ("--use", use, ("image", "text")),
            ("--task", task, ("classification", "regression")),
            ("--loss", loss, LOSSES),
            ("--unfreeze", unfreeze, ("image",)),
        ):
            if value is not None and value not in known:
                raise UsageError(unknown(f"{flag} value", value, known))
        part = _number(val)
        if part is not None and not 0 < part <= 0.5:
            raise UsageError(f"--val {val}: a part above 0 and at most 0.5, or a table of its own")
        if part is None and not os.path.exists(val):
            raise UsageError(f"--val {val!r} is neither a number nor a table that is there")
        step = None if wise is None or wise == "auto" else _number(wise)
        if wise not in (None, "auto") and (step is None or not 0 <= step <= 1):
            raise UsageError(f"--wise {wise}: auto, or a number from 0 to 1")
        one_of_n = task == "classification" and not multi_label
        if not one_of_n and (shots or class_weight):
            flag = "--shots" if shots else "--class-weight"
            raise UsageError(f"{flag} counts the rows of each class; here a row has not one class")
        weights = _class_weight(class_weight)
        check_weights(head, weights)
        if multi_label and task == "regression":
            raise UsageError("--multi-label is for labels; leave --task regression out")
        if wise is not None and (unfreeze or head not in (None, *WISE_KINDS)):
            other = "--unfreeze image" if unfreeze else repr(head)
            raise UsageError(f"--wise mixes linear heads on images; {other} is none: use {', '.join(WISE_KINDS)}")
        if augment and (unfreeze or head == "attention"):
            other = "--unfreeze image, which crops anew in each epoch" if unfreeze else "--head attention"
            raise UsageError(f"--augment {augment} does not go with {other}; leave one out")
        return Plan(
            kind=head,
            use=cast(Literal["image", "text"] | None, use),
            regression=task == "regression",
            val_part=part or 0.2,
            val_file=val if part is None else None,
            shots=shots,
            seed=seed,
            class_weight=weights,
            wise="auto" if wise == "auto" else step,
            multi_label=multi_label,
            squared=loss == "squared",
            unfreeze=unfreeze is not None,
            augment=augment,
        )

    def going_on(self, data: Labelled, own_encoders: bool) -> Plan:
        """The plan of a fit that goes on from a head: `linear` where no kind is named.

        Raises UsageError for what such a head does not apply to.
        """
        for what, given in (
            ("--use text", self.use == "text"),
            ("--task regression", self.regression),
            ("--image-encoder and --text-encoder", own_encoders),
        ):
            if given:
                raise UsageError(f"--from goes on from labels on images, with the old head's model; leave {what} out")
        if not data.has_images:
            raise UsageError(f"--from goes on from a head on images, and {data.source} has none; name --image-col")
        if self.kind not in (None, *FROM_KINDS):
            raise UsageError(f"--head {self.kind} does not start from a head; --from takes {', '.join(FROM_KINDS)}")
        return replace(self, kind=self.kind or "linear")

    @property
    def task(self) -> Task:
        """What is fitted."""
        return "regression" if self.regression else "multi_label" if self.multi_label else "classes"

    def needs(self, data: Labelled) -> frozenset[str]:
        """What to embed: the modalities, and their tokens for a head that reads these.

        Raises UsageError where the data have none of the modalities asked for.
        """
        there = {"image": data.has_images, "text": data.has_texts}
        wanted = frozenset(name for name, here in there.items() if here and self.use in (None, name))
        if self.augment and "image" not in wanted:
            raise UsageError(f"--augment {self.augment} makes views of pictures, and none are read here; leave it out")
        if not wanted:
            raise UsageError(f"--use {self.use}: the table has none; name the column with --{self.use}-col")
        return wanted | (TOKENS & resolve(FUSIONS, "fusion", self.kind).needs) if self.kind in FUSIONS else wanted

    def kind_for(self, needs: frozenset[str]) -> str:
        """The head to fit where none is named."""
        return self.kind or ("concat" if needs >= {"image", "text"} else "linear")


def fit_on_trial(
    plan: Plan,
    data: Labelled,
    features: Features,
    judges: Labelled | None,
    judging: Features | None,
    encoder: Encoder,
    prior: Head | None,
    *,
    before: str = "zero-shot",
    vocabulary: Array | None = None,
    views: Array | None = None,
) -> Trial:
    """Fit what `plan` says to `data` and judge it on `judges`, or on rows of `data` that it did not see.

    `prior`: the zero-shot head, for its row of the table (named `before`) and for the heads that start from text;
    `vocabulary` (V, D) where `answers.wants_vocabulary` says so; `views` (N, V, D): crops and flips of the rows of
    `data`. A row of `data` whose picture is also among those that judge is left out.
    """
    everything = features if judging is None else _stacked(features, judging)
    every_row = [data] if judges is None else [data, judges]
    groups = photo_groups(everything)
    use: Literal["image", "text"] = plan.use or ("image" if everything.image is not None else "text")
    labels = None if plan.regression else _labels(every_row, prior)
    training = training_data(
        everything,
        _targets(every_row, labels or ()),
        prior,
        encoder,
        labels=labels,
        task=plan.task,
        use=use,
        class_weight=plan.class_weight,
        groups=groups,
        seed=plan.seed,
        vocabulary=vocabulary,
        squared=plan.squared,
        items=[item for part in every_row for item in part.items],
        unfreeze=plan.unfreeze,
    )
    if views is not None:  # those that judge have none, and are never trained on
        views = np.concatenate([views, np.zeros((len(everything) - len(views), *views.shape[1:]), np.float32)])
        training = replace(training, views=views)
    if judges is None:
        splits = split_rows(training, plan.val_part)[: 1 if plan.unfreeze else None]  # a tower is trained once
    else:
        splits = [_apart(everything, groups, len(features))]
    kind = plan.kind_for(frozenset(name for name in ("image", "text") if getattr(everything, name) is not None))
    trial = run_trial(kind, training, splits, shots=plan.shots, wise_step=plan.wise, before=before)
    left_out = len(features) - len(splits[0][0]) if judges else 0
    return replace(trial, record={**trial.record, "left_out": left_out}) if left_out else trial


def _apart(features: Features, groups: Array, count: int) -> tuple[Array, Array]:
    """(training rows, judging rows): those from `count` on judge, the others train but for their pictures."""
    shared = features.has_image & np.isin(groups, groups[count:])
    rows = np.flatnonzero(~shared[:count])
    if not len(rows):
        raise UsageError("every picture of the table is also in the one that --val names; nothing is left to train on")
    return rows, np.arange(count, len(features))


def _labels(parts: Sequence[Labelled], prior: Head | None) -> list[str]:
    """The labels of the prompts, in their order, or those that occur, sorted."""
    return list(prior.labels) if prior is not None else sorted({name for part in parts for name in part.names})


def _targets(parts: Sequence[Labelled], labels: Sequence[str]) -> list[str] | Array:
    """The targets of all parts: numbers, marks under `labels`, or names."""
    numbers = [part.numbers for part in parts if part.numbers is not None]
    if numbers or any(part.multi_label for part in parts):
        return np.concatenate(numbers or [part.marks(labels) for part in parts])
    return [target for part in parts for target in part.targets]


def _class_weight(text: str | None) -> ClassWeight | None:
    """`balanced`, or `cat=2,dog=0.5` (a label that is not named weighs 1). Raises UsageError."""
    if text is None or text == "balanced":
        return "balanced" if text else None
    pairs = [part.rpartition("=") for part in text.split(",")]
    weights = {label.strip(): _number(value) for label, _, value in pairs}
    if "" in weights or not all(weight is not None and 0 < weight < float("inf") for weight in weights.values()):
        raise UsageError(f"--class-weight {text!r}: balanced, or weights above 0, like cat=2,dog=0.5")
    return {label: float(weight or 1) for label, weight in weights.items()}


def _stacked(first: Features, second: Features) -> Features:
    def both(name: str) -> Any:
        a, b = getattr(first, name), getattr(second, name)
        return None if a is None or b is None else np.concatenate([a, b])

    return Features(*(both(field.name) for field in fields(Features)))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
