"""How much of the exact answer an approximate index finds."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from cmprompt.index.collections import Collection, Kind
from cmprompt.types import Array

NEIGHBOURS = 10
QUERIES = 100
ALONE = 7  # of them are timed


@dataclass(frozen=True)
class Recall:
    """The share of the exact `k` best that is found, over `queries` queries like `asked`; ms for one asked alone."""

    share: float
    k: int
    queries: int
    asked: Kind
    exact_ms: float
    approximate_ms: float


def recall(collection: Collection, kind: Kind, *, k: int = NEIGHBOURS, queries: int = QUERIES) -> Recall:
    """Ask with vectors of the other kind where there are any, as a search by words does, else with rows of its own.

    Raises UsageError where there is no approximate index.
    """
    others: Kind = "texts" if kind == "images" else "images"
    asked = others if collection.count(others) else kind
    vectors = _spread(collection.matrix(asked), queries)  # (Q, D)
    near = collection.nearest(kind, vectors, k, approximate=True).rows  # (Q, k)
    exact = collection.nearest(kind, vectors, k).rows
    found = [len(np.intersect1d(*rows)) / len(rows[0]) for rows in zip(exact, near, strict=True)]
    times = (_ms(collection, kind, vectors[:ALONE], k, approximate=approximate) for approximate in (False, True))
    return Recall(float(np.mean(found)), exact.shape[1], len(vectors), asked, *times)


def _ms(collection: Collection, kind: Kind, vectors: Array, k: int, *, approximate: bool) -> float:
    """The median of some queries, each asked by itself; what is only opened once is open by now."""
    times = []
    for vector in vectors:
        started = perf_counter()
        collection.nearest(kind, vector[None], k, approximate=approximate)
        times.append(1000 * (perf_counter() - started))
    return float(np.median(times))


def _spread(matrix: Array, count: int) -> Array:
    """(at most `count`, D) rows from all over the matrix, as float32."""
    places = np.unique(np.linspace(0, len(matrix) - 1, min(count, len(matrix))).astype(int))
    rows: Array = matrix[places].astype(np.float32)
    return rows
