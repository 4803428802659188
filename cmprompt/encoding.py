"""A batch through the model: whatever goes wrong there concerns the rows it concerns, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.encoders.batches import is_out_of_memory
from cmprompt.encoders.devices import cores
from cmprompt.errors import CmpromptError, ItemError, ModelError
from cmprompt.types import Array, Encoder, Outcome

if TYPE_CHECKING:
    from cmprompt.store import Store
    from cmprompt.store.segments import DType

NORM_TOLERANCE = 0.05  # a "unit" row further off than this is not one
RAW = "raw"  # the part of a store key that says: these rows are not of length one
TEXTS_AT_ONCE = 4096
TEXTS_PER_PART = 64  # fewer are not worth another thread
TEXTS_REMEMBERED = 8192
NUMBERS_REMEMBERED = 1 << 24  # 64 MB
Spread = Callable[[Callable[[Sequence[str]], Array], Iterable[Sequence[str]]], Iterable[Array]]


@dataclass
class Encoded:
    """(N, D) float32 `rows`, zero where `failures` names what happened; `fits` rows at once where N were too many."""

    rows: Array
    failures: dict[int, Outcome] = field(default_factory=dict)
    fits: int | None = None
    cause: Exception | None = None
    seconds: float = 0.0


def encode_images(encoder: Encoder, pixels: Sequence[Array], *, proven: bool = True) -> Encoded:
    """N times (3, H, W) uint8 through the encoder; a batch that it cannot take is split to find the images at fault.

    Raises ModelError where all of several images fail on a model that is not yet `proven` to work.
    """
    started = perf_counter()
    encoded = Encoded(np.zeros((len(pixels), encoder.dim), np.float32))
    _encode_part(encoder, np.stack(pixels), 0, encoded)
    if not proven and len(encoded.failures) == len(pixels) > 1 and encoded.cause:
        raise ModelError(f"the model {encoder.model_id} fails on every image: {encoded.cause}") from encoded.cause
    for place in np.flatnonzero(~are_usable(encoded.rows, encoder.store_key)):
        encoded.failures.setdefault(int(place), Outcome("nan", "the model makes no usable vector of this image"))
    encoded.rows[list(encoded.failures)] = 0
    encoded.rows = rounded(encoded.rows, encoder)
    encoded.seconds = perf_counter() - started
    return encoded


def _encode_part(encoder: Encoder, pixels: Array, start: int, encoded: Encoded) -> None:
    try:
        encoded.rows[start : start + len(pixels)] = encoder.encode_images(pixels)
        return
    except Exception as error:
        if isinstance(error, CmpromptError) and not isinstance(error, ItemError):
            raise
        outcome = _outcome(error)
        if outcome.status == "unreadable":
            encoded.cause = error
    half = len(pixels) // 2
    if half == 0:
        encoded.failures[start] = outcome
        return
    if outcome.status == "out_of_memory":
        encoded.fits = min(half, encoded.fits or half)
    _encode_part(encoder, pixels[:half], start, encoded)
    _encode_part(encoder, pixels[half:], start + half, encoded)


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, ItemError):
        return Outcome(error.status, str(error))
    if is_out_of_memory(error):
        return Outcome("out_of_memory", "this image alone does not fit in memory; try --device cpu or a smaller model")
    return Outcome("unreadable", f"the model fails on this image: {error}")


class Texts:
    """The texts of a run to vectors, each encoded once: remembered, else stored, else encoded.

    `spread` is `map`, or one that calls the encoder from several threads at once.
    """

    def __init__(self, encoder: Encoder, store: Store | None, spread: Spread = map) -> None:
        self.encoder = encoder
        self.store = store
        self.spread = spread
        self.encoded = 0
        self._memory: dict[str, Array] = {}

    @property
    def dim(self) -> int:
        """D of the texts."""
        return int(getattr(self.encoder, "text_dim", self.encoder.dim))

    def rows(self, texts: Sequence[str], ahead: Iterable[str] = ()) -> Array:
        """(M, D) float32, unit rows but for those that are NaN: the model makes nothing of that text.

        `ahead`: texts that will be asked for soon, encoded with those that are new, as many as can be remembered.
        """
        known, most = self._memory, most_remembered(TEXTS_REMEMBERED, self.dim)
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            soon = (text for text in dict.fromkeys(ahead) if text not in known and text not in new)
            new += islice(soon, max(0, most - len(new)))
            if len(known) + len(new) > most:
                known = {text: known[text] for text in dict.fromkeys(texts) if text in known}
            known = {**known, **dict(zip(new, self._rows_of(new), strict=True))}
            self._memory = known if len(known) <= most else {}
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = known[text]
        return rows

    def _rows_of(self, texts: list[str]) -> Array:
        rows = np.zeros((len(texts), self.dim), np.float32)
        missing = np.arange(len(texts))
        key = f"{self.encoder.store_key}/text"
        hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        if self.store and texts:
            found = self.store.lookup(key, hashes)
            if found.found.any():  # else the store does not know D yet
                rows[found.found] = found.vectors[found.found]
            missing = np.flatnonzero(~found.found)
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            part = missing[start : start + TEXTS_AT_ONCE]
            encoded = self._encode([texts[place] for place in part])
            self.encoded += len(part)
            good = are_usable(encoded, self.encoder.store_key)
            rows[part] = np.where(good[:, None], rounded(encoded, self.encoder), np.nan)
            if self.store and good.any():
                kept = part[good]
                self.store.put(key, [hashes[place] for place in kept], rows[kept], dtype=store_dtype(self.encoder))
        return rows

    def _encode(self, texts: list[str]) -> Array:
        """(M, D). Texts of like length go together, and to each stream as many."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        parts = max(1, min(streams_of(self.encoder), len(texts) // TEXTS_PER_PART))
        encoded = self.spread(self.encoder.encode_texts, [[texts[i] for i in order[n::parts]] for n in range(parts)])
        rows = np.zeros((len(texts), self.dim), np.float32)
        for n, part in enumerate(encoded):
            rows[order[n::parts]] = part
        return rows


def most_remembered(most: int, dim: int) -> int:
    """How many vectors may be kept at hand: `most`, and fewer where each is long."""
    return max(1, min(most, NUMBERS_REMEMBERED // dim))


def streams_of(encoder: Encoder) -> int:
    """How many threads may call an encoder at once; one, where it does not say."""
    return int(getattr(encoder, "streams", 1))


def threads_of(encoder: Encoder) -> int:
    """How many threads read and decode for an encoder; one for each core, where it does not say."""
    return int(getattr(encoder, "threads", 0) or cores())


def store_dtype(encoder: Encoder) -> DType:
    """What the store keeps of this encoder's vectors."""
    return "float32" if encoder.exact else "float16"


def rounded(rows: Array, encoder: Encoder) -> Array:
    """Rows as they come back from the store, so that a stored vector and a fresh one give the same answer."""
    with np.errstate(over="ignore", invalid="ignore"):
        back: Array = rows.astype(store_dtype(encoder)).astype(np.float32)
    return back


def are_usable(rows: Array, store_key: str) -> Array:
    """(N,) bool: finite, and of length one; under a store key with a part `raw`, of any length but zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
        raw = RAW in store_key.split("/")
        good: Array = np.isfinite(lengths) & (lengths > 0) if raw else np.abs(lengths - 1) < NORM_TOLERANCE
    return good
