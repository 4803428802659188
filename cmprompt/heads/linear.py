"""The linear head: what a zero-shot classifier is, and what a probe is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmprompt.types import Array, Features


@dataclass(frozen=True)
class LinearHead:
    """logits = scale * x . weight^T + bias, on unit image vectors x (semantics: Radford et al. 2021, section 3.1.2)."""

    weight: Array  # (C, D) float32
    labels: tuple[str, ...]
    model_id: str
    scale: float = 1.0
    bias: Array | None = None  # (C,) float32
    needs: frozenset[str] = frozenset({"image"})

    def cosines(self, features: Features) -> Array:
        """(N, C) raw similarities, before scale and bias."""
        assert features.image is not None
        product: Array = features.image.astype(np.float32) @ self.weight.T  # (N, C)
        return product

    def logits(self, features: Features) -> Array:
        """(N, C) float32."""
        scaled: Array = np.float32(self.scale) * self.cosines(features)  # (N, C)
        return scaled if self.bias is None else scaled + self.bias
