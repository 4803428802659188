"""The product of image and text vectors, the same bits however the rows are batched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmprompt.types import Array

_GRID = 2.0**26


@dataclass(frozen=True)
class Grid:
    """Rows (C, D) as whole numbers below 2^26 in norm, and the (C,) power of two that each row was divided by."""

    rows: Array
    powers: Array


def product(x: Array, weight: Array | Grid) -> Array:
    """(N, D) x and (C, D) weight -> (N, C) float32 dot products.

    A plain matrix product rounds each sum in an order that depends on the shape of the batch and on the number of
    threads. Here rows are scaled by powers of two to a norm below 1 and put on a grid of 2^-26: every partial sum is
    then a multiple of 2^-52 below 2 (Cauchy-Schwarz), which float64 holds exactly, so that no sum is ever rounded.
    The grid costs about 1e-8 of a cosine, as much as float32 itself. A weight used often is put on it once (`on_grid`).
    """
    left, right = on_grid(x), weight if isinstance(weight, Grid) else on_grid(weight)
    with np.errstate(invalid="ignore"):  # a row that holds NaN or infinity gives NaN, and only that row
        exact = left.rows @ right.rows.T  # (N, C) float64, whole numbers
    result: Array = np.ldexp(exact, left.powers[:, None] + right.powers[None, :] - 52).astype(np.float32)
    return result


def on_grid(rows: Array) -> Grid:
    """(C, D) rows of any length, for `product`."""
    wide = np.asarray(rows, np.float64)
    _, powers = np.frexp(np.sqrt(np.einsum("nd,nd->n", wide, wide)))  # (C,) int32
    return Grid(np.rint(np.ldexp(wide, -powers[:, None]) * _GRID), powers)
