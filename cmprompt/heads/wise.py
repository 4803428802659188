"""WiSE-FT for linear heads: the straight line between zero-shot and fine-tuned (Wortsman et al., CVPR 2022).

theta = (1 - a) * theta_zero_shot + a * theta_fine_tuned, theta the weight and the bias as they act on the logits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array


def wise(before: LinearHead, after: LinearHead, a: float = 0.5) -> LinearHead:
    """`before` at a = 0, `after` at a = 1. Raises UsageError unless both stand for the same labels and model."""
    if (before.labels, before.model_id) != (after.labels, after.model_id):
        raise UsageError("--wise mixes two linear heads with the same labels and the same model; these differ")
    if not 0.0 <= a <= 1.0:
        raise UsageError(f"--wise {a}: a number from 0 (zero-shot) to 1 (fine-tuned), or auto")
    scale = after.scale
    weight = (1 - a) * (before.scale / scale) * before.weight + a * after.weight  # (C, D)
    return replace(after, weight=weight.astype(np.float32), bias=_between(before.offset, after.offset, a))


def _between(low: Array, high: Array, a: float) -> Array:
    mixed: Array = ((1 - a) * low + a * high).astype(np.float32)
    return mixed
