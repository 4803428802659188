"""Image and text together: the tables 3, 4 and 5 of `heads.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from harness import Line
from labelled_sets import BOTH, Bench, captioned, grocery, houses, matched

from cmprompt.errors import UsageError
from cmprompt.heads.fit import fit, training_data
from cmprompt.heads.training import split_folds
from cmprompt.heads.trial import run_trial
from cmprompt.types import Array, Features, Item

FUSED = ("concat", "weighted", "attention", "add", "hadamard", "dot", "bilinear")
INTERACTING = ("hadamard", "dot", "bilinear", "attention")  # that can tell whether two things belong together
TOKENS = BOTH | {"image_tokens", "text_tokens"}
FIGURES = ("r2", "mae", "rmse", "spearman")
MISSING = 0.3  # of the texts at test time
Rows = list[list[object]]
Accuracies = dict[str, float | None]  # in per cent; None: this model has no tokens


def both_sides(bench: Bench, items: Sequence[Item]) -> Features:
    """Vectors of both sides, and patch and word tokens where this model gives them."""
    try:
        return bench.vectors(items, TOKENS)
    except UsageError:  # this model has no tokens
        return bench.vectors(items, BOTH)


def groceries(bench: Bench) -> tuple[Rows, list[Line]]:
    """Accuracy on `val`; the coarse class is the text, the fine one the label."""
    train, val = grocery(bench.data, "train"), grocery(bench.data, "val")
    names = np.array([str(item.target) for item in train])
    labels = sorted({str(item.target) for item in [*train, *val]})
    truth = np.array([labels.index(str(item.target)) for item in val])
    found = _all_heads(both_sides(bench, train), names, both_sides(bench, val), truth, labels, None)
    gains = [_gain("groceries", "concat", found, control, 5.0) for control in ("image only", "text only")]
    return _cells(found), gains


def matches(bench: Bench, rows: int) -> tuple[Rows, list[Line]]:
    """Does the caption belong to the photo? Accuracy on the photos of `val`."""
    train = both_sides(bench, captioned(bench.data, [f"train-{n}" for n in range(3)], rows))
    features, names, photos = matched(train, 0)
    unseen, answers, _ = matched(both_sides(bench, captioned(bench.data, ["val"], rows)), 1)
    truth = (answers == "yes").astype(int)
    found = _all_heads(features, names, unseen, truth, ["no", "yes"], photos)
    best = max(("image only", "text only"), key=lambda name: found[name] or 0.0)
    gains = [_gain("match", kind, found, best, 0.0) for kind in INTERACTING]
    off = abs((found[best] or 0.0) - 50)
    return _cells(found), [*gains, Line(f"match: {best}", "50 %", off, 3.0, None, suffix=" points", below=True)]


def _gain(where: str, kind: str, found: Accuracies, control: str, floor: float) -> Line:
    value = (found[kind] or 0.0) - (found[control] or 0.0)
    return Line(f"{where}: {kind}", control, value, floor, None, found[kind], found[control], "%", " points")


def _cells(found: Accuracies) -> Rows:
    return [[name, "no tokens" if value is None else f"{value:.1f}"] for name, value in found.items()]


def _all_heads(
    x: Features, names: Array, unseen: Features, truth: Array, labels: Sequence[str], groups: Array | None
) -> Accuracies:
    more = {"labels": labels, "model_id": "bench", "groups": groups}
    heads = {f"{use} only": ("linear", use) for use in ("image", "text")} | {kind: (kind, "image") for kind in FUSED}
    found: Accuracies = {}
    for name, (kind, use) in heads.items():
        if kind == "attention" and x.image_tokens is None:
            found[name] = None
            continue
        head = fit(kind, x, names, use=use, **more)  # type: ignore[arg-type]
        found[name] = 100 * float(np.mean(head.logits(unseen).argmax(1) == truth))
    return found


def prices(bench: Bench) -> tuple[Rows, list[Line]]:
    """R2 of the price over 5 folds: every row is answered by the fold that did not see it."""
    items = houses(bench.data)
    features = bench.vectors(items, BOTH)
    numbers = np.array([float(str(item.target)) for item in items], np.float32)
    data = training_data(features, numbers, model_id="bench", task="regression")
    splits = split_folds(np.zeros(len(items), int), None, 5, 0)
    table = run_trial("concat", data, splits).table
    r2 = {row.name: row.figures["r2"] for row in table}
    best = max(("image only", "text only"), key=r2.__getitem__)
    rows: Rows = [[row.name, *(f"{row.figures[name]:.4g}" for name in FIGURES)] for row in table]
    return rows, [
        Line("houses: R2 of concat", best, r2["concat"] - r2[best], 0.0, None, r2["concat"], r2[best], "", "")
    ]


def missing(bench: Bench, seeds: int) -> tuple[Rows, list[Line]]:
    """Accuracy on groceries with every text, and without 30 % of them, trained with and without modality dropout."""
    train, val = grocery(bench.data, "train"), grocery(bench.data, "val")
    labels = sorted({str(item.target) for item in [*train, *val]})
    x, unseen = bench.vectors(train, BOTH), bench.vectors(val, BOTH)
    names, truth = ([str(item.target) for item in items] for items in (train, val))
    found: Rows = []
    lost: list[float] = []
    for name, dropout in (("with modality dropout", 0.15), ("without", 0.0)):
        cells = []
        for seed in range(seeds):
            options = {"labels": labels, "model_id": "bench", "seed": seed, "modality_dropout": dropout}
            head = fit("concat", x, names, **options)  # type: ignore[arg-type]
            answers = [np.array(labels)[head.logits(part).argmax(1)] for part in (unseen, without_texts(unseen, seed))]
            cells.append([100 * np.mean(answer == np.array(truth)) for answer in answers])
        whole, rest = np.mean(cells, axis=0)
        found.append([name, f"{whole:.1f}", f"{rest:.1f}", f"{rest - whole:+.1f}"])
        lost.append(float(whole - rest))
    saved = lost[1] - lost[0]
    return found, [
        Line("points lost by missing texts", "no dropout", saved, 0.0, None, *lost, "points", " points fewer")
    ]


def without_texts(x: Features, seed: int) -> Features:
    """The same rows; 30 % have no text."""
    gone = np.random.default_rng(seed).random(len(x)) < MISSING
    assert x.text is not None
    return replace(x, text=np.where(gone[:, None], 0, x.text), has_text=x.has_text & ~gone)
