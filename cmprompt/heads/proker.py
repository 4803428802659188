"""`proker`: a kernel correction of the text's answer, in closed form (ProKeR, Bendou et al., CVPR 2025).

f(x) = x . t + k(x, X) (K / lambda + I)^-1 (Y - X . t), k(a, b) = exp(-beta (1 - a . b)); logits = scale * f(x).
A bias b that the text's head may have counts as its own: x . t + b / scale stands for x . t. So it is
Tip-Adapter's head with the solved values as its own and the scale as its alpha.
"""

from __future__ import annotations

import numpy as np

from cmprompt.heads.tip_adapter import CacheHead
from cmprompt.heads.training import Training, choose, held_out_loss, text_prior
from cmprompt.types import Array

SETTINGS = tuple((reach, beta) for reach in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0) for beta in (1.0, 5.5))
DEFAULT = (0.03, 1.0)  # cautious; for one row a class, where nothing can be held out


def fit_proker(data: Training) -> CacheHead:
    """lambda and beta are chosen on held-out folds."""

    def score(train: Training, held: Training) -> list[Array]:
        return [held_out_loss(kernel_head(train, *setting).logits(held.features), held) for setting in SETTINGS]

    reach, beta = choose(data, SETTINGS, score, default=DEFAULT)
    data.record.update({"lambda": reach, "beta": beta})
    return kernel_head(data, reach, beta)


def kernel_head(data: Training, reach: float, beta: float) -> CacheHead:
    """The closed form at one setting; `reach` is lambda."""
    prior = text_prior(data, "proker")
    x = data.supports
    kernel = np.exp(-beta * (1.0 - (x @ x.T).astype(np.float64)))  # (N, N)
    residual = np.eye(len(data.labels))[data.targets] - x @ prior.weight.T - prior.offset / prior.scale  # (N, C)
    values = np.linalg.solve(kernel / reach + np.eye(len(data)), residual).astype(np.float32)
    return CacheHead(
        prior.weight, x, values, data.labels, data.model_id, prior.scale, prior.scale, beta, bias=prior.bias
    )
