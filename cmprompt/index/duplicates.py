"""Rows that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cmprompt.encoders.batches import unit
from cmprompt.types import Array

BLOCK_ROWS = 1024
ROUNDING = 1e-6  # of a cosine in float32: equal rows must reach a threshold of 1


def groups(matrix: Array, threshold: float) -> list[list[int]]:
    """Rows of (N, D) vectors that are joined by a chain of cosines of at least `threshold`, two or more at a time.

    Rows rise within a group, and groups by their first rows. N * N / 2 products: a minute for 100,000 rows.
    """
    every = np.arange(len(matrix))
    first = every.copy()  # (N,) a smaller row of the same group, or the row itself
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(matrix), BLOCK_ROWS)]
    for place, block in enumerate(blocks):
        rows = unit(matrix[block])
        for other in blocks[place:]:
            cosines = rows @ unit(matrix[other]).T
            for left, right in _links(cosines >= threshold - ROUNDING, every[block], every[other]):
                _join(first, left, right)
    found: dict[int, list[int]] = {}
    for row in range(len(matrix)):
        found.setdefault(_root(first, row), []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def cosines_to_first(rows: Array) -> Array:
    """(n,) float32: of each of the (n, D) rows with the first."""
    exact = unit(rows)  # rounded to fp16, rows are up to a thousandth off
    cosines: Array = exact @ exact[0]
    return cosines


def _links(matches: Array, rows: Array, columns: Array) -> Iterator[tuple[int, int]]:
    """The fewest pairs that join all of `rows` (n,) and `columns` (m,) that the (n, m) `matches` join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = np.nonzero(matches)
    nodes, count = np.concatenate([rows, columns]), len(rows) + len(columns)
    graph = coo_array((np.ones(len(left), bool), (left, len(rows) + right)), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    _, first, place = np.unique(part, return_index=True, return_inverse=True)
    joined = np.flatnonzero(first[place] != np.arange(count))
    return zip(nodes[first[place[joined]]].tolist(), nodes[joined].tolist(), strict=True)


def _root(first: Array, row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = int(first[row])
    return row


def _join(first: Array, left: int, right: int) -> None:
    low, high = sorted((_root(first, left), _root(first, right)))
    first[high] = low
