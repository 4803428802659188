"""`bilinear`: the outer product of v and l; low rank by default (Kim et al. 2017), whole as `bilinear-full`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread
from cmprompt.types import Array

RANK = 256
FULL_SIZE = 48  # of each side of the whole outer product: its 2,304 numbers are what a plane can still learn from


def _low_rank(ops: Ops, p: Params, x: Joint) -> Any:
    left, right = ops.mm(spread(x.v), p["left.weight"]), ops.mm(spread(x.l), p["right.weight"])  # (N, rank)
    return ops.concat([left * right, left, right])


def _full(ops: Ops, p: Params, x: Joint) -> Any:
    left, right = ops.mm(spread(x.v), p["left.weight"]), ops.mm(spread(x.l), p["right.weight"])  # (N, s)
    outer = left[:, :, None] * right[:, None, :]  # (N, s, s)
    return ops.concat([outer.reshape(len(outer), -1), left, right])


def _sides(size: int, d: int, rng: np.random.Generator) -> dict[str, Array]:
    """Both sides alike at first, so that their products add up to v . l."""
    shared = np.ascontiguousarray(np.linalg.qr(rng.normal(size=(d, size)))[0].T, np.float32)  # (size, d)
    return {"left.weight": shared, "right.weight": shared.copy()}


def _rank(d: int) -> int:
    return min(RANK, d)


def _full_size(d: int) -> int:
    return min(FULL_SIZE, d)


LOW_RANK = Fusion(_low_rank, width=lambda d: 3 * _rank(d), parameters=lambda d, rng: _sides(_rank(d), d, rng))
FULL = Fusion(
    _full,
    width=lambda d: _full_size(d) * (_full_size(d) + 2),
    parameters=lambda d, rng: _sides(_full_size(d), d, rng),
)
