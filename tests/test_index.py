"""Exact nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from cmprompt.index.exact import BLOCK_QUERIES, CHUNK_ROWS, nearest, products
from cmprompt.types import Array


def unit_rows(n: int, dim: int, seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(queries: Array, matrix: Array, k: int) -> Array:
    return np.argsort(-(queries.astype(np.float64) @ matrix.astype(np.float64).T), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("n", "dim"), [(1, 8), (300, 7), (CHUNK_ROWS + 700, 16)])
def test_equals_brute_force(n: int, dim: int, dtype: str) -> None:
    matrix, queries = unit_rows(n, dim).astype(dtype), unit_rows(3, dim, seed=1)
    found = nearest(queries, matrix, 10)
    assert np.array_equal(found.rows, brute_force(queries, matrix, 10))
    assert np.allclose(
        found.scores, np.take_along_axis(queries @ matrix.astype(np.float32).T, found.rows, 1), atol=1e-6
    )


def test_halves_are_multiplied_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)][:, None].repeat(2, axis=1).copy()  # subnormals and both zeros too
    got = np.concatenate([part for _, part in products(np.array([[1, 0], [0, 1]], np.float32), finite)])
    assert np.array_equal(got, finite.astype(np.float32))


def test_equal_scores_come_in_order_of_rows() -> None:
    matrix = np.ones((2 * CHUNK_ROWS + 5, 2), np.float16)
    found = nearest(np.array([[1.0, 1.0]], np.float32), matrix, 4)
    assert found.rows.tolist() == [[0, 1, 2, 3]]
    assert found.scores.tolist() == [[2.0] * 4]


def test_a_query_may_be_a_signed_sum() -> None:
    matrix = unit_rows(5000, 32).astype(np.float16)
    query = unit_rows(3, 32, seed=5)
    mixed = (query[:1] + query[1:2] - query[2:]) * 3
    assert np.array_equal(nearest(mixed, matrix, 50).rows, brute_force(mixed, matrix, 50))


def test_more_queries_than_are_looked_at_together_are_all_answered() -> None:
    matrix, queries = unit_rows(400, 16), unit_rows(2 * BLOCK_QUERIES + 3, 16, seed=1)
    assert np.array_equal(nearest(queries, matrix, 10).rows, brute_force(queries, matrix, 10))


def test_more_neighbours_than_rows_are_all_rows() -> None:
    matrix = unit_rows(4, 8).astype(np.float16)
    assert nearest(unit_rows(2, 8, seed=3), matrix, 100).rows.shape == (2, 4)
    assert nearest(unit_rows(2, 8, seed=3), matrix[:0], 100).rows.shape == (2, 0)
