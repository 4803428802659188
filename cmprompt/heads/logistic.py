"""The convex fit behind every linear head: logistic (or robust linear) regression around an anchor.

Minimises `C * sum_i w_i loss(X_i . W^T + b + offset_i, y_i) + 1/2 ||W - anchor||^2` with a free intercept: without
anchor and offset this is scikit-learn's LogisticRegression. L-BFGS runs in coordinates that the loss's curvature at
zero has made round (X'X times one number, for all classes at once), and the heavy products stay in float32: it takes
about ten passes over the data where plain L-BFGS takes dozens to hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cmprompt.types import Array

SMALL = 1 << 24  # multiplications in one product of all rows


@dataclass(frozen=True)
class Loss:
    """`slope(logits (N, K)) -> (losses (N,), gradient (N, K))` may overwrite its input; `curvature` is that at zero."""

    slope: Callable[[Array], tuple[Array, Array]]
    outputs: int  # K
    curvature: float


def softmax_loss(target: Array, outputs: int) -> Loss:
    """Cross entropy of one-of-K rows; `target` (N,) int."""
    rows = np.arange(len(target))

    def slope(logits: Array) -> tuple[Array, Array]:
        logits -= logits.max(1, keepdims=True)
        own = logits[rows, target]
        np.exp(logits, out=logits)
        total = logits.sum(1)
        logits /= total[:, None]
        logits[rows, target] -= 1
        return np.log(total) - own, logits

    return Loss(slope, outputs, (1 - 1 / outputs) / outputs)


def sigmoid_loss(target: Array) -> Loss:
    """Binary cross entropy summed over K independent labels; `target` (N, K) of 0 and 1."""

    def slope(logits: Array) -> tuple[Array, Array]:
        losses = (np.logaddexp(0, logits) - target * logits).sum(1)
        return losses, (0.5 * (1 + np.tanh(0.5 * logits)) - target).astype(np.float32)

    return Loss(slope, target.shape[1], 0.25)


def huber_loss(target: Array, delta: float) -> Loss:
    """Half the squared residual up to `delta`, linear beyond; `target` (N,) numbers. delta = inf is least squares."""

    def slope(logits: Array) -> tuple[Array, Array]:
        residual = logits[:, 0] - target
        clipped = np.clip(residual, -delta, delta)
        return clipped * (residual - 0.5 * clipped), clipped[:, None].astype(np.float32)

    return Loss(slope, 1, 1.0)


def minimise(
    x: Array,
    loss: Loss,
    *,
    strength: float = 1.0,
    weights: Array | None = None,
    anchor: Array | None = None,
    offset: Array | None = None,
    start: tuple[Array, Array] | None = None,
    max_passes: int = 500,
) -> tuple[Array, Array]:
    """Weight (K, D) and bias (K,), float32.

    `x` (N, D), `strength` is scikit-learn's C, `weights` (N,) of the rows, `anchor` (K, D), `offset` (N, K) logits that
    are there already, `start` a weight and bias to begin from (of another C, say).
    """
    solve = _in_their_span if len(x) < x.shape[1] else _descend
    with _blas().limit(limits=1 if x.size * loss.outputs < SMALL else None, user_api="blas"):
        return solve(x, loss, strength, weights, anchor, offset, start, max_passes)


@cache
def _blas() -> Any:
    """The thread pools of the linear algebra: several threads on a small product cost more than they save."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _descend(
    x: Array,
    loss: Loss,
    strength: float,
    weights: Array | None,
    anchor: Array | None,
    offset: Array | None,
    start: tuple[Array, Array] | None,
    max_passes: int,
) -> tuple[Array, Array]:
    from scipy.linalg import solve_triangular
    from scipy.optimize import OptimizeResult, minimize

    x = np.ascontiguousarray(x, np.float32)
    rows = np.ones(len(x), np.float32) if weights is None else weights.astype(np.float32)
    basis = _rounding_basis(x, rows, strength * loss.curvature)
    total = strength * float(rows.sum())
    centre = np.zeros((loss.outputs, x.shape[1] + 1))
    centre[:, :-1] = 0 if anchor is None else anchor

    def unrolled(flat: Array) -> Array:
        moved: Array = solve_triangular(basis, flat.reshape(loss.outputs, -1).T, trans="T", lower=True).T
        return moved

    def objective(flat: Array) -> tuple[float, Array]:
        moved = unrolled(flat)  # (K, D + 1) away from the centre
        full = (moved + centre).astype(np.float32)
        logits = x @ full[:, :-1].T + full[:, -1]  # (N, K)
        losses, slope = loss.slope(logits if offset is None else logits + offset)
        slope *= rows[:, None]
        gradient = strength * np.column_stack([slope.T @ x, slope.sum(0)]).astype(np.float64)
        gradient[:, :-1] += moved[:, :-1]
        value = strength * float(losses @ rows.astype(np.float64)) + 0.5 * float((moved[:, :-1] ** 2).sum())
        return value / total, solve_triangular(basis, gradient.T, lower=True).T.ravel() / total

    last = [np.inf]

    def stop_when_level(intermediate_result: OptimizeResult) -> None:
        if last[0] - intermediate_result.fun < 1e-6 * intermediate_result.fun:  # about what float32 can tell apart
            raise StopIteration
        last[0] = intermediate_result.fun

    begin = np.zeros_like(centre) if start is None else np.column_stack(start) - centre
    options = {"maxiter": max_passes, "maxfun": 2 * max_passes, "gtol": 0.0, "ftol": 0.0}
    flat = (begin @ basis).ravel()
    found = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options, callback=stop_when_level)
    best = unrolled(found.x) + centre
    return best[:, :-1].astype(np.float32), best[:, -1].astype(np.float32)


def _in_their_span(
    x: Array,
    loss: Loss,
    strength: float,
    weights: Array | None,
    anchor: Array | None,
    offset: Array | None,
    start: tuple[Array, Array] | None,
    max_passes: int,
) -> tuple[Array, Array]:
    """The same for fewer rows than axes: the optimum leaves the anchor only along the rows, so N axes are enough."""
    axes = np.linalg.qr(x.T)[0]  # (D, N)
    centre = np.zeros((loss.outputs, x.shape[1]), np.float32) if anchor is None else anchor
    there = x @ centre.T if offset is None else x @ centre.T + offset
    first = None if start is None else ((start[0] - centre) @ axes, start[1])
    moved, bias = _descend(x @ axes, loss, strength, weights, None, there, first, max_passes)
    return (centre + moved @ axes.T).astype(np.float32), bias


def _rounding_basis(x: Array, rows: Array, curvature: float) -> Array:
    """(D + 1, D + 1) Cholesky factor of the objective's curvature for one class; the last axis is the intercept."""
    from scipy.linalg import cholesky

    scaled = x * np.sqrt(rows)[:, None]
    size = x.shape[1]
    hessian = np.empty((size + 1, size + 1))
    hessian[:-1, :-1] = scaled.T @ scaled
    hessian[-1, :-1] = hessian[:-1, -1] = rows @ x
    hessian[-1, -1] = rows.sum() * (1 + 1e-6)  # a hair above singular when a column of x is constant
    hessian *= curvature
    hessian[np.arange(size), np.arange(size)] += 1.0
    factor: Array = cholesky(hessian, lower=True)
    return factor
