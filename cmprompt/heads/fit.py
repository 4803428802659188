"""Fit a head of any kind to labelled vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from cmprompt.encoders.devices import blas_threads
from cmprompt.encoders.embedding import unlearned_kind
from cmprompt.encoders.tokens import TOKENS
from cmprompt.errors import UsageError, unknown
from cmprompt.heads.calibrate import calibration, cooled
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.training import ClassWeight, Task, Training
from cmprompt.registry import CLOSED_FORMS, FUSIONS, HEADS, SLOW_KINDS, resolve
from cmprompt.types import Array, Encoder, Features, Head, Item

Mix = Callable[[Head, Training], Head]

FEW_ROWS = 2000  # whose products are too small to share among threads
# What a kind is beside an embedding that learns: fusions of it need no projections, and one plane on it is a network.
FROM_WORDS = {"concat": "concat-raw", "concat-mlp": "concat-raw-mlp", "linear-text": "text"}


def fit(
    kind: str,
    features: Features,
    targets: Sequence[Any] | Array,
    prior: Head | None = None,
    encoder: Encoder | None = None,
    *,
    labels: Sequence[str] | None = None,
    model_id: str | None = None,
    task: Task = "classes",
    use: Literal["image", "text"] = "image",
    class_weight: ClassWeight | None = None,
    groups: Array | None = None,
    seed: int = 0,
    squared: bool = False,
    items: Sequence[Item] = (),
    unfreeze: bool = False,
    calibrated: bool = False,
    record: dict[str, Any] | None = None,
    **options: Any,
) -> Head:
    """A head of `kind`, a name in `registry.HEADS` or `registry.FUSIONS`, on N rows of vectors.

    `targets`: N label names, (N, C) of 0 and 1 with `labels` under multi-label, or N numbers. `prior`: the zero-shot
    head of the same labels, for the kinds that start from text. `use`: which modality `linear` reads. `encoder`: for
    what learns through its towers: `coop`, learned embeddings, `unfreeze`. `labels` default to the prior's, else to the
    names that occur, sorted. `model_id`: the model of the vectors, by default the prior's or the encoder's.
    `class_weight`: "balanced" or {label: weight}, as scikit-learn has it. `groups` (N,): rows of one group are never on
    both sides of a split. `seed` draws splits, batches and first weights. `squared`: the loss of numbers is squared,
    not Huber's. `items`: the rows themselves, for towers that are trained with the head: the image's under `unfreeze`,
    and an encoder's `embedding`. `calibrated`: divide the logits by the temperature that held-out folds choose, as
    `finetune` does (Guo et al. 2017). `record` is filled with what was chosen on the way. `options` go to the kind.

    The head's `logits` are (N, C) in the order of its `labels`, or (N, 1) numbers. Nothing is judged here: `finetune`
    sets rows aside for that. Raises UsageError for a kind that cannot fit this task.
    """
    data = training_data(
        features, targets, prior, encoder, labels=labels, model_id=model_id, task=task, use=use,
        class_weight=class_weight, groups=groups, seed=seed, squared=squared, items=items, unfreeze=unfreeze,
    )  # fmt: skip
    head = (fit_calibrated if calibrated else fit_training)(kind, data, **options)
    if record is not None:
        record.update(data.record)
    return head


def fit_training(kind: str, data: Training, **options: Any) -> Head:
    """The same for rows that are put together already."""
    with blas_threads(1 if len(data) < FEW_ROWS else None):
        return _fitted(kind, data, **options)


def fit_calibrated(kind: str, data: Training, mix: Mix = lambda head, rows: head, **options: Any) -> Head:
    """The same with its temperature, which held-out folds of the rows choose, or one of them where a fit takes long.

    `mix` makes of a fitted head and its rows the one that answers.
    """
    head, folds = mix(fit_training(kind, data, **options), data), data.folds()
    folds = folds[: 1 if kind in SLOW_KINDS else None]
    if data.task != "classes" or "temperature" in data.record or not folds:
        return head  # what is trained by steps has found its temperature where it found its epochs
    kind = data.record.get("kind", kind)  # what `auto` chose
    if kind in ("linear", "linear-text") and "C" in data.record:
        options = {**options, "strength": data.record["C"]}  # is chosen already
    logits = []
    for inner, held in ((data.take(rows), data.take(others)) for rows, others in folds):
        scout = mix(fit_training(kind, inner, **options), inner)
        logits.append(scout.logits(held.seen_by(scout)))
    rows = np.concatenate([others for _, others in folds])
    data.record.update(calibration(np.concatenate(logits), data.targets[rows]))
    data.record["chose_on"] = max(data.record.get("chose_on", 0), len(rows))
    return cooled(head, data.record["temperature"])


def _fitted(kind: str, data: Training, **options: Any) -> Head:
    check_weights(kind, data.class_weight, data.task)
    if data.words:
        kind = "text" if (kind, data.use) == ("linear", "text") else FROM_WORDS.get(kind, kind)
    if data.unfreeze:
        from cmprompt.heads.unfreeze import fit_unfrozen

        return fit_unfrozen(data, kind, **options)
    if kind in FUSIONS:
        from cmprompt.heads.recipe import Recipe
        from cmprompt.heads.train import fit_fusion

        return fit_fusion(data, kind, Recipe(**options))
    if kind not in HEADS:
        raise UsageError(unknown("head", kind, [*HEADS, *FUSIONS]))
    head: Head = resolve(HEADS, "head", kind)(data, **options)
    return head


def training_data(
    features: Features,
    targets: Sequence[Any] | Array,
    prior: Head | None = None,
    encoder: Encoder | None = None,
    *,
    labels: Sequence[str] | None = None,
    model_id: str | None = None,
    task: Task = "classes",
    use: Literal["image", "text"] = "image",
    class_weight: ClassWeight | None = None,
    groups: Array | None = None,
    seed: int = 0,
    vocabulary: Array | None = None,
    squared: bool = False,
    items: Sequence[Item] = (),
    unfreeze: bool = False,
) -> Training:
    """Checked rows for `fit_training`."""
    if len(targets) != len(features) or not len(targets):
        raise UsageError(f"{len(features)} rows of vectors and {len(targets)} targets; there must be one for each row")
    text = prior if isinstance(prior, LinearHead) and task != "regression" else None
    if isinstance(class_weight, Mapping):
        class_weight = {str(label): weight for label, weight in class_weight.items()}
    names = _label_names(targets, labels, text, task)
    numbers = target_numbers(targets, names, task)
    check_class_names(class_weight, names)
    owner = model_id or (prior.model_id if prior else encoder.model_id if encoder else "")
    ordered = _in_order(text, names) if text is not None else None
    return Training(
        features, numbers, names, owner, task, ordered, encoder, class_weight, groups, use, seed, vocabulary, squared,
        items=tuple(items), words=unlearned_kind(encoder), unfreeze=unfreeze,
    )  # fmt: skip


def target_numbers(targets: Sequence[Any] | Array, labels: tuple[str, ...], task: Task) -> Array:
    """(N,) int64 class numbers, (N, C) float32 of 0 and 1, or (N,) float32. Raises UsageError for an unknown label."""
    if task != "classes":
        rows: Array = np.asarray(targets, np.float32)
        if not np.isfinite(rows).all():
            raise UsageError(f"target {int(np.flatnonzero(~np.isfinite(rows))[0])} is not a finite number")
        return rows
    place = {label: number for number, label in enumerate(labels)}
    missing = sorted({str(target) for target in targets} - set(place))
    if missing:
        raise UsageError(f"target {missing[0]!r} is not among the labels: {', '.join(labels)}")
    return np.array([place[str(target)] for target in targets], np.int64)


def _label_names(
    targets: Sequence[Any] | Array, labels: Sequence[str] | None, text: LinearHead | None, task: Task
) -> tuple[str, ...]:
    if task == "regression":
        return ()
    if labels is not None:
        return tuple(labels)
    if text is not None:
        return text.labels
    if task == "multi_label":
        raise UsageError("multi-label targets are columns of 0 and 1; name the columns with labels=")
    names = tuple(sorted({str(target) for target in targets}))
    if len(names) < 2:
        raise UsageError(f"every row has the label {names[0]!r}; a head needs at least two labels to tell apart")
    return names


def with_tokens(kind: str | None, needs: frozenset[str]) -> frozenset[str]:
    """What to embed for a head of `kind` on these modalities: them, and their tokens where it reads these."""
    return needs | (TOKENS & resolve(FUSIONS, "fusion", kind).needs) if kind in FUSIONS else needs


def check_weights(kind: str | None, class_weight: ClassWeight | None, task: Task) -> None:
    """Raises UsageError for a task without classes, and for a kind that cannot weigh them."""
    if class_weight is not None and task != "classes":
        raise UsageError("--class-weight counts the rows of each class; here a row has not one class")
    if class_weight is not None and kind in CLOSED_FORMS:
        raise UsageError(f"--class-weight weighs rows in a loss, and {kind} is a closed form without one; use linear")


def check_class_names(class_weight: ClassWeight | None, labels: Sequence[str]) -> None:
    """Raises UsageError for a weight of what is no label."""
    if isinstance(class_weight, Mapping) and (strange := sorted(set(class_weight) - set(labels))):
        raise UsageError(f"--class-weight: {unknown('label', strange[0], labels)}")


def _in_order(text: LinearHead, labels: tuple[str, ...]) -> LinearHead:
    """The text's head with its rows in the order of `labels`."""
    if text.labels == labels:
        return text
    lacking = sorted(set(labels) - set(text.labels))
    if lacking:
        raise UsageError(f"the prompts have no label {lacking[0]!r}, which the targets have")
    rows = [text.labels.index(label) for label in labels]
    return replace(text, weight=text.weight[rows], labels=labels, bias=None if text.bias is None else text.bias[rows])
