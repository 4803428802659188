"""An old head as the start of a new one: its labels stay, and those it lacks come from their text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array, Head


def start_of(old: Head) -> LinearHead:
    """`old`, if a fit can go on from it. Raises UsageError."""
    if not isinstance(old, LinearHead) or "text" in old.needs or not old.labels:
        raise UsageError(
            "--from goes on from a linear head on images with labels (linear, gda, coop, adapt); this is another kind"
        )
    return old


def extended(old: LinearHead, text: LinearHead) -> LinearHead:
    """`old` with a row for each label of `text` that it lacks, at the old head's scale.

    That is the text's own divided by every temperature so far, so that no label is louder than another. A fit from here
    measures its own temperature on top of it; where it can hold nothing out, that of the old head stays.
    """
    new = [row for row, label in enumerate(text.labels) if label not in old.labels]
    weight: Array = np.concatenate([old.weight, text.weight[new]])
    labels = (*old.labels, *(text.labels[row] for row in new))
    bias = np.concatenate([old.offset, np.full(len(new), old.offset.mean(), np.float32)])
    return replace(old, weight=weight, labels=labels, bias=bias, text_built=False)
