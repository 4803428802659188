"""How well a model's two sides fit for these labels: figures of image vectors and label texts alone.

`images` (N, D) and `texts` (C, D) are unit rows, `target` (N,) the class of each image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cmprompt.types import Array

BLOCK = 1024  # rows whose distances to all are held at once


@dataclass(frozen=True)
class Alignment:
    """Figures by name; for each class its cosines and recall; (C, C) cosines between the texts."""

    figures: dict[str, float]
    own: Array  # (C,) mean cosine of a class's images to its text, NaN without images
    other: Array  # (C,) their mean cosine to the nearest other text
    recall: Array  # (C,) the part of them that lies nearest to its own text
    support: Array  # (C,) images
    between: Array  # (C, C)


def measure(images: Array, texts: Array, target: Array) -> Alignment:
    """Everything that `evaluate --task alignment` reports."""
    cosines = images.astype(np.float64) @ texts.T.astype(np.float64)  # (N, C)
    own = cosines[np.arange(len(target)), target]
    rest = cosines.copy()
    rest[np.arange(len(target)), target] = -np.inf
    other = rest.max(1)
    support = np.bincount(target, minlength=len(texts))

    def mean(values: Array) -> Array:
        sums = np.bincount(target, weights=values, minlength=len(texts))
        return np.where(support > 0, sums / np.maximum(support, 1), np.nan)

    figures = {
        "alignment": alignment(images, texts[target]),
        "uniformity of images": uniformity(images),
        "uniformity of texts": uniformity(texts),
        "modality gap": modality_gap(images, texts),
        "cosine to the own text": float(own.mean()),
        "cosine to the nearest other text": float(other.mean()),
        "nearest to the own text": float((own > other).mean()),
    }
    return Alignment(figures, mean(own), mean(other), mean(own > other), support, texts @ texts.T)


def alignment(x: Array, y: Array) -> float:
    """Mean squared distance of (N, D) positive pairs, 0 to 4, less is better (Wang and Isola 2020, eq. 1, alpha 2)."""
    return float(((x.astype(np.float64) - y) ** 2).sum(1).mean())


def uniformity(x: Array) -> float:
    """log of the mean of exp(-2 |a - b|^2) over all pairs of (N, D) rows (Wang and Isola 2020, eq. 2, t = 2).

    0 where all rows are one, about -4 where they cover the sphere; NaN for fewer than two rows.
    """
    n, rows = len(x), x.astype(np.float64)
    if n < 2:
        return float("nan")
    total = -float(n)  # a row with itself is exp(0), and no pair
    for start in range(0, n, BLOCK):
        total += float(np.exp(-4 + 4 * (rows[start : start + BLOCK] @ rows.T)).sum())
    return float(np.log(total / (n * (n - 1))))


def modality_gap(images: Array, texts: Array) -> float:
    """Distance between the means of the two sides (Liang et al., NeurIPS 2022, section 2)."""
    return float(np.linalg.norm(images.astype(np.float64).mean(0) - texts.astype(np.float64).mean(0)))


def nearest_texts(found: Alignment, most: int = 10) -> Iterator[tuple[int, int, float]]:
    """(class, class, cosine) of the pairs of labels whose texts lie nearest to each other, nearest first."""
    rows, columns = np.triu_indices(len(found.between), 1)
    order = np.argsort(-found.between[rows, columns], kind="stable")[:most]
    for pair in order.tolist():
        yield int(rows[pair]), int(columns[pair]), float(found.between[rows[pair], columns[pair]])


def plane(images: Array, texts: Array) -> tuple[Array, Array]:
    """(N, 2) and (C, 2): both sides on the two main axes of all of them, for a picture of the gap."""
    both = np.concatenate([images, texts]).astype(np.float64)
    centred = both - both.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    flat = centred @ axes[:, :-3:-1]
    return flat[: len(images)], flat[len(images) :]
