"""Raw image features in units of their spread, for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cmprompt.types import Array, Features


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of each channel; the network's first plane takes them back after training."""

    mean: Array  # (D,)
    deviation: Array  # (D,)

    @staticmethod
    def of(features: Features) -> Scaling | None:
        """From the rows that have an image; None where none has."""
        if features.image is None or not features.has_image.any():
            return None
        rows = features.image[features.has_image]
        deviation = rows.std(0)
        least = 0.1 * float(np.sqrt((deviation**2).mean())) or 1.0  # a channel that hardly moves is mostly noise
        return Scaling(rows.mean(0), np.maximum(deviation, least))

    def done(self, rows: Any) -> Any:
        """(N, D) of either kind, scaled."""
        if isinstance(rows, np.ndarray):
            return (rows - self.mean) / self.deviation
        import torch

        return (rows - torch.from_numpy(self.mean)) / torch.from_numpy(self.deviation)

    def undone(self, params: dict[str, Array]) -> dict[str, Array]:
        """The same network for rows that are not scaled."""
        name, size = "hidden" if "hidden.weight" in params else "out", len(self.mean)
        weight, bias = params[f"{name}.weight"].copy(), params[f"{name}.bias"]
        weight[:, :size] /= self.deviation
        found = {**params, f"{name}.weight": weight, f"{name}.bias": bias - weight[:, :size] @ self.mean}
        found["image.missing"] = params["image.missing"] * self.deviation + self.mean
        return found
