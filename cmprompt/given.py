"""What the classifier may be given for X: pictures as items, vectors as batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cmprompt.encoders.batches import unit
from cmprompt.errors import CmpromptError, UsageError
from cmprompt.types import Array, Embedded, Features, FileBytes, Frame, Item, Outcome

BLOCK = 1024  # vectors scored at once


def are_vectors(x: Any) -> bool:
    """(N, D) numbers, which need no encoder."""
    return isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind == "f"


def batches_of(rows: Array, dim: int) -> Iterator[Embedded]:
    """(N, D) vectors, made unit rows, as batches."""
    check_dim(rows, dim)
    for at in range(0, len(rows), BLOCK):
        yield batch_of(directed(rows[at : at + BLOCK], at), at)


def batch_of(rows: Array, first: int) -> Embedded:
    """(N, D) unit rows, numbered from `first`."""
    items = tuple(Item(str(first + place), None) for place in range(len(rows)))
    return Embedded(items, (Outcome(),) * len(rows), Features.of_images(rows))


def check_dim(rows: Array, dim: int) -> None:
    """Raises UsageError for (N, D) vectors of another D than `dim`."""
    if rows.shape[1] != dim:
        raise UsageError(f"vectors of {rows.shape[1]} numbers; this model's have {dim}")


def check_finite(rows: Array) -> None:
    """Raises CmpromptError for the first of (N, D) vectors that is not finite."""
    for at in range(0, len(rows), BLOCK):
        whole = np.isfinite(rows[at : at + BLOCK]).all(axis=1)
        if not whole.all():
            raise CmpromptError(f"vector {at + int(whole.argmin())} is zero or not a number")


def directed(rows: Array, first: int) -> Array:
    """(N, D) float32 rows of length 1. Raises CmpromptError, which counts from `first`, where one has no direction."""
    turned = unit(rows)
    bad = np.isnan(turned).any(axis=1)
    if bad.any():
        raise CmpromptError(f"vector {first + int(bad.argmax())} is zero or not a number")
    return turned


def scaled(rows: Array) -> Array:
    """(N, D) float32 rows of length 1; a zero row stays zero, as scikit-learn's `normalize` leaves it."""
    return np.nan_to_num(unit(rows))


def check_many(X: Any) -> None:
    """Raises UsageError for what is no sequence of pictures."""
    if isinstance(X, str | bytes) or _is_picture(X) or not (hasattr(X, "__iter__") or hasattr(X, "__getitem__")):
        raise UsageError(f"X is {_kind_of(X)}; give a list of paths or pictures, even of one")


def items_of(X: Iterable[Any]) -> Iterator[Item]:
    """What a caller may hand in, as items."""
    for place, x in enumerate(X):
        if isinstance(x, Item):
            yield x
        elif isinstance(x, str | os.PathLike):
            yield Item(os.fspath(x), FileBytes(os.fspath(x)))
        else:
            yield Item(f"X[{place}]", _source(x, place))


def _source(x: Any, place: int) -> Any:
    """A function that gives the bytes or the frame of `x`."""
    if isinstance(x, bytes):
        return lambda: x
    if hasattr(x, "getexif"):  # a PIL image
        from PIL import ImageOps

        from cmprompt.images.colour import to_rgb

        return lambda: Frame(np.asarray(to_rgb(ImageOps.exif_transpose(x))))
    if _is_picture(x):
        return lambda: Frame(x)
    usual = "paths, bytes, PIL images, (H, W, 3) uint8 arrays or (N, D) vectors"
    raise UsageError(f"X[{place}] is {_kind_of(x)}; give {usual}")


def _is_picture(x: Any) -> bool:
    """(H, W, 3) uint8"""
    return isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 3 and x.shape[2] == 3


def _kind_of(x: Any) -> str:
    """What a message calls `x`."""
    return f"an array {x.shape} of {x.dtype}" if isinstance(x, np.ndarray) else f"one {type(x).__name__}"
