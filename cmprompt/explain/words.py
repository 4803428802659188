"""Which words speak for a label: what each of its texts adds to the label's cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cmprompt.types import Array


@dataclass(frozen=True)
class Part:
    """One text of one label. The contributions of a label's texts add up to its cosine."""

    label: str
    text: str
    cosine: float  # of the image with this text alone
    contribution: float


def contributions(
    image: Array, prompts: Mapping[str, Sequence[str]], vectors: Array, *, pool: str = "mean"
) -> dict[str, list[Part]]:
    """For each label its texts, the largest contribution first.

    `image` (D,) and `vectors` (M, D) are unit, the vectors class-major. Under `mean` the label's vector is the sum of
    its texts' over the length of that sum, so each text adds its own cosine over that length; under `scores` its own
    cosine over their number; under `max` the best text adds everything.
    """
    parts: dict[str, list[Part]] = {}
    start = 0
    for label, texts in prompts.items():
        own = vectors[start : start + len(texts)].astype(np.float64)
        start += len(texts)
        cosines = own @ image.astype(np.float64)  # (texts of this label,)
        shares = _shares(own, cosines, pool)
        found = [
            Part(label, text, float(cosine), float(share * cosine))
            for text, cosine, share in zip(texts, cosines, shares, strict=True)
        ]
        parts[label] = sorted(found, key=lambda part: -part.contribution)
    return parts


def _shares(vectors: Array, cosines: Array, pool: str) -> Array:
    """What each text's cosine counts for."""
    if pool == "max":
        best: Array = np.arange(len(cosines)) == cosines.argmax()
        return best.astype(np.float64)
    length = len(cosines) if pool == "scores" else np.linalg.norm(vectors.sum(0))
    return np.full(len(cosines), 1 / length)
