"""From labelled vectors to a head on trial: what `finetune` does between reading and writing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Literal

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.fit import check_class_names, training_data
from cmprompt.heads.trial import Trial, run_trial, split_rows
from cmprompt.labelled import checks
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import apart_groups, photo_groups, text_groups
from cmprompt.registry import FUSIONS
from cmprompt.tasks.plan import Plan
from cmprompt.types import Array, Encoder, Features, Head

AMOUNTS = 20  # so many labels that all are numbers look like amounts
_AMOUNT = re.compile(r"[-+]?\d+([.,]\d+)*")


def check_rows(
    plan: Plan,
    data: Labelled,
    judges: Labelled | None,
    needs: frozenset[str],
    known: Sequence[str],
    *,
    from_text: bool,
) -> Iterator[str]:
    """What can be told before anything is embedded: a notice of labels that cannot be learned.

    `known`: the labels that there is a text for where the fit starts `from_text`, else those that are allowed.
    Raises UsageError that names the lines of rows with nothing to read, of labels that nothing can answer, and of clips
    where pictures are cropped; and for --wise where it does not apply.
    """
    plan.check_wise(needs, from_text=from_text)
    if plan.augment:
        checks.no_clips(data, f"--augment {plan.augment}")
    for part in (data, judges):
        if part is not None and plan.unfreeze:
            checks.no_clips(part, "--unfreeze image")
        if part is not None and (read := plan.reads_alone(needs)):
            checks.something_of(part, read)
    if plan.regression:
        return
    if len(data.names) >= AMOUNTS and all(_AMOUNT.fullmatch(name) for name in data.names):
        yield f"all {len(data.names)} labels are numbers; if they are amounts, --task regression learns them as such"
    advice = "name them with --labels, or leave these rows out"
    data.check_labels(known, advice)
    labels = known if from_text else data.names
    if judges is not None:
        judges.check_labels(labels, advice if from_text else f"{data.source} has no rows to learn them from")
    check_class_names(plan.class_weight, labels)
    kind = plan.kind_for(needs)
    if (kind in FUSIONS or kind == "mlp") and (unseen := sorted(set(labels) - set(data.names))):
        yield (
            f"{len(unseen)} labels have no rows in {data.source} ({', '.join(map(repr, unseen[:5]))}): --head {kind}"
            " learns from rows alone and will hardly ever answer them"
        )


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
    old: tuple[Labelled, Features] | None = None,
) -> Trial:
    """Fit what `plan` says to `data` and judge it on `judges`, or on rows of `data` that it did not see.

    `prior`: the zero-shot head, for its row of the table (named `before`) and for the heads that start from text;
    `vocabulary` (V, D) where `answers.wants_vocabulary` says so; `views` (N, V, D): crops and flips of the rows of
    `data`. A row of `data` that is grouped with one of those that judge (`apart_groups`) is left out; `texts_seen` of
    the record counts the judging rows of a head on texts whose text was trained on all the same. `old`: rows of the
    data that `prior` was fitted on; some of them (`replayed` of the record) train again, so that labels which
    `data` lacks are not forgotten (experience replay, Rolnick et al. 2019), and judge nothing; `old_judges` of the
    record counts the judging rows that are among them.
    """
    every_row = [data] if judges is None else [data, judges]
    everything = features if judging is None else Features.joined([features, judging])
    ours = len(everything)
    there = frozenset(name for name in ("image", "text") if getattr(everything, name) is not None)
    read = plan.reads(there)
    groups = _groups(everything, plan, read, len(features))
    if old is not None:
        again = _replayed(data, everything, *old, plan.seed)
        every_row, everything = [*every_row, again[0]], Features.joined([everything, again[1]])
        groups = np.concatenate([groups, groups.max() + 1 + np.arange(len(again[1]))])
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
    if views is not None:  # old rows are their own; those that judge are never trained on
        assert everything.image is not None
        views = np.concatenate([views, np.repeat(everything.image[len(views) :, None], views.shape[1], 1)])
        training = replace(training, views=views)
    if judges is None:
        own = training.take(np.arange(ours))
        splits = split_rows(own, plan.val_part)[: 1 if plan.unfreeze else None]  # a tower is trained once
    else:
        splits = [_apart(everything.take(slice(ours)), groups[:ours], len(features))]
    left_out = len(features) - len(splits[0][0]) if judges else 0
    more = np.arange(ours, len(everything))
    splits = [(np.concatenate([rows, more]), judging_rows) for rows, judging_rows in splits]
    trial = run_trial(plan.kind_for(there), training, splits, shots=plan.shots, wise_step=plan.wise, before=before)
    counts = {
        "left_out": left_out,
        "replayed": len(more),
        "texts_seen": _texts_seen(everything, splits) if "text" in read else 0,
        "old_judges": int(_share_a_photo(everything.take(trial.judged), old[1]).sum()) if old else 0,
    }
    return replace(trial, record={**trial.record, **{name: count for name, count in counts.items() if count}})


def _replayed(
    data: Labelled, features: Features, old: Labelled, old_features: Features, seed: int
) -> tuple[Labelled, Features]:
    """Rows of `old` whose pictures are not among the `features`, with the same fields: of each label as many as those
    of `data` have on the average, or all."""
    sizes, label_sets = Counter(chain.from_iterable(data.label_sets)), old.label_sets
    most = -(-sizes.total() // max(1, len(sizes)))
    unseen = np.flatnonzero(~_share_a_photo(old_features, features))
    chosen, taken = [], Counter[str]()
    for row in np.random.default_rng(seed).permutation(unseen).tolist():
        if any(taken[name] < most for name in label_sets[row]):
            chosen.append(row)
            taken.update(label_sets[row])
    some = np.sort(np.array(chosen, np.int64))
    return old.take(some), _with_the_fields_of(features, old_features.take(some))


def _share_a_photo(features: Features, others: Features) -> Array:
    """(N,) bool: which rows have the picture of one of the `others`."""
    photos = photo_groups(Features.joined([features, others]))
    return np.isin(photos[: len(features)], photos[len(features) :])


def _with_the_fields_of(others: Features, rows: Features) -> Features:
    """`rows` with zeros in each field that only `others` have, as of rows without."""
    n, missing = len(rows), {}
    for field in fields(Features):
        there = getattr(others, field.name)
        if there is not None and getattr(rows, field.name) is None:
            missing[field.name] = np.zeros((n, *there.shape[1:]), there.dtype)
    return replace(rows, **missing)


def _groups(features: Features, plan: Plan, read: frozenset[str], count: int) -> Array:
    """(N,) what is never parted. Rows from `count` on judge, if there are any: where most of the others share a text
    with them, the groups are those of one photo, unless the head `read`s text alone."""
    groups = apart_groups(features, plan.val_part, of_text=read == {"text"})
    if count < len(features) and "image" in read and 2 * len(_unshared(features, groups, count)) < count:
        return photo_groups(features)
    return groups


def _unshared(features: Features, groups: Array, count: int) -> Array:
    """The rows before `count` that are not grouped with one from there on."""
    shared = (features.has_image | features.has_text) & np.isin(groups, groups[count:])
    return np.flatnonzero(~shared[:count])


def _apart(features: Features, groups: Array, count: int) -> tuple[Array, Array]:
    """(training rows, judging rows): those from `count` on judge, the others train but for their pictures and texts."""
    rows = _unshared(features, groups, count)
    if not len(rows):
        raise UsageError(
            "every picture or text of the table is also in the one that --val names; nothing is left to train on"
        )
    return rows, np.arange(count, len(features))


def _texts_seen(features: Features, splits: Sequence[tuple[Array, Array]]) -> int:
    """How many judging rows have a text that a training row has."""
    texts = np.where(features.has_text, text_groups(features), -1)
    seen = (np.isin(texts[judging], texts[training]) & features.has_text[judging] for training, judging in splits)
    return sum(int(rows.sum()) for rows in seen)


def _labels(parts: Sequence[Labelled], prior: Head | None) -> list[str]:
    """The labels of the prompts, in their order, or those that occur, sorted."""
    return list(prior.labels) if prior is not None else sorted({name for part in parts for name in part.names})


def _targets(parts: Sequence[Labelled], labels: Sequence[str]) -> list[str] | Array:
    """The targets of all parts: numbers, marks under `labels`, or names."""
    numbers = [part.numbers for part in parts if part.numbers is not None]
    if numbers or any(part.multi_label for part in parts):
        return np.concatenate(numbers or [part.marks(labels) for part in parts])
    return [target for part in parts for target in part.targets]
