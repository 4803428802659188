"""Exact nearest neighbours: one pass over stored vectors for every few hundred queries, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cmprompt.encoders.devices import cores
from cmprompt.store.halves import BLOCK_ROWS, DOUBT, exact_products, multiplier
from cmprompt.types import Array

CHUNK_ROWS = 32_768  # rows whose scores are looked at together
BLOCK_QUERIES = 256  # with so many queries at most: 32 MB of scores


@dataclass(frozen=True)
class Neighbours:
    """The K best rows of each of Q queries, best first; equal scores by row."""

    rows: Array  # (Q, K) int64
    scores: Array  # (Q, K) float64


def nearest(queries: Array, matrix: Array, k: int, *, threads: int | None = None) -> Neighbours:
    """The `k` rows of `matrix` (N, D), fp16 or fp32, perhaps memory-mapped, with the largest product with each query.

    `queries` (Q, D) need not be unit vectors. float32 finds the candidates, float64 decides, so that the answer does
    not depend on the order of sums. `threads`: by default one for each core.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    k, threads = min(k, len(matrix)), threads or cores()
    bounds = np.linspace(0, len(matrix), threads + 1).astype(int)
    with ThreadPoolExecutor(threads, "cmprompt-search") as pool:
        parts = list(pool.map(lambda ends: _search(queries, matrix, k, *ends), pairwise(bounds)))
    best = [_merged(parts_of_query, k) for parts_of_query in zip(*parts, strict=True)]
    return Neighbours(np.stack([rows for rows, _ in best]), np.stack([scores for _, scores in best]))


def products(queries: Array, matrix: Array) -> Iterator[tuple[int, Array]]:
    """(first row, (n, Q) float32 products) for the rows of `matrix` (N, D), a chunk at a time. `queries` (Q, D)."""
    multiply = multiplier(queries, matrix)
    for start in range(0, len(matrix), CHUNK_ROWS):
        chunk = matrix[start : start + CHUNK_ROWS]
        scores = np.empty((len(chunk), len(queries)), np.float32)
        for row in range(0, len(chunk), BLOCK_ROWS):
            multiply(chunk[row : row + BLOCK_ROWS], scores[row : row + BLOCK_ROWS])
        yield start, scores


_Best = tuple[Array, Array]  # rows (K,) int64 and their scores (K,) float64, best first


def _search(queries: Array, matrix: Array, k: int, first: int, last: int) -> list[_Best]:
    """The best of rows `first` to `last` for each query."""
    blocks = (queries[start : start + BLOCK_QUERIES] for start in range(0, len(queries), BLOCK_QUERIES))
    return [best for block in blocks for best in _search_block(block, matrix, k, first, last)]


def _search_block(queries: Array, matrix: Array, k: int, first: int, last: int) -> list[_Best]:
    best: list[_Best] = [(np.zeros(0, np.int64), np.zeros(0))] * len(queries)
    doubts = DOUBT * np.linalg.norm(queries, axis=1)
    for start, scores in products(queries, matrix[first:last]):
        for q, query in enumerate(queries):
            places = _candidates(scores[:, q], best[q][1], k, float(doubts[q]))
            rows = places + (first + start)
            best[q] = _merged((best[q], (rows, exact_products(query, matrix, rows))), k)
    return best


def _candidates(scores: Array, held: Array, k: int, doubt: float) -> Array:
    """Places in `scores` (n,) that may be among the k best, when `held` (<= k,) are the best so far."""
    limit = float(held[-1]) if len(held) == k else -np.inf
    if k < len(scores):
        limit = max(limit, float(np.partition(scores, len(scores) - k)[len(scores) - k]))
    return np.flatnonzero(scores >= limit - 2 * doubt)


def _merged(parts: Sequence[_Best], k: int) -> _Best:
    rows = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts])
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]
