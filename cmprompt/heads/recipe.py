"""How a small network is trained, and what it is before that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmprompt.heads.network import Fusion
from cmprompt.heads.training import Training
from cmprompt.types import Array

MODALITIES = ("image", "text")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. `hidden` 0 is a plane, or the MLP that the fusion names; `modality_dropout` the part of
    rows that lose each modality."""

    size: int = 512  # d of the projections, where the features are not smaller
    hidden: int = 0
    rate: float = 1e-3
    decay: float = 0.05
    dropout: float = 0.1
    modality_dropout: float = 0.15
    batch: int = 128
    epochs: int = 40
    least_steps: int = 400  # few rows are gone through more often, so that there are this many steps


def starting_point(data: Training, fusion: Fusion, recipe: Recipe) -> dict[str, Array]:
    """The parameters before training; projections start as the identity where sizes allow, so that v . l means what
    the encoder meant by it."""
    rng = np.random.default_rng(data.seed)
    outputs = len(data.labels) or 1
    sizes = {name: _width(getattr(data.features, name)) for name in MODALITIES if name in fusion.needs}
    d = min(recipe.size, *sizes.values()) if not fusion.raw else next(iter(sizes.values()))
    p: dict[str, Array] = {}
    for name, size in sizes.items():
        if not fusion.raw:
            p[f"{name}.weight"] = _projection(d, size, rng)
        p[f"{name}.missing"] = (rng.normal(size=d) / np.sqrt(d)).astype(np.float32)
        if f"{name}_tokens" in fusion.needs:
            p[f"{name}.tokens"] = _projection(d, _width(getattr(data.features, f"{name}_tokens")), rng)
    p.update(fusion.parameters(d, rng))
    width = fusion.width(d)
    if hidden := recipe.hidden or fusion.hidden:
        p["hidden.weight"] = (rng.normal(size=(hidden, width)) * np.sqrt(2 / width)).astype(np.float32)
        p["hidden.bias"] = np.zeros(hidden, np.float32)
        width = hidden
    p["out.weight"], p["out.bias"] = np.zeros((outputs, width), np.float32), np.zeros(outputs, np.float32)
    return p


def _projection(d: int, size: int, rng: np.random.Generator) -> Array:
    """(d, size): the identity, or as near to a rotation as a rectangle comes."""
    if d == size:
        return np.eye(d, dtype=np.float32)
    return np.ascontiguousarray(np.linalg.qr(rng.normal(size=(size, d)))[0].T, np.float32)


def _width(rows: Array) -> int:
    return int(rows.shape[-1])
