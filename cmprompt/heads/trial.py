"""A head on trial: fitted, calibrated, and set beside what was there before on rows that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt import metrics
from cmprompt.errors import UsageError
from cmprompt.heads.answers import answers as answers_of
from cmprompt.heads.fit import fit_calibrated, fit_training
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.training import Training, choose, held_out_loss, split_folds, split_part
from cmprompt.heads.tuned import Tuned, plain
from cmprompt.heads.verdict import Row, Verdict, judge, majority
from cmprompt.heads.wise import wise
from cmprompt.types import Array, Head

if TYPE_CHECKING:
    from cmprompt.encoders.tuned import Tower

ENOUGH_TO_JUDGE = 100  # rows; with fewer set aside, folds of all rows judge instead
FLOORS = {"classes": "majority class", "multi_label": "label frequencies", "regression": "mean"}
WISE_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Trial:
    """A fitted head and what it was found to be worth.

    `answers`: the (N, C) probabilities or (N,) numbers of every line of the table for the rows that judged, which are
    rows `judged` of the whole data; `targets` (N,) the truth there. `towers` were trained with the head.
    """

    head: Head
    table: list[Row]
    verdict: Verdict
    record: dict[str, Any]
    chosen: str
    answers: dict[str, Array]
    targets: Array
    judged: Array
    towers: tuple[Tower, ...] = ()


def split_rows(data: Training, part: float) -> list[tuple[Array, Array]]:
    """(training rows, judging rows): one split of about this part, or five where that would judge with too few."""
    if len(data) * part >= ENOUGH_TO_JUDGE:
        return [split_part(data.strata, data.groups, part, data.seed)]
    units = len(data) if data.groups is None else len(np.unique(data.groups))
    if units < 2:
        return [split_part(data.strata, data.groups, part, data.seed)]  # which says what is wrong
    return split_folds(data.strata, data.groups, min(5, units), data.seed)


def few_of_each(data: Training, shots: int) -> Array:
    """Row numbers: at most `shots` of each class, by the seed."""
    order = np.random.default_rng(data.seed).permutation(len(data))
    picked = [order[data.targets[order] == label][:shots] for label in np.unique(data.targets)]
    return np.sort(np.concatenate(picked))


def run_trial(
    kind: str,
    data: Training,
    splits: list[tuple[Array, Array]],
    *,
    shots: int | None = None,
    wise_step: float | str | None = None,
    options: Mapping[str, Any] | None = None,
    before: str = "zero-shot",
) -> Trial:
    """Fit `kind` and its controls on each split's training rows and judge them on the others.

    `before` is what the table calls the head that the fit starts from. With one split the head of the table is the
    head that comes back; with several, one more fitted to all rows.
    """
    parts: list[dict[str, Array]] = []
    warm: list[Array] = []  # the head's probabilities as they were before its temperature
    twins: set[str | None] = set()
    floor = FLOORS[data.task]
    for train_rows, judging_rows in splits:
        train, held = data.take(train_rows), data.take(judging_rows)
        train = train.take(few_of_each(train, shots)) if shots else train
        heads = _contenders(kind, train, wise_step, options or {})
        heads = {before if name == "zero-shot" else name: head for name, head in heads.items()}
        parts.append({name: _answers(head, held) for name, head in heads.items()})
        parts[-1][floor] = _floor_answers(train, held)
        warm.append(_uncooled(parts[-1][kind], train))
        twins.add(_twin(kind, train))
    judged = np.concatenate([rows for _, rows in splits])
    if len(splits) > 1:
        train = data.take(few_of_each(data, shots)) if shots else data.take(np.arange(len(data)))
        heads = {kind: _chosen(kind, train, wise_step, options or {})}
    itself = {_twin(kind, train), *(twins if len(twins) == 1 else ())}
    names = [floor, *(name for name in parts[0] if name not in (floor, *itself))]
    answers = {name: np.concatenate([part[name] for part in parts]) for name in names}
    targets = data.targets[judged]
    if "temperature" in train.record:
        for when, rows in (("before", np.concatenate(warm)), ("after", answers[kind])):
            train.record[f"judged_ece_{when}"] = metrics.expected_calibration_error(rows, targets)
    table, verdict = judge(answers, targets, kind, floor, seed=data.seed)
    counts = {"trained_on": len(train), "chose_on": train.record.get("chose_on", 0), "judged_on": len(judged)}
    record = {**train.record, **counts, "splits": len(splits)}
    head = heads[kind]
    towers = head.towers if isinstance(head, Tuned) else ()
    return Trial(plain(head), table, verdict, record, kind, answers, targets, judged, towers)


def _contenders(
    kind: str, train: Training, wise_step: float | str | None, options: Mapping[str, Any]
) -> dict[str, Head]:
    """The baselines and the head on trial, fitted; none of them twice."""
    heads: dict[str, Head] = {}
    if train.prior is not None:
        heads["zero-shot"] = train.prior
    chosen = _chosen(kind, train, wise_step, options)
    for use in ("image", "text"):
        name, alone = f"{use} only", replace(train, use=use, record={}, unfreeze=False)
        if getattr(train.features, use) is not None:
            heads[name] = chosen if name == _twin(kind, train) else fit_training("linear", alone)
    heads[kind] = chosen
    return heads


def _twin(kind: str, train: Training) -> str | None:
    """The control that the fitted head is: no head is compared with itself."""
    controls = {"linear": f"{train.use} only", "linear-text": "text only"}
    as_it_is = train.record.get("wise", 1.0) == 1.0 and not train.unfreeze
    return controls.get(train.record.get("kind", kind)) if as_it_is else None


def _chosen(kind: str, train: Training, wise_step: float | str | None, options: Mapping[str, Any]) -> Head:
    """The head on trial, calibrated; how far it is mixed with zero-shot is chosen once."""

    def mix(head: Head, rows: Training) -> Head:
        return _mixed(kind, rows, train.record.get("wise", wise_step), options, head)

    return fit_calibrated(kind, train, mix, **options)


def _mixed(kind: str, train: Training, step: float | str | None, options: Mapping[str, Any], head: Head) -> Head:
    """WiSE-FT with the text's head; "auto" lets held-out folds choose how far."""
    if step is None:
        return head
    if train.prior is None or train.use != "image" or not isinstance(head, LinearHead):
        raise UsageError("--wise stays between zero-shot and a linear head on images; here one of them is missing")
    prior = train.prior
    if step == "auto":

        def score(part: Training, held: Training) -> list[Array]:
            fitted = fit_training(kind, part, **options)
            assert isinstance(fitted, LinearHead)
            return [held_out_loss(wise(prior, fitted, a).logits(held.features), held) for a in WISE_STEPS]

        step = choose(train, WISE_STEPS, score, default=0.5)
    train.record["wise"] = float(step)
    return wise(prior, head, float(step))


def _answers(head: Head, held: Training) -> Array:
    return answers_of(head, held.seen_by(head), held.task, held.vocabulary)


def _uncooled(rows: Array, train: Training) -> Array:
    """softmax(z) from softmax(z / temperature); what has no temperature as it is."""
    temperature = train.record.get("temperature")
    return rows if temperature is None else metrics.softmax(np.log(np.maximum(rows, 1e-300)) * temperature)


def _floor_answers(train: Training, held: Training) -> Array:
    """One answer to every row: the training rows' mean, or how frequent each label is among them."""
    if train.task != "classes":
        return np.repeat(train.targets.mean(0, keepdims=True), len(held), 0).astype(np.float64)
    return majority(held.targets, train.targets, len(train.labels))
