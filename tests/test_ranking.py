"""The best labels of many vectors: right, the same in any company, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cmprompt.heads.ranking import best_labels
from cmprompt.types import Array


def unit_rows(n: int, dim: int, dtype: str = "float32", seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def test_a_small_one_by_hand() -> None:
    ranked = best_labels(np.array([[1, 0], [0.6, 0.8]], np.float32), np.array([[0, 1], [1, 0], [-1, 0]], np.float32), 2)
    assert ranked.columns.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(ranked.products, [[1, 0], [0.8, 0.6]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_best_are_those_of_one_product_in_float64(dtype: str) -> None:
    vectors, weight = unit_rows(1000, 64, dtype), unit_rows(37, 64, seed=1)
    full = vectors.astype(np.float64) @ weight.T.astype(np.float64)
    ranked = best_labels(vectors, weight, 5, threads=3)
    best = -np.sort(-full, axis=1)[:, :5]
    np.testing.assert_allclose(ranked.products, best, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(full, ranked.columns, axis=1), best, atol=1e-6)


@pytest.mark.parametrize("labels", [1, 2, 10, 1000])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_row_has_the_same_labels_in_any_company(dtype: str, labels: int) -> None:
    vectors, weight = unit_rows(700, 512, dtype), unit_rows(labels, 512, seed=1)
    whole = best_labels(vectors, weight, 5, threads=1)
    for some in (slice(0, 1), slice(3, 600), slice(None, None, -1), slice(1, None, 7)):
        part = best_labels(np.ascontiguousarray(vectors[some]), weight, 5, threads=2)
        assert np.array_equal(part.columns, whole.columns[some])
        np.testing.assert_allclose(part.products, whole.products[some], atol=1e-6)


@pytest.mark.parametrize("length", [1e-3, 1, 100])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_labels_that_singles_cannot_tell_apart_are_those_of_doubles(dtype: str, length: float) -> None:
    vectors, near = (length * unit_rows(400, 512)).astype(dtype), unit_rows(30, 512, seed=1)
    weight = np.repeat(near, 20, axis=0)
    weight += np.random.default_rng(2).normal(scale=1e-8, size=weight.shape).astype(np.float32)
    wide = weight.astype(np.float64)
    truth = np.stack([(wide * row).sum(axis=1) for row in vectors.astype(np.float64)])
    assert np.array_equal(best_labels(vectors, weight, 25).columns, np.argsort(-truth, axis=1, kind="stable")[:, :25])


def test_equal_labels_come_in_their_order() -> None:
    ranked = best_labels(unit_rows(3, 8), np.repeat(unit_rows(1, 8, seed=1), 4, axis=0), 9)
    assert ranked.columns.tolist() == [[0, 1, 2, 3]] * 3


def test_memory_beside_the_result_does_not_grow_with_the_rows() -> None:
    def peak(n: int) -> int:
        vectors, weight = unit_rows(n, 16, "float16"), unit_rows(500, 16, seed=1)
        tracemalloc.start()
        best_labels(vectors, weight, 1, threads=1)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used - n * 12

    assert peak(20_000) < 1.1 * peak(1_000)


def test_nothing_in_nothing_out() -> None:
    assert best_labels(unit_rows(0, 8), unit_rows(3, 8), 2).columns.shape == (0, 2)
