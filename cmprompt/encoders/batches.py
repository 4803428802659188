"""Rows through a model in batches of one shape: padded, halved where memory runs out, and made unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cmprompt.errors import ItemError
from cmprompt.types import Array


def batches(inputs: Array, size: int) -> Iterator[Array]:
    """Slices of `size` rows, the last one perhaps shorter."""
    return (inputs[start : start + size] for start in range(0, len(inputs), size))


def run_in_halves(inputs: Array, run: Callable[[Array], Array], size: int) -> Array:
    """`run` on `inputs` padded to `size` rows; out of memory, on halves of it, down to one row.

    Raises ItemError("out_of_memory") where one row alone does not fit.
    """
    try:
        padding = np.zeros((size - len(inputs), *inputs.shape[1:]), inputs.dtype)
        padding[:] = inputs[:1]
        return run(np.concatenate([inputs, padding]))[: len(inputs)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if size == 1:
        raise ItemError("out_of_memory", "one item alone does not fit in memory; try --device cpu or a smaller model")
    half = -(-size // 2)
    return np.concatenate([run_in_halves(part, run, half) for part in batches(inputs, half)])


def is_out_of_memory(error: Exception) -> bool:
    """CUDA has a class for it, the CPU's allocator only a message."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "not enough memory" in text or "can't allocate" in text


def unit(rows: Array) -> Array:
    """(N, D) rows of length one; NaN where a row is not finite or has no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return np.where(np.isfinite(norms) & (norms > 0), rows / norms, np.nan).astype(np.float32)
