"""Approximate nearest neighbours by LanceDB, the extra `[index]`, for collections that outgrow the memory.

    STORE/collections/NAME/images.lance   the vectors once more, in partitions, eight bits a number

LanceDB names candidates from the partitions nearest to the query; products with the collection's own vectors choose
among them. So a score is always exact, and all that can go wrong is that a neighbour was not among the candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cmprompt.errors import StoreError, UsageError
from cmprompt.index.exact import Neighbours
from cmprompt.store.halves import exact_products
from cmprompt.types import Array

ROWS_AT_ONCE = 8192
FEWEST_ROWS = 4096  # below, LanceDB looks at every row: exact, and as quick
PARTITION_ROWS = 1000
PROBED = 0.7  # of the partitions: texts lie apart from pictures, so that nearness to one says little; and at least:
FEWEST_PROBED = 20
CANDIDATES = 10  # for each neighbour wanted, since eight bits misplace a few
ROUNDS = 15  # of k-means; more change little
SAMPLE = 64  # rows for each partition that k-means sees


def is_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("lancedb") is not None


def require() -> None:
    """Raises UsageError where the extra is not installed."""
    if not is_installed():
        raise UsageError("an approximate index needs an extra: pip install 'cmprompt[index]'")


def build(folder: Path, kind: str, matrix: Array) -> None:
    """Write (N, D) unit rows as a table `kind` in `folder`, and an index over it. Raises UsageError, StoreError."""
    import pyarrow as pa

    vector = pa.list_(pa.from_numpy_dtype(matrix.dtype), matrix.shape[1])
    schema = pa.schema({"row": pa.int64(), "vector": vector})
    with _database(folder) as database:
        table = database.create_table(kind, _batches(matrix, schema), schema=schema)
        if len(matrix) >= FEWEST_ROWS:
            table.create_index("vector", config=_partitioned(len(matrix)))


def nearest(queries: Array, matrix: Array, k: int, *, folder: Path, kind: str) -> Neighbours:
    """About the `k` rows of `matrix` (N, D) with the largest product with each of `queries` (Q, D).

    `matrix` is what the table was built of. Raises UsageError without the extra, StoreError where the table is damaged.
    """
    k = min(k, len(matrix))
    with _database(folder) as database:
        table = database.open_table(kind)
        best = [_best(table, query, matrix, k) for query in queries.astype(np.float32)]
        return Neighbours(np.stack([rows for rows, _ in best]), np.stack([scores for _, scores in best]))


def _best(table: Any, query: Array, matrix: Array, k: int) -> tuple[Array, Array]:
    """(k,) rows and their products, best first; equal ones by row."""
    partitions = -(-len(matrix) // PARTITION_ROWS)
    asked = table.search(query / max(float(np.linalg.norm(query)), 1e-12), query_type="vector").limit(k * CANDIDATES)
    asked = asked.nprobes(max(FEWEST_PROBED, round(PROBED * partitions))).select(["row", "_distance"])
    rows = asked.to_arrow()["row"].to_numpy()
    scores = exact_products(query, matrix, rows)
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _partitioned(n: int) -> Any:
    """Of unit rows the nearest by distance are those with the largest product."""
    from lancedb.index import IvfSq

    partitions = -(-n // PARTITION_ROWS)
    return IvfSq(distance_type="l2", num_partitions=partitions, max_iterations=ROUNDS, sample_rate=SAMPLE)


def _batches(matrix: Array, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for start in range(0, len(matrix), ROWS_AT_ONCE):
        part = matrix[start : start + ROWS_AT_ONCE]
        places = pa.array(np.arange(start, start + len(part)))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), matrix.shape[1])
        yield pa.record_batch([places, vectors], schema=schema)


@contextmanager
def _database(folder: Path) -> Iterator[Any]:
    """The tables in `folder`. LanceDB raises no exceptions of its own kind for those that cannot be used; those of
    another matrix name rows that this one does not have."""
    require()
    import lancedb

    try:
        yield lancedb.connect(folder)
    except (ValueError, RuntimeError, OSError, IndexError) as error:
        why = str(error).partition("\n")[0][:200]
        raise StoreError(
            f"the approximate index in {folder} cannot be used ({why}); build the collection again"
        ) from error
