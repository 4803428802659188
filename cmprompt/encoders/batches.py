"""Rows through a model in batches of one shape: padded, halved where memory runs out, and made unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cmprompt.errors import ItemError
from cmprompt.types import Array


def batches(inputs: Array, size: int) -> Iterator[Array]:
    """Slices of `size` rows, the last one perhaps shorter."""
    return (inputs[start : start + size] for start in range(0, len(inputs), size))


@dataclass
class Batched:
    """`run` in batches of `size` rows, the last one padded; where memory runs out, of half as many from then on."""

    run: Callable[[Array], Array]
    size: int

    def __call__(self, inputs: Array) -> Array:
        """(N, ...), N > 0 -> (N, ...). Raises ItemError("out_of_memory") where one row alone does not fit."""
        parts: list[Array] = []
        done = 0
        while done < len(inputs):
            size = self.size
            part = inputs[done : done + size]
            try:
                parts.append(self._padded(part, size))
                done += len(part)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(size)
        return np.concatenate(parts)

    def _padded(self, inputs: Array, size: int) -> Array:
        padding = np.zeros((size - len(inputs), *inputs.shape[1:]), inputs.dtype)
        padding[:] = inputs[:1]
        return self.run(np.concatenate([inputs, padding]))[: len(inputs)]

    def _halve(self, size: int) -> None:
        if size == 1:
            message = "one item alone does not fit in memory; try --device cpu or a smaller model"
            raise ItemError("out_of_memory", message)
        self.size = min(self.size, -(-size // 2))  # another thread may have been here


def is_out_of_memory(error: Exception) -> bool:
    """Libraries have classes of their own for it, and torch's allocator for processors only a message."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    return any(part in str(error).lower() for part in ("out of memory", "not enough memory", "can't allocate"))


def unit(rows: Array) -> Array:
    """(N, D) rows of length one; NaN where a row is not finite or has no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return np.where(np.isfinite(norms) & (norms > 0), rows / norms, np.nan).astype(np.float32)
