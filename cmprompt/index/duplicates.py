"""Rows that are nearly the same."""

from __future__ import annotations

import numpy as np

from cmprompt.types import Array

BLOCK_ROWS = 1024


def groups(matrix: Array, threshold: float) -> list[list[int]]:
    """Rows of (N, D) unit vectors that are joined by a chain of cosines of at least `threshold`, two or more at a time.

    Rows rise within a group, and groups by their first rows. N * N / 2 products: a minute for 100,000 rows.
    """
    first = np.arange(len(matrix))  # (N,) a smaller row of the same group, or the row itself
    blocks = range(0, len(matrix), BLOCK_ROWS)
    for start in blocks:
        rows = matrix[start : start + BLOCK_ROWS].astype(np.float32)
        for other in blocks[start // BLOCK_ROWS :]:
            cosines = rows @ matrix[other : other + BLOCK_ROWS].astype(np.float32).T
            for left, right in np.argwhere(cosines >= threshold):
                _join(first, start + int(left), other + int(right))
    found: dict[int, list[int]] = {}
    for row in range(len(matrix)):
        found.setdefault(_root(first, row), []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def _root(first: Array, row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = int(first[row])
    return row


def _join(first: Array, left: int, right: int) -> None:
    low, high = sorted((_root(first, left), _root(first, right)))
    first[high] = low
