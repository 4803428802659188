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
from cmprompt.heads.linear import LinearHead
from cmprompt.types import Array

ANCHOR = 10.0  # images that weigh as much as the text
TRUST = 0.01  # of the Gaussians: a vector's coordinates are far from independent, so their sum says too much
ROUNDS = 10
ENOUGH = 100  # images; with fewer, adapting loses more often than it gains
LEAST_VARIANCE = 1e-8


def adapt(head: LinearHead, images: Array, *, anchor: float = ANCHOR, trust: float = TRUST) -> LinearHead:
    """`head` (zero-shot) adapted to `images` (N, D) unit rows."""
    x = images.astype(np.float64)
    text_logits = head.scale * (x @ head.weight.T.astype(np.float64))
    text_logits = text_logits if head.bias is None else text_logits + head.bias
    belongs = metrics.softmax(text_logits)  # (N, C)
    anchors = _anchors(head.weight.astype(np.float64), x, belongs)
    weight, bias = _plane(anchors, _variance(x, anchors, belongs), trust)
    for _ in range(ROUNDS):
        belongs = metrics.softmax(text_logits + x @ weight.T + bias)
        counts = belongs.sum(0)[:, None]  # (C, 1)
        seen = (belongs.T @ x) / np.maximum(counts, 1e-9)
        share = counts / (counts + anchor)
        means = share * seen + (1 - share) * anchors
        weight, bias = _plane(means, _variance(x, means, belongs), trust)
    together = (head.weight + weight / head.scale).astype(np.float32)
    own = np.zeros(len(weight)) if head.bias is None else head.bias
    return replace(head, weight=together, bias=(own + bias).astype(np.float32), text_built=False)


def to_shares(head: LinearHead, images: Array, shares: Array, *, rounds: int = 200) -> LinearHead:
    """`head` with a bias for each class, so that its answers to `images` (N, D) add up to the known `shares` (C,).

    Optimal transport to given marginals (OTTER, Shin et al. 2024), by Sinkhorn's iterations on the logits.
    """
    from cmprompt.types import Features

    logits = head.logits(Features.of_images(images)).astype(np.float64)
    wanted = np.log(np.maximum(shares / shares.sum(), 1e-6))
    bias = np.zeros(len(wanted))
    for _ in range(rounds):
        bias += wanted - np.log(metrics.softmax(logits + bias).mean(0) + 1e-12)
        bias -= bias.mean()
    own = np.zeros(len(wanted)) if head.bias is None else head.bias
    return replace(head, bias=(own + bias).astype(np.float32), text_built=False)


def _anchors(text: Array, x: Array, belongs: Array) -> Array:
    """(C, D) the differences between the texts, moved to where the images are (texts and images lie apart)."""
    return np.asarray(text + (x.mean(0) - belongs.mean(0) @ text))


def _variance(x: Array, means: Array, belongs: Array) -> Array:
    """(D,) of the images around the means they belong to."""
    sums, shares = belongs.T @ x / len(x), belongs.mean(0)
    spread = (x**2).mean(0) - 2 * (sums * means).sum(0) + (shares[:, None] * means**2).sum(0)
    return np.asarray(np.maximum(spread, LEAST_VARIANCE))


def _plane(means: Array, variance: Array, trust: float) -> tuple[Array, Array]:
    """(C, D) weight and (C,) bias of trust * log N(x; mu, S), less what is the same for every class."""
    weight = trust * means / variance
    return weight, -0.5 * (weight * means).sum(1)
