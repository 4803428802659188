"""`gda`: Gaussian discriminant analysis beside the text, in closed form (Wang et al., ICLR 2024).

W = S^-1 mu, b = -1/2 mu' S^-1 mu with one shrunk covariance S for all classes;
logits = scale * x . t + alpha (x . W + b). Both halves are linear in x, so the answer is a linear head.
"""

from __future__ import annotations

import numpy as np

from cmprompt.heads.linear import LinearHead
from cmprompt.heads.probe import class_sums
from cmprompt.heads.training import Training, choose, held_out_loss, text_prior
from cmprompt.types import Array

ALPHAS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DEFAULT_ALPHA = 0.0  # with one row for each class there is no spread within a class to measure: the text alone


def fit_gda(data: Training) -> LinearHead:
    """The linear head of text and Gaussians together, their balance chosen on held-out folds."""
    prior = text_prior(data, "gda")

    def score(train: Training, held: Training) -> list[Array]:
        text, (weight, bias) = prior.logits(held.features), gaussian_plane(train)
        return [held_out_loss(text + alpha * (held.x @ weight.T + bias), held) for alpha in ALPHAS]

    alpha = choose(data, ALPHAS, score, default=DEFAULT_ALPHA)
    data.record["alpha"] = alpha
    weight, bias = gaussian_plane(data)
    together = prior.weight + np.float32(alpha / prior.scale) * weight
    return LinearHead(together, data.labels, data.model_id, prior.scale, prior.offset + np.float32(alpha) * bias)


def gaussian_plane(data: Training) -> tuple[Array, Array]:
    """(C, D) weight and (C,) bias of the Gaussians; a class without rows stands at the mean of all.

    The precision is D * ((N - 1) cov + tr(cov) I)^-1, the shrinkage of Kubokawa and Srivastava (2008) that the paper
    uses, which holds with fewer rows than axes.
    """
    x = data.supports
    sums, counts = class_sums(x, data.targets, len(data.labels))
    everywhere = x.mean(0)
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], everywhere)  # (C, D)
    centred = (x - means[data.targets]).astype(np.float64)
    n, d = centred.shape
    scatter = centred.T @ centred
    trace = max(float(np.trace(scatter)) / max(n - 1, 1), 1e-8)
    weight = d * np.linalg.solve(scatter + trace * np.eye(d), (means - everywhere).T.astype(np.float64)).T  # (C, D)
    bias = -0.5 * (weight * (means + everywhere)).sum(1)
    return weight.astype(np.float32), bias.astype(np.float32)
