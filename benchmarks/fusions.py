"""Image and text together: the tables 3, 4 and 5 of `heads.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from labelled_sets import BOTH, Bench, captioned, grocery, houses, matched

from cmprompt.errors import UsageError
from cmprompt.heads.fit import fit, training_data
from cmprompt.heads.training import split_folds
from cmprompt.heads.trial import run_trial
from cmprompt.types import Array, Features, Item

FUSED = ("concat", "weighted", "attention", "add", "hadamard", "dot", "bilinear")
TOKENS = BOTH | {"image_tokens", "text_tokens"}
MISSING = 0.3  # of the texts at test time
Rows = list[list[object]]


def both_sides(bench: Bench, items: Sequence[Item]) -> Features:
    """Vectors of both sides, and patch and word tokens where this model gives them."""
    try:
        return bench.vectors(items, TOKENS)
    except UsageError:  # this model has no tokens
        return bench.vectors(items, BOTH)


def groceries(bench: Bench) -> Rows:
    """Accuracy on `val`; the coarse class is the text, the fine one the label."""
    train, val = grocery(bench.data, "train"), grocery(bench.data, "val")
    names = np.array([str(item.target) for item in train])
    labels = sorted({str(item.target) for item in [*train, *val]})
    truth = np.array([labels.index(str(item.target)) for item in val])
    return _all_heads(both_sides(bench, train), names, both_sides(bench, val), truth, labels, None)


def matches(bench: Bench, rows: int) -> Rows:
    """Does the caption belong to the photo? Accuracy on the photos of `val`."""
    train = both_sides(bench, captioned(bench.data, [f"train-{n}" for n in range(3)], rows))
    features, names, photos = matched(train, 0)
    unseen, answers, _ = matched(both_sides(bench, captioned(bench.data, ["val"], rows)), 1)
    truth = (answers == "yes").astype(int)
    return _all_heads(features, names, unseen, truth, ["no", "yes"], photos)


def _all_heads(
    x: Features, names: Array, unseen: Features, truth: Array, labels: Sequence[str], groups: Array | None
) -> Rows:
    more = {"labels": labels, "model_id": "bench", "groups": groups}
    heads = {f"{use} only": ("linear", use) for use in ("image", "text")} | {kind: (kind, "image") for kind in FUSED}
    found: Rows = []
    for name, (kind, use) in heads.items():
        if kind == "attention" and x.image_tokens is None:
            found.append([name, "no tokens"])
            continue
        head = fit(kind, x, names, use=use, **more)  # type: ignore[arg-type]
        found.append([name, f"{100 * np.mean(head.logits(unseen).argmax(1) == truth):.1f}"])
    return found


def prices(bench: Bench) -> Rows:
    """R2 of the price over 5 folds: every row is answered by the fold that did not see it."""
    items = houses(bench.data)
    features = bench.vectors(items, BOTH)
    numbers = np.array([float(str(item.target)) for item in items], np.float32)
    data = training_data(features, numbers, model_id="bench", task="regression")
    splits = split_folds(np.zeros(len(items), int), None, 5, 0)
    table = run_trial("concat", data, splits).table
    return [[row.name, *(f"{row.figures[name]:.4g}" for name in ("r2", "mae", "rmse", "spearman"))] for row in table]


def missing(bench: Bench, seeds: int) -> Rows:
    """Accuracy on groceries with every text, and without 30 % of them, trained with and without modality dropout."""
    train, val = grocery(bench.data, "train"), grocery(bench.data, "val")
    labels = sorted({str(item.target) for item in [*train, *val]})
    x, unseen = bench.vectors(train, BOTH), bench.vectors(val, BOTH)
    names, truth = ([str(item.target) for item in items] for items in (train, val))
    found: Rows = []
    for name, dropout in (("with modality dropout", 0.15), ("without", 0.0)):
        cells = []
        for seed in range(seeds):
            options = {"labels": labels, "model_id": "bench", "seed": seed, "modality_dropout": dropout}
            head = fit("concat", x, names, **options)  # type: ignore[arg-type]
            answers = [np.array(labels)[head.logits(part).argmax(1)] for part in (unseen, without_texts(unseen, seed))]
            cells.append([100 * np.mean(answer == np.array(truth)) for answer in answers])
        whole, rest = np.mean(cells, axis=0)
        found.append([name, f"{whole:.1f}", f"{rest:.1f}", f"{rest - whole:+.1f}"])
    return found


def without_texts(x: Features, seed: int) -> Features:
    """The same rows; 30 % have no text."""
    gone = np.random.default_rng(seed).random(len(x)) < MISSING
    assert x.text is not None
    return replace(x, text=np.where(gone[:, None], 0, x.text), has_text=x.has_text & ~gone)
