"""`tip-adapter` and `tip-adapter-f`: a cache of labelled rows beside the text (Zhang et al., ECCV 2022).

logits = scale * x . W^T + b + alpha * exp(-beta (1 - x . K^T)) . V, keys K (M, D) unit rows, values V (M, C) one-hot,
b the bias that the text's head may have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from cmprompt.encoders.devices import torch_threads
from cmprompt.heads.adamw import AdamW
from cmprompt.heads.training import Training, choose, held_out_loss, text_prior
from cmprompt.product import Grid, on_grid, product
from cmprompt.types import Array, Features

SETTINGS = tuple((alpha, beta) for alpha in (0.1, 0.3, 1.0, 3.0) for beta in (1.0, 5.5))  # the boldest last
PUBLISHED = (1.0, 5.5)  # the paper's own, where nothing can be held out
RATE, EPSILON, EPOCHS, BATCH = 1e-3, 1e-4, 20, 256  # of the paper's AdamW, for -F
TRAINED = "tip-adapter-f"
FEW_KEYS = 1000  # products with so few are quickest on one thread


@dataclass(frozen=True)
class CacheHead:
    """A zero-shot head with a cache of labelled rows beside it."""

    weight: Array  # (C, D)
    keys: Array  # (M, D)
    values: Array  # (M, C): one-hot, or what a kernel solved for (proker.py)
    labels: tuple[str, ...]
    model_id: str
    scale: float
    alpha: float
    beta: float
    temperature: float = 1.0
    bias: Array | None = None  # (C,) float32
    needs: frozenset[str] = frozenset({"image"})
    rows_independent: ClassVar[bool] = True  # a row's logits are the same bits in any batch

    def logits(self, features: Features) -> Array:
        """(N, C) float32."""
        assert features.image is not None
        text, keys, values = self._grids
        near = np.exp(self.beta * (product(features.image, keys) - 1.0))  # (N, M)
        rows = self.scale * product(features.image, text) + self.alpha * product(near, values)
        rows = rows if self.bias is None else rows + self.bias
        return (rows / self.temperature).astype(np.float32)

    @cached_property
    def _grids(self) -> tuple[Grid, Grid, Grid]:
        return on_grid(self.weight), on_grid(self.keys), on_grid(self.values.T)


def fit_tip_adapter(data: Training) -> CacheHead:
    """The cache as it is: nothing is trained; alpha and beta are chosen on held-out folds."""
    return _tuned(data, cache)


def fit_tip_adapter_f(data: Training) -> CacheHead:
    """The cache with its keys trained by the paper's recipe; alpha and beta are chosen on held-out folds."""
    return _tuned(data, trained_cache)


def cache(data: Training, kind: str = "tip-adapter") -> CacheHead:
    """Every row a key, the mean of its views where it has some, at the published setting.

    Raises UsageError, which names the `kind` asked for, where there is no text to start from.
    """
    prior = text_prior(data, kind)
    values = np.eye(len(data.labels), dtype=np.float32)[data.targets]
    return CacheHead(
        prior.weight, data.supports, values, data.labels, data.model_id, prior.scale, *PUBLISHED, bias=prior.bias
    )


def trained_cache(data: Training) -> CacheHead:
    """Keys moved by AdamW with a cosine rate on cross entropy; everything else frozen."""
    with torch_threads(1 if len(data) <= FEW_KEYS else None):
        return _trained(data)


def _trained(data: Training) -> CacheHead:
    import torch

    head, prior = cache(data, TRAINED), text_prior(data, TRAINED)
    text_logits = torch.from_numpy(prior.logits(data.features))
    x, target = torch.from_numpy(data.x), torch.from_numpy(data.targets)
    weights = torch.from_numpy(data.row_weights)
    keys = torch.nn.Parameter(torch.from_numpy(head.keys.copy()))
    values = torch.from_numpy(head.values)
    shuffle = torch.Generator().manual_seed(data.seed)
    optimiser = AdamW([{"params": [keys]}], RATE, eps=EPSILON)
    each = -(-len(data) // BATCH)
    for epoch in range(EPOCHS):
        for turn, rows in enumerate(torch.split(torch.randperm(len(data), generator=shuffle), BATCH)):
            optimiser.rate = RATE * (1 + np.cos(np.pi * (epoch + turn / each) / EPOCHS)) / 2
            near = torch.exp(head.beta * (x[rows] @ keys.T - 1.0))
            logits = text_logits[rows] + head.alpha * (near @ values)
            losses = torch.nn.functional.cross_entropy(logits, target[rows], reduction="none")
            optimiser.zero_grad()
            torch.autograd.backward((losses * weights[rows]).mean())
            optimiser.step()
    return replace(head, keys=keys.detach().numpy())


def _tuned(data: Training, build: Callable[[Training], CacheHead]) -> CacheHead:
    def score(train: Training, held: Training) -> list[Array]:
        head = build(train)
        return [
            held_out_loss(replace(head, alpha=alpha, beta=beta).logits(held.features), held) for alpha, beta in SETTINGS
        ]

    alpha, beta = choose(data, SETTINGS, score, default=PUBLISHED)
    data.record.update(alpha=alpha, beta=beta)
    return replace(build(data), alpha=alpha, beta=beta)
