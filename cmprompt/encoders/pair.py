"""An image encoder and a text encoder of different makes, as one Encoder whose two sides share no space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cmprompt.errors import UsageError, unknown
from cmprompt.registry import IMAGE_ENCODERS, TEXT_ENCODERS, resolve
from cmprompt.types import Array, Encoder

PREFIX = "pair:"  # `pair:IMAGE|TEXT`, how a head remembers its two encoders


class PairEncoder:
    """Implements `Encoder`. Rows of the narrower side end in zeros, so that both have `dim` numbers.

    The two sides cannot be compared with each other: there is no zero-shot head.
    """

    logit_scale = 1.0
    logit_bias: float | None = None
    context_length = 1 << 20
    exact = True  # stored in full precision

    def __init__(self, images: Any, texts: Any) -> None:
        self.images, self.texts = images, texts
        sides = [images.dim, texts.dim]
        self.dim = max(sides)
        self.preprocess = images.preprocess
        self.model_id = f"{images.model_id}+{texts.model_id}"
        self.store_key = f"{self.model_id}/fp32/pair"

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, dim) float32 unit rows."""
        return _widened(self.images.encode_images(pixels), self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, dim) float32 unit rows."""
        return _widened(self.texts.encode_texts(texts), self.dim)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(text.split()) for text in texts]

    def fallback_share(self, texts: Sequence[str]) -> float:
        """0: a side of its own has no script that it does not know."""
        return 0.0


def pair_name(image: str | None, text: str | None, model: str) -> str:
    """What `load_encoder` must be told for these two; `model` gives the side that is not named."""
    return f"{PREFIX}{image or model}|{text or model}"


def load_pair(name: str, device: str, load_model: Callable[[str], Encoder]) -> PairEncoder:
    """`pair:IMAGE|TEXT`: each `classic`, `timm:NAME` (images), or a model's own side. Raises UsageError."""
    image, _, text = name.removeprefix(PREFIX).partition("|")
    return PairEncoder(_side(image, IMAGE_ENCODERS, device, load_model), _side(text, TEXT_ENCODERS, device, load_model))


def _side(name: str, table: dict[str, str], device: str, load_model: Callable[[str], Encoder]) -> Any:
    kind, _, rest = name.partition(":")
    if kind not in table:
        if kind in {**IMAGE_ENCODERS, **TEXT_ENCODERS}:
            raise UsageError(unknown("encoder for this side", name, [*table, "or a model's name"]))
        return load_model(name)
    make = resolve(table, "encoder", kind)
    return make(rest, device) if rest else make()


def _widened(rows: Array, dim: int) -> Array:
    wide = np.zeros((len(rows), dim), np.float32)
    wide[:, : rows.shape[1]] = rows
    return wide
