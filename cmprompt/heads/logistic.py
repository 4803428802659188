"""The convex fit behind every linear head: logistic (or robust linear) regression around an anchor.

Minimises `C * sum_i w_i loss(X_i . W^T + b + offset_i, y_i) + 1/2 ||W - anchor||^2` with a free intercept: without
anchor and offset this is scikit-learn's LogisticRegression (of two classes, for which that has one row, at 2 C).
L-BFGS runs in coordinates that the loss's curvature where it begins has made round (X' diag(h) X times one number, for
all classes at once). The heavy products stay in float32; blocks of rows go to as many threads as there are cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmprompt.encoders.devices import blas_threads, cores
from cmprompt.errors import UsageError
from cmprompt.types import Array

SMALL = 1 << 24  # multiplications in one product of all rows, below which one thread is quicker than several
ENOUGH_FOR_CURVATURE = 32  # rows for each axis
BLOCK = 2048  # rows: their logits stay in the processor's cache
MOST_BLOCKS = 64
LEVEL = 1e-5  # a step that improves the objective by a smaller part of it is the last
RIDGE = 1e-5  # of the largest curvature: above what float32 rounds, where rows are constant, repeated or of low rank
LEAST_CURVATURE = 1e-3  # of that at zero: rows that are answered already still keep the coordinates in place


@dataclass(frozen=True)
class Loss:
    """What each row costs: of (n, K) `logits` and the rows' `target`.

    `slope` gives (losses (n,), gradient (n, K)) and may overwrite the logits; `curvature` (n,) the mean second
    derivative over the outputs, or a bound of it.
    """

    target: Array  # (N,) or (N, K)
    outputs: int  # K
    slope: Callable[[Array, Array], tuple[Array, Array]]
    curvature: Callable[[Array], Array]

    def take(self, rows: Array) -> Loss:
        return replace(self, target=self.target[rows])


def softmax_loss(target: Array, outputs: int) -> Loss:
    """Cross entropy of one-of-K rows; `target` (N,) int. Raises UsageError for K = 1, where it has no curvature."""
    if outputs == 1:
        raise UsageError("there is one label only; a head needs at least two labels to tell apart")

    def slope(logits: Array, target: Array) -> tuple[Array, Array]:
        rows = np.arange(len(target))
        logits -= logits.max(1, keepdims=True)
        own = logits[rows, target]
        np.exp(logits, out=logits)
        total = logits.sum(1)
        logits /= total[:, None]
        logits[rows, target] -= 1
        return np.log(total) - own, logits

    def curvature(logits: Array) -> Array:
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean: Array = (p * (1 - p)).mean(1)
        return mean

    return Loss(target, outputs, slope, curvature)


def sigmoid_loss(target: Array) -> Loss:
    """Binary cross entropy summed over K independent labels; `target` (N, K) of 0 and 1."""

    def slope(logits: Array, target: Array) -> tuple[Array, Array]:
        losses = (np.logaddexp(0, logits) - target * logits).sum(1)
        return losses, (_sigmoid(logits) - target).astype(np.float32)

    def curvature(logits: Array) -> Array:
        p = _sigmoid(logits)
        mean: Array = (p * (1 - p)).mean(1)
        return mean

    return Loss(target, target.shape[1], slope, curvature)


def huber_loss(target: Array, delta: float) -> Loss:
    """Half the squared residual up to `delta`, linear beyond; `target` (N,) numbers. delta = inf is least squares."""

    def slope(logits: Array, target: Array) -> tuple[Array, Array]:
        residual = logits[:, 0] - target
        clipped = np.clip(residual, -delta, delta)
        return clipped * (residual - 0.5 * clipped), clipped[:, None].astype(np.float32)

    return Loss(target, 1, slope, lambda logits: np.ones(len(logits), np.float32))


def minimise(
    x: Array,
    loss: Loss,
    *,
    strength: float = 1.0,
    weights: Array | None = None,
    anchor: Array | None = None,
    offset: Array | None = None,
    start: tuple[Array, Array] | None = None,
    axes: Array | None = None,
    max_passes: int = 500,
) -> tuple[Array, Array]:
    """Weight (K, D) and bias (K,), float32.

    `x` (N, D), `strength` is scikit-learn's C, `weights` (N,) of the rows, `anchor` (K, D), `offset` (N, K) logits that
    are there already, `start` a weight and bias to begin from (of another C, say), `axes` what `span_of(x)` gave.
    """
    rows = np.ones(len(x), np.float32) if weights is None else weights.astype(np.float32)
    with blas_threads(1):
        axes = span_of(x) if axes is None else axes
        if axes is not None:
            return _in_their_span(x, axes, loss, strength, rows, anchor, offset, start, max_passes)
        centre = np.zeros((loss.outputs, x.shape[1] + 1))
        centre[:, :-1] = 0 if anchor is None else anchor
        begin = centre if start is None else np.column_stack(start).astype(np.float64)
        x = np.ascontiguousarray(x, np.float32)
        if x.size * loss.outputs < SMALL:
            full = _Fit(x, loss, strength * rows, centre, offset, map).descend(begin, max_passes)
        else:
            with ThreadPoolExecutor(cores()) as threads:
                full = _Fit(x, loss, strength * rows, centre, offset, threads.map).descend(begin, max_passes)
    return full[:, :-1].astype(np.float32), full[:, -1].astype(np.float32)


def span_of(x: Array) -> Array | None:
    """(D, N) orthonormal axes of fewer rows than axes, for several fits to the same rows; None where rows abound."""
    return np.linalg.qr(x.T)[0] if len(x) < x.shape[1] else None


def _in_their_span(
    x: Array,
    axes: Array,
    loss: Loss,
    strength: float,
    rows: Array,
    anchor: Array | None,
    offset: Array | None,
    start: tuple[Array, Array] | None,
    max_passes: int,
) -> tuple[Array, Array]:
    """The same for fewer rows than axes: the optimum leaves the anchor only along the rows, so N axes are enough."""
    centre = np.zeros((loss.outputs, x.shape[1]), np.float32) if anchor is None else anchor
    there = x @ centre.T if offset is None else x @ centre.T + offset
    first = None if start is None else ((start[0] - centre) @ axes, start[1])
    moved, bias = minimise(
        x @ axes, loss, strength=strength, weights=rows, offset=there, start=first, max_passes=max_passes
    )
    weight: Array = (centre + moved @ axes.T).astype(np.float32)
    return weight, bias


@dataclass(frozen=True)
class _Fit:
    """The objective on its rows. `weights` (N,) are C times those of the rows, `centre` (K, D + 1) the anchor and 0."""

    x: Array
    loss: Loss
    weights: Array
    centre: Array
    offset: Array | None
    each: Callable[..., Iterable[Any]]  # `map`, or that of several threads

    def descend(self, begin: Array, max_passes: int) -> Array:
        """(K, D + 1) weight and bias, by L-BFGS in units that make its first step about Newton's."""
        from scipy.linalg import solve_triangular
        from scipy.optimize import OptimizeResult, minimize

        def moved_to(flat: Array) -> Array:
            """(K, D + 1)"""
            away = solve_triangular(basis, flat.reshape(begin.shape).T, trans="T", lower=True, check_finite=False).T
            full: Array = begin + away
            return full

        def objective(flat: Array) -> tuple[float, Array]:
            value, gradient = first.pop() if first else self.value(moved_to(flat * unit))
            slope = solve_triangular(basis, gradient.T, lower=True, check_finite=False).T
            return value / unit**2, slope.ravel() / unit

        basis, last = self._basis(begin), [np.inf]

        def stop_when_level(intermediate_result: OptimizeResult) -> None:
            if last[0] - intermediate_result.fun < LEVEL * intermediate_result.fun:
                raise StopIteration
            last[0] = intermediate_result.fun

        first = [self.value(begin)]  # which L-BFGS asks for again
        unit = float(np.linalg.norm(solve_triangular(basis, first[0][1].T, lower=True, check_finite=False))) or 1.0
        options = {"maxiter": max_passes, "maxfun": 2 * max_passes, "gtol": 0.0, "ftol": 0.0}
        flat = np.zeros(begin.size)
        found = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options, callback=stop_when_level)
        return moved_to(found.x * unit)

    def value(self, full: Array) -> tuple[float, Array]:
        """The objective at (K, D + 1) weight and bias, and its gradient, in float64."""
        plane = full.astype(np.float32)
        moved = full - self.centre
        moved[:, -1] = 0  # the intercept is free
        value, gradient = 0.5 * float((moved * moved).sum()), moved
        for losses, slope in self.each(lambda rows: self._block(plane, rows), self._blocks()):
            value += losses
            gradient += slope
        return value, gradient

    def _blocks(self, step: int = 1) -> Iterable[slice]:
        """All rows, or every `step`th, block by block."""
        size = step * max(BLOCK, len(self.x) // MOST_BLOCKS)
        return (slice(start, start + size, step) for start in range(0, len(self.x), size))

    def _block(self, plane: Array, rows: slice) -> tuple[float, Array]:
        x, weights = self.x[rows], self.weights[rows]
        losses, slope = self.loss.slope(self._logits(plane, rows), self.loss.target[rows])
        slope *= weights[:, None]
        return float(losses @ weights.astype(np.float64)), np.column_stack([slope.T @ x, slope.sum(0)])

    def _logits(self, plane: Array, rows: slice) -> Array:
        """(n, K), what is there already included."""
        logits: Array = self.x[rows] @ plane[:, :-1].T + plane[:, -1]
        return logits if self.offset is None else logits + self.offset[rows]

    def _basis(self, full: Array) -> Array:
        """(D + 1, D + 1) Cholesky factor of the curvature at `full`, the mean of all classes, with a `RIDGE` where that
        has none; the last axis is the intercept."""
        from scipy.linalg import LinAlgError, cholesky

        size = self.x.shape[1]
        hessian = np.zeros((size + 1, size + 1))
        plane = full.astype(np.float32)
        step = max(1, len(self.x) // (ENOUGH_FOR_CURVATURE * (size + 1) + 1))
        for part in self.each(lambda rows: self._curvature(plane, rows), self._blocks(step)):
            hessian += part * step
        hessian[-1, -1] *= 1 + 1e-6  # a hair above singular when a column of x is constant
        hessian[np.arange(size), np.arange(size)] += 1.0
        try:
            factor: Array = cholesky(hessian, lower=True)
        except LinAlgError:
            hessian[np.diag_indices(size + 1)] += RIDGE * hessian.diagonal().max()
            factor = cholesky(hessian, lower=True)
        return factor

    def _curvature(self, plane: Array, rows: slice) -> Array:
        x, logits = self.x[rows], self._logits(plane, rows)
        here = self.loss.curvature(logits)
        least = LEAST_CURVATURE * self.loss.curvature(np.zeros_like(logits[:1]))
        bent = self.weights[rows] * np.maximum(here, least)
        wide = np.column_stack([x, np.ones(len(x), np.float32)])
        gram: Array = (wide * bent[:, None]).T @ wide
        return gram


def _sigmoid(logits: Array) -> Array:
    rows: Array = 0.5 * (1 + np.tanh(0.5 * logits))
    return rows
