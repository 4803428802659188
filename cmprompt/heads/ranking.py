"""The best labels of many vectors, without ever holding the scores of them all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from cmprompt.encoders.devices import cores
from cmprompt.store.halves import BLOCK_ROWS, DOUBT, exact_products, largest, multiplier
from cmprompt.types import Array


@dataclass(frozen=True)
class Ranked:
    """For each of N rows its K best columns, best first, and their products; equal ones in the columns' order."""

    columns: Array  # (N, K) int64
    products: Array  # (N, K) float32


def best_labels(vectors: Array, weight: Array, k: int, *, threads: int | None = None) -> Ranked:
    """The `k` largest of each row's products with `weight` (C, D); `vectors` (N, D) fp16 or fp32, mapped or not.

    They must be finite: a half that is not turns into a number. float32 finds the columns; where it cannot tell two of
    them apart float64 decides, so that a row has the same columns in any company. Memory is constant beside the result.
    """
    n, k = len(vectors), min(k, len(weight))
    ranked = Ranked(np.empty((n, k), np.int64), np.empty((n, k), np.float32))
    threads = threads or cores()
    ends = np.linspace(0, -(-n // BLOCK_ROWS), threads + 1).astype(int) * BLOCK_ROWS
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, "cmprompt-rank") as pool:
        list(pool.map(lambda first, last: _rank(vectors, weight, ranked, first, last), ends[:-1], ends[1:]))
    return ranked


def _rank(vectors: Array, weight: Array, ranked: Ranked, first: int, last: int) -> None:
    """Fill in rows `first` to `last`, a block at a time."""
    weight = np.ascontiguousarray(weight, np.float32)
    multiply, longest = multiplier(weight, vectors), float(np.linalg.norm(weight, axis=1).max(initial=0))
    block = np.empty((BLOCK_ROWS, len(weight)), np.float32)
    for start in range(first, min(last, len(vectors)), BLOCK_ROWS):
        rows = vectors[start : start + BLOCK_ROWS]
        scores, place = block[: len(rows)], slice(start, start + len(rows))
        multiply(rows, scores)
        columns, products = ranked.columns[place], ranked.products[place]
        _take_best(scores, columns, products)
        gaps = _smallest_gaps(scores, products)
        bound = DOUBT * longest
        for row in np.flatnonzero(gaps <= bound * largest(rows) * rows.shape[1] ** 0.5).tolist():
            wide = rows[row].astype(np.float64)
            doubt = bound * float(np.linalg.norm(wide))
            if gaps[row] <= doubt:
                _decide(wide, weight, scores[row], doubt, columns[row], products[row])


def _take_best(scores: Array, columns: Array, products: Array) -> None:
    """(n, C) scores -> (n, K) columns and products. K passes over what the cache holds beat a partition of C."""
    rows = np.arange(len(scores))
    for place in range(columns.shape[1]):
        best = scores.argmax(axis=1)
        columns[:, place], products[:, place] = best, scores[rows, best]
        scores[rows, best] = -np.inf


def _smallest_gaps(left: Array, products: Array) -> Array:
    """(n,) between neighbours of the (n, K) `products`, and from the last of them to the best of those `left`."""
    behind = left.max(axis=1, keepdims=True, initial=-np.inf)
    gaps: Array = -np.diff(np.concatenate([products, behind], axis=1)).max(axis=1, initial=-np.inf)
    return gaps


def _decide(row: Array, weight: Array, left: Array, doubt: float, columns: Array, products: Array) -> None:
    """Order one row (D,) float64 over by float64 products of the columns that float32 may have taken for another."""
    near = np.flatnonzero(left >= products[-1] - doubt)
    among = np.sort(np.concatenate([columns, near]))
    exact = exact_products(row, weight, among)
    order = np.argsort(-exact, kind="stable")[: len(columns)]
    columns[:], products[:] = among[order], exact[order]
