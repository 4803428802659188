"""The head that scores a label by its most similar text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from cmprompt.heads.cosine import CosineHead
from cmprompt.product import Grid, on_grid, product
from cmprompt.types import Array, Features


@dataclass(frozen=True)
class MaxPoolHead(CosineHead):
    """logits = scale * max over the label's texts of x . text + bias, on unit image vectors x."""

    texts: Array  # (M, D) float32 unit rows, class-major
    starts: Array  # (C,) the row at which each label's texts begin
    labels: tuple[str, ...]
    model_id: str
    scale: float = 1.0
    bias: Array | None = None  # (C,) float32
    needs: frozenset[str] = frozenset({"image"})
    text_built: bool = True
    rows_independent: ClassVar[bool] = True  # a row's logits are the same bits in any batch

    def cosines(self, features: Features) -> Array:
        """(N, C) similarity to each label's best text."""
        assert features.image is not None
        best: Array = np.maximum.reduceat(product(features.image, self._grid), self.starts, axis=1)
        return best

    @cached_property
    def _grid(self) -> Grid:
        return on_grid(self.texts)
