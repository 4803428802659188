"""The best labels of many vectors, without ever holding the scores of them all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from cmprompt.encoders.devices import cores
from cmprompt.halves import BLOCK_ROWS, multiplier
from cmprompt.types import Array


@dataclass(frozen=True)
class Ranked:
    """For each of N rows its K best columns, best first, and their products; equal ones in the columns' order."""

    columns: Array  # (N, K) int64
    products: Array  # (N, K) float32


def best_labels(vectors: Array, weight: Array, k: int, *, threads: int | None = None) -> Ranked:
    """The `k` largest of each row's products with `weight` (C, D); `vectors` (N, D) fp16 or fp32, mapped or not.

    They must be finite: a half that is not turns into a number. Rows go through products of one fixed shape, the last
    of them padded, each on one thread: a product of another shape may round differently, and a row must give the same
    bits in any company. Memory is constant beside the result.
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
    multiply = multiplier(np.ascontiguousarray(weight, np.float32), vectors)
    scores = np.empty((BLOCK_ROWS, len(weight)), np.float32)
    for start in range(first, last, BLOCK_ROWS):
        rows = vectors[start : start + BLOCK_ROWS]
        place = slice(start, start + len(rows))
        multiply(_padded(rows), scores)
        _take_best(scores[: len(rows)], ranked.columns[place], ranked.products[place])


def _padded(rows: Array) -> Array:
    if len(rows) == BLOCK_ROWS:
        return rows
    return np.concatenate([rows, np.zeros((BLOCK_ROWS - len(rows), rows.shape[1]), rows.dtype)])


def _take_best(scores: Array, columns: Array, products: Array) -> None:
    """(n, C) scores -> (n, K) columns and products. K passes over what the cache holds beat a partition of C."""
    rows = np.arange(len(scores))
    for place in range(columns.shape[1]):
        best = scores.argmax(axis=1)
        columns[:, place], products[:, place] = best, scores[rows, best]
        scores[rows, best] = -np.inf
