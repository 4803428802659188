"""`proker`: a kernel correction of the text's answer, in closed form (ProKeR, Bendou et al., CVPR 2025).

f(x) = x . t + k(x, X) (K / lambda + I)^-1 (Y - X . t), k(a, b) = exp(-beta (1 - a . b)); logits = scale * f(x).
A bias b that the text's head may have counts as its own: x . t + b / scale stands for x . t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from cmprompt.heads.product import Grid, on_grid, product
from cmprompt.heads.training import Training, choose, held_out_loss, text_prior
from cmprompt.types import Array, Features

SETTINGS = tuple((reach, beta) for reach in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0) for beta in (1.0, 5.5))
DEFAULT = (0.03, 1.0)  # cautious; for one row a class, where nothing can be held out


@dataclass(frozen=True)
class KernelHead:
    """A zero-shot head with a kernel correction around its labelled rows."""

    weight: Array  # (C, D)
    keys: Array  # (M, D)
    values: Array  # (M, C), (K / lambda + I)^-1 (Y - X . t - b / scale)
    labels: tuple[str, ...]
    model_id: str
    scale: float
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
        rows = self.scale * (product(features.image, text) + product(near, values))
        rows = rows if self.bias is None else rows + self.bias
        return (rows / self.temperature).astype(np.float32)

    @cached_property
    def _grids(self) -> tuple[Grid, Grid, Grid]:
        return on_grid(self.weight), on_grid(self.keys), on_grid(self.values.T)


def fit_proker(data: Training) -> KernelHead:
    """lambda and beta are chosen on held-out folds."""

    def score(train: Training, held: Training) -> list[Array]:
        return [held_out_loss(kernel_head(train, *setting).logits(held.features), held) for setting in SETTINGS]

    reach, beta = choose(data, SETTINGS, score, default=DEFAULT)
    data.record.update({"lambda": reach, "beta": beta})
    return kernel_head(data, reach, beta)


def kernel_head(data: Training, reach: float, beta: float) -> KernelHead:
    """The closed form at one setting; `reach` is lambda."""
    prior = text_prior(data, "proker")
    x = data.supports
    kernel = np.exp(-beta * (1.0 - (x @ x.T).astype(np.float64)))  # (N, N)
    residual = np.eye(len(data.labels))[data.targets] - x @ prior.weight.T - prior.offset / prior.scale  # (N, C)
    values = np.linalg.solve(kernel / reach + np.eye(len(data)), residual).astype(np.float32)
    return KernelHead(prior.weight, x, values, data.labels, data.model_id, prior.scale, beta, bias=prior.bias)
