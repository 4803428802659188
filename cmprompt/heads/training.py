"""What a head is fitted from, and the folds on which its choices are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array, Encoder, Features, Head, Item

Task = Literal["classes", "multi_label", "regression"]
ClassWeight = Literal["balanced"] | Mapping[str, float]
Choice = TypeVar("Choice")
ENOUGH_FOR_ONE_SPLIT = 5000  # rows from which one held-out fold of five says as much as all five


@dataclass(frozen=True)
class Training:
    """Aligned rows with their targets.

    `targets`: (N,) int64 class numbers, (N, C) float32 of 0 and 1 for multi-label, (N,) float32 for regression.
    `prior` holds the text: a linear head with a row for each label. `class_weight`: how much the rows of each label
    weigh, 1 where it is not named; "balanced" gives all labels the same total. `groups` (N,) numbers of what must stay
    on one side of a split. `use` is the modality of one-modality heads. `vocabulary` (V, D)
    calibrates the text's sigmoids, where the model has no bias for them. `squared`: squared loss in place of Huber, for
    numbers. `record` collects what was chosen on the way, for the report.

    `views` (N, V, D): crops and flips of each row's picture, to train on and never to choose by.
    For towers that learn with the head: `items` are the rows themselves; `words` says how their texts are read by an
    embedding of its own (`encoders.embedding.KINDS`); `unfreeze` that the image tower is trained.
    """

    features: Features
    targets: Array
    labels: tuple[str, ...]
    model_id: str
    task: Task = "classes"
    prior: LinearHead | None = None
    encoder: Encoder | None = None
    class_weight: ClassWeight | None = None
    groups: Array | None = None
    use: Literal["image", "text"] = "image"
    seed: int = 0
    vocabulary: Array | None = None
    squared: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    items: tuple[Item, ...] = ()
    words: str | None = None
    unfreeze: bool = False
    views: Array | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def x(self) -> Array:
        """(N, D) of the modality in use."""
        rows = self.features.image if self.use == "image" else self.features.text
        assert rows is not None
        return rows

    @property
    def supports(self) -> Array:
        """(N, D) what stands for each row where rows are remembered or summed: the row itself, or the mean of its views
        at the row's length (Tip-Adapter's keys, Zhang et al. 2022)."""
        if self.views is None or self.use != "image":
            return self.x
        mean = self.views.mean(1)
        lengths = np.linalg.norm(mean, axis=1, keepdims=True)
        own = np.linalg.norm(self.x, axis=1, keepdims=True)
        rows: Array = (mean * own / np.maximum(lengths, 1e-12)).astype(np.float32)
        return rows

    @property
    def row_weights(self) -> Array:
        """(N,) float32 with mean 1; balanced over these rows as scikit-learn does it."""
        if self.class_weight is None:
            weights = np.ones(len(self))
        elif isinstance(self.class_weight, str):
            weights = 1 / np.bincount(self.targets)[self.targets]
        else:
            weights = np.array([self.class_weight.get(label, 1.0) for label in self.labels])[self.targets]
        rows: Array = (weights / weights.mean()).astype(np.float32)
        return rows

    @property
    def strata(self) -> Array:
        """(N,) int: what folds share out evenly. The class; of several labels the rarest; nothing for numbers."""
        if self.task == "classes":
            return self.targets
        if self.task == "regression":
            return np.zeros(len(self), int)
        rarity = self.targets / np.maximum(self.targets.sum(0), 1)  # (N, C)
        return np.where(self.targets.any(1), rarity.argmax(1), len(self.labels))

    def take(self, rows: Array) -> Training:
        """The same with some of its rows, and a record of its own."""
        return replace(
            self,
            features=self.features.take(rows),
            targets=self.targets[rows],
            groups=None if self.groups is None else self.groups[rows],
            record={},
            items=tuple(self.items[row] for row in rows) if self.items else (),
            views=None if self.views is None else self.views[rows],
        )

    @property
    def texts(self) -> list[str]:
        """The text of each row, empty where there is none."""
        return [item.text or "" for item in self.items]

    def seen_by(self, head: Head) -> Features:
        """The features that `head` reads: those at hand, or what the towers that it brings make of the rows."""
        see = getattr(head, "see", None)  # `heads.tuned.Tuned` brings towers
        seen: Features = see(self) if see else self.features
        return seen

    def folds(self, most: int = 5) -> list[tuple[Array, Array]]:
        """(training rows, held-out rows) of stratified folds; none at one shot, where nothing can be held out."""
        count = min(most, len(self) if self.groups is None else len(np.unique(self.groups)))
        if self.task == "classes":
            count = min(count, int(np.median(np.unique(self.strata, return_counts=True)[1])))
        parts = split_folds(self.strata, self.groups, count, self.seed) if count > 1 else []
        return parts[:1] if len(self) > ENOUGH_FOR_ONE_SPLIT else parts


def split_folds(strata: Array, groups: Array | None, count: int, seed: int) -> list[tuple[Array, Array]]:
    """`count` folds that share each stratum out evenly and never part a group (which goes with its first row's)."""
    dealt, _, unit_of_row = _dealt(strata, groups, seed)
    fold_of_unit = np.empty(len(dealt), int)
    fold_of_unit[dealt] = np.arange(len(dealt)) % count
    fold = fold_of_unit[unit_of_row]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]


def split_part(strata: Array, groups: Array | None, part: float, seed: int) -> tuple[Array, Array]:
    """(rows that stay, rows held out): about this `part` of each stratum, no group parted.

    Of a stratum of two groups or more at least one is on each side; one alone stays. Raises UsageError where there is
    only one group.
    """
    dealt, stratum, unit_of_row = _dealt(strata, groups, seed)
    if len(dealt) < 2:
        raise UsageError("every row has the same picture or text, so that none can judge; name one that does by --val")
    is_held = np.zeros(len(dealt), bool)
    places = np.ceil(np.arange(np.ceil(len(dealt) * part)) / part - 1e-9).astype(int)
    is_held[dealt[places[places < len(dealt)]]] = True
    starts = np.flatnonzero(np.diff(stratum[dealt], prepend=stratum[dealt[0]] - 1))
    for own in np.split(dealt, starts[1:]):  # (n,) the units of one stratum
        is_held[own[:1]] |= len(own) > 1 and not is_held[own].any()
        is_held[own[-1:]] &= len(own) > 1 and not is_held[own].all()
    if not is_held.any():  # every stratum is a group of its own
        is_held[dealt[0]] = True
    held = is_held[unit_of_row]
    return np.flatnonzero(~held), np.flatnonzero(held)


def _dealt(strata: Array, groups: Array | None, seed: int) -> tuple[Array, Array, Array]:
    """Units, those of one stratum beside each other and shuffled; (U,) the stratum of each; (N,) the unit of each row.

    A unit is a group, or a row where there are no groups.
    """
    units = np.arange(len(strata)) if groups is None else groups
    names, first, unit_of_row = np.unique(units, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    stratum = strata[first]
    return shuffled[np.argsort(stratum[shuffled], kind="stable")], stratum, unit_of_row


def held_out_loss(logits: Array, data: Training) -> Array:
    """(N,) what each row costs: cross entropy by the row's weight, or the squared error of numbers. The smaller the
    better."""
    logits = logits.astype(np.float64)
    if data.task == "regression":
        squared: Array = (logits[:, 0] - data.targets) ** 2
        return squared
    if data.task == "multi_label":
        each: Array = (np.logaddexp(0, logits) - data.targets * logits).mean(1)
        return each
    top = logits.max(1)
    total = np.log(np.exp(logits - top[:, None]).sum(1)) + top
    own: Array = (total - logits[np.arange(len(data)), data.targets]) * data.row_weights
    return own


def choose(
    data: Training,
    candidates: Sequence[Choice],
    score: Callable[[Training, Training], list[Array]],
    *,
    default: Choice | None = None,
    cautious: bool = True,
    most_folds: int = 5,
) -> Choice:
    """The candidate of least held-out loss over the folds; `default`, or the first, where nothing can be held out.

    `score(train, held)` gives the (N,) held-out losses of each candidate, infinite for what it need not try.
    Candidates go from the most cautious to the boldest: a later one must win by more than one standard error of its
    gain, unless `cautious` is false.
    """
    folds = data.folds(most_folds)
    if not folds or len(candidates) == 1:
        return candidates[0] if default is None else default
    parts = [score(data.take(train), data.take(held)) for train, held in folds]
    losses = np.stack([np.concatenate(of_one) for of_one in zip(*parts, strict=True)])  # (candidates, N)
    means = losses.mean(1).tolist()
    data.record["chose_on"] = losses.shape[1]
    tried = ((c, loss) for c, loss in zip(candidates, means, strict=True) if np.isfinite(loss))
    data.record["tried"] = [{"setting": c, "loss": loss} for c, loss in tried]
    best = int(losses.mean(1).argmin())
    if not cautious:
        return candidates[best]
    gains = losses[:best] - losses[best]
    unsure = gains.mean(1) <= gains.std(1) / np.sqrt(losses.shape[1])
    return candidates[int(np.flatnonzero(unsure)[0])] if unsure.any() else candidates[best]


def text_prior(data: Training, kind: str) -> LinearHead:
    """The text's head, for the heads that are nothing without one. Raises UsageError where they do not apply."""
    if data.task != "classes":
        raise UsageError(f"--head {kind} is for one label of several; use --head linear or mlp for this task")
    if data.prior is None or data.use != "image":
        raise UsageError(f"--head {kind} starts from text: it needs an encoder that reads both, and --use image")
    return data.prior
