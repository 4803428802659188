"""Small sets of labelled vectors on which a head either works or does not."""

from __future__ import annotations

import numpy as np

from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array, Features

LABELS = ("apple", "bread", "cheese")


def unit(rows: Array) -> Array:
    """Unit rows, float32."""
    scaled: Array = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


def blobs(n: int = 90, dim: int = 16, noise: float = 0.6, seed: int = 0) -> tuple[Features, Array, LinearHead]:
    """Image vectors around three directions, their label names, and a text prior that points roughly the same way."""
    rng = np.random.default_rng(seed)
    centres = unit(np.random.default_rng(7).normal(size=(3, dim)))
    target = np.arange(n) % 3
    rows = unit(centres[target] + noise * rng.normal(size=(n, dim)) / np.sqrt(dim) * 2)
    text = unit(centres + 0.8 * np.random.default_rng(8).normal(size=centres.shape) / np.sqrt(dim))
    return Features.of_images(rows), np.array(LABELS)[target], LinearHead(text, LABELS, "fake", 10.0, text_built=True)


def matches(n: int = 600, dim: int = 16, seed: int = 0) -> tuple[Features, Array]:
    """Image and text that agree or do not: neither side alone says anything about the label."""
    rng = np.random.default_rng(seed)
    image = unit(rng.normal(size=(n, dim)))
    agree = np.arange(n) % 2 == 0
    text = unit(np.where(agree[:, None], image, unit(rng.normal(size=(n, dim)))) + 0.2 * rng.normal(size=(n, dim)) / 4)
    return both(image, text), np.where(agree, "yes", "no")


def halves(n: int = 600, dim: int = 16, seed: int = 0) -> tuple[Features, Array]:
    """Four labels, one bit of which stands in the image and the other in the text."""
    rng = np.random.default_rng(seed)
    ways = unit(np.random.default_rng(9).normal(size=(2, 2, dim)))
    a, b = rng.integers(0, 2, n), rng.integers(0, 2, n)
    image, text = (unit(way[bit] + 0.15 * rng.normal(size=(n, dim))) for way, bit in zip(ways, (a, b), strict=True))
    return both(image, text), np.array(["00", "01", "10", "11"])[2 * a + b]


def both(image: Array, text: Array) -> Features:
    """Rows with an image and a text each."""
    here = np.ones(len(image), bool)
    return Features(image, text, here, here)


def answers(logits: Array, labels: tuple[str, ...]) -> Array:
    """(N,) the winning names."""
    return np.array(labels)[logits.argmax(1)]
