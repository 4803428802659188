"""What a fit is to be: the flags of `finetune`, checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal, cast

from cmprompt.errors import UsageError, unknown
from cmprompt.heads.fit import check_weights, with_tokens
from cmprompt.heads.network import Fusion
from cmprompt.heads.training import ClassWeight, Task
from cmprompt.labelled.rows import Labelled
from cmprompt.registry import FROM_KINDS, FUSIONS, HEADS, VIEWLESS_KINDS, WISE_KINDS, head_kinds, resolve

MOST_SEED = 2**64 - 1  # torch's own
HEAVIEST = 1e6  # class weight; the lightest is its inverse
LOSSES = ("huber", "squared")


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
        loss: str | None = None,
        unfreeze: str | None = None,
        augment: int = 0,
    ) -> Plan:
        """From the flags. Raises UsageError for a value that none takes, and for flags that exclude each other."""
        if head is not None and head not in (*HEADS, *FUSIONS):
            raise UsageError(unknown("head", head, head_kinds()))
        for flag, value, known in (
            ("--use", use, ("image", "text")),
            ("--task", task, ("classification", "regression")),
            ("--loss", loss, LOSSES),
            ("--unfreeze", unfreeze, ("image",)),
        ):
            if value is not None and value not in known:
                raise UsageError(unknown(f"{flag} value", value, known))
        if seed > MOST_SEED:
            raise UsageError(f"--seed {seed}: a whole number from 0 to {MOST_SEED}")
        part = _val_part(val)
        plan = Plan(
            kind=head,
            use=cast(Literal["image", "text"] | None, use),
            regression=task == "regression",
            val_part=part or 0.2,
            val_file=val if part is None else None,
            shots=shots,
            seed=seed,
            class_weight=_class_weight(class_weight),
            wise=_wise(wise),
            multi_label=multi_label,
            squared=loss == "squared",
            unfreeze=unfreeze is not None,
            augment=augment,
        )
        plan._check_task(loss)
        plan._check_kind()
        return plan

    def _check_task(self, loss: str | None) -> None:
        """Raises UsageError for flags of another task."""
        if self.multi_label and self.regression:
            raise UsageError("--multi-label is for labels; leave --task regression out")
        if loss is not None and not self.regression:
            raise UsageError(f"--loss {loss} is for numbers; leave it out, or add --task regression")
        if self.task != "classes" and self.shots:
            raise UsageError("--shots counts the rows of each class; here a row has not one class")

    def _check_kind(self) -> None:
        """Raises UsageError for flags that the kind of head would ignore."""
        check_weights(self.kind, self.class_weight, self.task)
        if self.wise is not None and (self.unfreeze or self.kind not in (None, *WISE_KINDS)):
            other = "--unfreeze image" if self.unfreeze else repr(self.kind)
            raise UsageError(f"--wise mixes linear heads on images; {other} is none: use {', '.join(WISE_KINDS)}")
        if self.augment and (self.unfreeze or self.kind in VIEWLESS_KINDS):
            other = "--unfreeze image, which crops anew in each epoch" if self.unfreeze else f"--head {self.kind}"
            raise UsageError(f"--augment {self.augment} does not go with {other}; leave one out")

    def check_wise(self, needs: frozenset[str], *, from_text: bool) -> None:
        """Raises UsageError where --wise has no two linear heads to mix."""
        if self.wise is None:
            return
        if (kind := self.kind_for(needs)) not in WISE_KINDS:
            raise UsageError(f"--wise mixes linear heads on images; {kind!r} is none: use {', '.join(WISE_KINDS)}")
        if not from_text or self.reads(needs) != {"image"}:
            raise UsageError("--wise stays between zero-shot and a linear head on images; here one of them is missing")

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
        return with_tokens(self.kind, wanted)

    def reads_alone(self, needs: frozenset[str]) -> frozenset[str]:
        """The one modality that the head reads, where it has no stand-in for what is missing; none of other heads."""
        has_stand_ins = self.unfreeze or self.kind_for(needs) in (*FUSIONS, "mlp", "auto")
        return frozenset() if has_stand_ins else self.reads(needs)

    def reads(self, needs: frozenset[str]) -> frozenset[str]:
        """The modalities that the head reads of those that it `needs`."""
        kind, there = self.kind_for(needs), needs & {"image", "text"}
        if kind in FUSIONS:
            fusion: Fusion = resolve(FUSIONS, "fusion", kind)
            return there & fusion.needs
        if kind == "linear-text":
            return frozenset({"text"})
        return there if kind == "auto" else frozenset({self.use or ("image" if "image" in needs else "text")})

    def kind_for(self, needs: frozenset[str]) -> str:
        """The head to fit where none is named."""
        return self.kind or ("concat" if needs >= {"image", "text"} else "linear")


def _val_part(val: str) -> float | None:
    """The part of the rows that judges; None for a table of its own. Raises UsageError for neither."""
    part = _number(val)
    if part is not None and not 0 < part <= 0.5:
        raise UsageError(f"--val {val}: a part above 0 and at most 0.5, or a table of its own")
    if part is None and not os.path.exists(val):
        raise UsageError(f"--val {val!r} is neither a number nor a table that is there")
    return part


def _wise(text: str | None) -> float | str | None:
    """How far from zero-shot, or "auto". Raises UsageError."""
    if text is None or text == "auto":
        return text
    step = _number(text)
    if step is None or not 0 <= step <= 1:
        raise UsageError(f"--wise {text}: auto, or a number from 0 to 1")
    return step


def _class_weight(text: str | None) -> ClassWeight | None:
    """`balanced`, or `cat=2,dog=0.5` (a label that is not named weighs 1). Raises UsageError."""
    if text is None or text == "balanced":
        return "balanced" if text else None
    pairs = [part.rpartition("=") for part in text.split(",")]
    weights = {label.strip(): _number(value) for label, _, value in pairs}
    if "" in weights or not all(weight and 1 / HEAVIEST <= weight <= HEAVIEST for weight in weights.values()):
        raise UsageError(
            f"--class-weight {text!r}: balanced, or weights above 0, like cat=2,dog=0.5, from {1 / HEAVIEST:g} to"
            f" {HEAVIEST:g}"
        )
    return {label: float(weight or 1) for label, weight in weights.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
