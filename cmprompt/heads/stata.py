"""A head adapted to images without labels, and frozen: text-anchored Gaussians (StatA, Zanella et al., CVPR 2025).

Every class is a Gaussian with one shared diagonal covariance. Its mean stands between an anchor made from its text and
the images that seem to belong to it, nearer to these the more they are: mu_k = b_k v_k + (1 - b_k) m_k with
b_k = n_k / (n_k + anchor). A class that no image belongs to stays where its text puts it, so that nothing is assumed
about how the classes are balanced. In place of the paper's graph over the images the answer is one linear head, which
does not depend on an image's neighbours:

    logits = scale * x . t_k + trust * log N(x; mu_k, S)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmprompt import metrics
from cmprompt.encoders.batches import batches
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array, Features

ANCHOR = 10.0  # images that weigh as much as the text
TRUST = 0.01  # of the Gaussians: a vector's coordinates are far from independent, so their sum says too much
ROUNDS = 10
ENOUGH = 100  # images; with fewer, adapting loses more often than it gains
LEAST_VARIANCE = 1e-8
CELLS_AT_ONCE = 1 << 22  # of images by labels, or by their numbers: 32 MB in float64


def adapt(head: LinearHead, images: Array, *, anchor: float = ANCHOR, trust: float = TRUST) -> LinearHead:
    """`head` (zero-shot) adapted to `images` (N, D) unit rows, of which only sums are needed: some rows at a time."""
    text, n = head.weight.astype(np.float64), len(images)
    centre, square = _moments(images)
    counts, sums = _belonging(images, head.scale * text, head.offset)
    # the differences between the texts, moved to where the images are (texts and images lie apart)
    means = anchors = text + (centre - (counts / n) @ text)  # (C, D)
    for _ in range(ROUNDS):
        weight, bias = _plane(means, _variance(square, means, counts / n, sums / n), trust)
        counts, sums = _belonging(images, head.scale * text + weight, head.offset + bias)
        share = (counts / (counts + anchor))[:, None]  # (C, 1)
        means = share * sums / np.maximum(counts, 1e-9)[:, None] + (1 - share) * anchors
    weight, bias = _plane(means, _variance(square, means, counts / n, sums / n), trust)
    together = (head.weight + weight / head.scale).astype(np.float32)
    return replace(head, weight=together, bias=(head.offset + bias).astype(np.float32), text_built=False)


def to_shares(head: LinearHead, images: Array, shares: Array, *, rounds: int = 200) -> LinearHead:
    """`head` with a bias for each class, so that its answers to `images` (N, D) add up to the known `shares` (C,).

    Optimal transport to given marginals (OTTER, Shin et al. 2024), by Sinkhorn's iterations on the logits.
    """
    size = _block_rows(images, len(shares))
    parts = [head.logits(Features.of_images(x)) for x in batches(images, size)]  # (n, C) each
    wanted = np.log(np.maximum(shares / shares.sum(), 1e-6))
    bias = np.zeros(len(wanted))
    for _ in range(rounds):
        found = sum((metrics.softmax(part + bias).sum(0) for part in parts), np.zeros(len(wanted))) / len(images)
        bias += wanted - np.log(found + 1e-12)
        bias -= bias.mean()
    return replace(head, bias=(head.offset + bias).astype(np.float32), text_built=False)


def _block_rows(images: Array, n_classes: int) -> int:
    widest: int = max(images.shape[1], n_classes)
    return max(1, CELLS_AT_ONCE // widest)


def _moments(images: Array) -> tuple[Array, Array]:
    """(D,) the mean of the images, and of their squares."""
    total, square = np.zeros((2, images.shape[1]))
    for part in batches(images, _block_rows(images, 1)):
        x = part.astype(np.float64)
        total += x.sum(0)
        square += (x**2).sum(0)
    return total / len(images), square / len(images)


def _belonging(images: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """(C,) how many images belong to each class by a plane of weight (C, D) and bias (C,), and (C, D) their sums."""
    counts, sums = np.zeros(len(weight)), np.zeros(weight.shape)
    for part in batches(images, _block_rows(images, len(weight))):
        x = part.astype(np.float64)
        belongs = metrics.softmax(x @ weight.T + bias)  # (n, C)
        counts += belongs.sum(0)
        sums += belongs.T @ x
    return counts, sums


def _variance(square: Array, means: Array, shares: Array, sums: Array) -> Array:
    """(D,) of the images around the means they belong to; `shares` (C,) and `sums` (C, D) in parts of all images."""
    spread = square - 2 * (sums * means).sum(0) + (shares[:, None] * means**2).sum(0)
    return np.asarray(np.maximum(spread, LEAST_VARIANCE))


def _plane(means: Array, variance: Array, trust: float) -> tuple[Array, Array]:
    """(C, D) weight and (C,) bias of trust * log N(x; mu, S), less what is the same for every class."""
    weight = trust * means / variance
    return weight, -0.5 * (weight * means).sum(1)
