"""The linear head: what a zero-shot classifier is, and what a probe is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from cmprompt.heads.cosine import CosineHead
from cmprompt.product import Grid, on_grid, product
from cmprompt.types import Array, Features


@dataclass(frozen=True)
class LinearHead(CosineHead):
    """logits = scale * x . weight^T + bias, on unit vectors x of one modality (Radford et al. 2021, section 3.1.2)."""

    weight: Array  # (C, D) float32
    labels: tuple[str, ...]
    model_id: str
    scale: float = 1.0
    bias: Array | None = None  # (C,) float32
    needs: frozenset[str] = frozenset({"image"})
    text_built: bool = False  # the rows are text vectors, so that x . weight is a cosine between image and text
    rows_independent: ClassVar[bool] = True  # a row's logits are the same bits in any batch

    @property
    def offset(self) -> Array:
        """(C,) float32: the bias, zeros where there is none."""
        return np.zeros(len(self.weight), np.float32) if self.bias is None else self.bias

    def cosines(self, features: Features) -> Array:
        """(N, C) raw similarities, before scale and bias."""
        rows = features.text if "text" in self.needs else features.image
        assert rows is not None
        return product(rows, self._grid)

    @cached_property
    def _grid(self) -> Grid:
        return on_grid(self.weight)
