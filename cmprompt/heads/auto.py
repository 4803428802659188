"""`auto`: try the heads that fit the data and take the one that held-out rows like best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cmprompt.heads.calibrate import temperature_of
from cmprompt.heads.training import Training, held_out_loss
from cmprompt.registry import CLOSED_FORMS
from cmprompt.types import Head

CACHES = ("tip-adapter", "tip-adapter-f", "proker")
FUSED = ("concat", "add", "hadamard", "dot", "weighted", "bilinear")
CACHE_ROWS = 2000  # beyond this a cache of all rows is slower to ask than it is good
ONE_SPLIT_ROWS = 2000  # beyond this one held-out fold tells the heads apart


def kinds_for(data: Training) -> list[str]:
    """The heads that make sense for this data, the plainest first."""
    kinds = ["linear", "mlp"]
    if data.prior is not None and data.task == "classes" and data.use == "image":
        kinds += ["gda", *(CACHES if len(data) <= CACHE_ROWS else ())]
    if data.class_weight is not None:
        kinds = [kind for kind in kinds if kind not in CLOSED_FORMS]
    if data.features.image is not None and data.features.text is not None:
        kinds += ["linear-text", *FUSED]
    return kinds


def fit_auto(data: Training) -> Head:
    """The best of `kinds_for(data)` by held-out loss, fitted to all rows; `data.record["auto"]` keeps the table.

    Where nothing can be held out (one row for each class) that is `linear`.
    """
    from cmprompt.heads.fit import fit_training

    table = compare(data)
    best = min(table, key=lambda row: row["loss"])["kind"] if table else "linear"
    data.record["auto"], data.record["kind"] = table, best
    compared_on = data.record["chose_on"]
    head = fit_training(best, data)
    data.record["chose_on"] = max(data.record["chose_on"], compared_on)
    return head


def compare(data: Training) -> list[dict[str, Any]]:
    """Held-out loss of each kind over the same folds, at its own best temperature, and its accuracy."""
    folds = data.folds(3)
    folds = folds[:1] if len(data) > ONE_SPLIT_ROWS else folds
    data.record["chose_on"] = sum(len(held) for _, held in folds)
    return [{"kind": kind, **_held_out(kind, data, folds)} for kind in kinds_for(data)] if folds else []


def _held_out(kind: str, data: Training, folds: list[tuple[Any, Any]]) -> dict[str, float]:
    from cmprompt.heads.fit import fit_training

    held = [data.take(rows) for _, rows in folds]
    heads = [fit_training(kind, data.take(train)) for train, _ in folds]
    rows = np.concatenate([head.logits(part.seen_by(head)) for head, part in zip(heads, held, strict=True)])
    targets = np.concatenate([part.targets for part in held])
    held_rows = replace(data, targets=targets)
    if data.task != "classes":
        return {"loss": float(held_out_loss(rows, held_rows).mean())}
    cooled = rows / temperature_of(rows, targets)
    return {
        "loss": float(held_out_loss(cooled, held_rows).mean()),
        "accuracy": float((rows.argmax(1) == targets).mean()),
    }
