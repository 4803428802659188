"""An old head as the start of a new one: its labels stay, and those it lacks come from their text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array, Head


def extended(old: Head, text: LinearHead) -> LinearHead:
    """`old` with a row for each label of `text` that it lacks. Raises UsageError for heads that are not linear."""
    if not isinstance(old, LinearHead) or "text" in old.needs:
        raise UsageError("--from goes on from a linear head on images (linear, gda, coop, adapt); this is another kind")
    new = [row for row, label in enumerate(text.labels) if label not in old.labels]
    bias = np.zeros(len(old.labels), np.float32) if old.bias is None else old.bias
    weight: Array = np.concatenate([old.weight, text.weight[new] * np.float32(text.scale / old.scale)])
    labels = (*old.labels, *(text.labels[row] for row in new))
    bias = np.concatenate([bias, np.full(len(new), bias.mean(), np.float32)])
    return replace(old, weight=weight, labels=labels, bias=bias, text_built=False)
