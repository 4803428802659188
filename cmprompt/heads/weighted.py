"""`weighted`: g * v + (1 - g) * l with a learned gate g; one number for each row, or one for each of its channels.

The gate reads both modalities (channel attention); where one is missing it is closed to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cmprompt.heads.network import Fusion, Joint, Ops, Params, spread
from cmprompt.types import Array


def _fuse(ops: Ops, p: Params, x: Joint) -> Any:
    drive = ops.mm(spread(ops.concat([x.v, x.l])), p["gate.weight"]) + p["gate.bias"]  # (N, 1) or (N, d)
    gate = 1 / (1 + ops.exp(-drive))
    gate = ops.where(x.has_v, ops.where(x.has_l, gate, gate * 0 + 1), gate * 0)
    return spread(gate * x.v + (1 - gate) * x.l)


def _gate(channels: int, d: int) -> dict[str, Array]:
    return {"gate.weight": np.zeros((channels, 2 * d), np.float32), "gate.bias": np.zeros(channels, np.float32)}


CHANNELS = Fusion(_fuse, width=lambda d: d, parameters=lambda d, rng: _gate(d, d))
NUMBER = Fusion(_fuse, width=lambda d: d, parameters=lambda d, rng: _gate(1, d))
