"""What the heads share whose logits are a line in the similarities."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from cmprompt.types import Array, Features


class CosineHead(ABC):
    """logits = scale * cosines + bias."""

    scale: float
    bias: Array | None  # (C,) float32

    @abstractmethod
    def cosines(self, features: Features) -> Array:
        """(N, C) raw similarities, before scale and bias."""

    def scaled(self, cosines: Array) -> Array:
        """(N, C) similarities -> (N, C) float32 logits."""
        logits: Array = np.float32(self.scale) * cosines
        return logits if self.bias is None else logits + self.bias

    def logits(self, features: Features) -> Array:
        """(N, C) float32."""
        return self.scaled(self.cosines(features))
