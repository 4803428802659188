"""A head with the towers that were trained with it, while it is on trial; on disk they lie beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cmprompt.encoders.devices import torch_threads
from cmprompt.encoders.tokens import parted
from cmprompt.heads.training import Training
from cmprompt.images.views import plain_view
from cmprompt.types import Array, Encoder, Features, Head, Item

if TYPE_CHECKING:
    from cmprompt.encoders.tuned import Tower

IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class Tuned:
    """`encoder` holds the trained `towers`; the head reads what it makes of the rows, `see(data)`."""

    head: Head
    encoder: Encoder
    towers: tuple[Tower, ...]
    rows_independent: ClassVar[bool] = True  # the networks that are trained with towers are

    @property
    def labels(self) -> tuple[str, ...]:
        """The head's."""
        return self.head.labels

    @property
    def model_id(self) -> str:
        """That of the trained towers."""
        return self.head.model_id

    @property
    def needs(self) -> frozenset[str]:
        """The head's."""
        return self.head.needs

    def logits(self, features: Features) -> Array:
        """(N, C) of what `see` gave."""
        return self.head.logits(features)

    def see(self, data: Training) -> Features:
        """The features of the rows of `data`; what no tower was trained for stays as it is."""
        seen, sides = data.features, {tower.side for tower in self.towers}
        if "image" in sides:
            seen = replace(seen, image=encode_pictures(data.items, self.encoder))
        if "text" in sides and "text_tokens" in self.needs:
            encoder: Any = self.encoder
            text, words = parted(encoder.encode_text_tokens(data.texts), self.encoder.dim)
            return replace(seen, text=text, text_tokens=words)
        if "text" in sides:
            seen = replace(seen, text=self.encoder.encode_texts(data.texts))
        return seen


@torch_threads()
def encode_pictures(items: Sequence[Item], encoder: Encoder, encode: Callable[[Array], Array] | None = None) -> Array:
    """(N, D) of the items' pictures, zero where there is none; `encode` in place of the encoder's own."""
    rows = np.zeros((len(items), encoder.dim), np.float32)
    places = [place for place, item in enumerate(items) if item.image is not None]
    for start in range(0, len(places), IMAGES_AT_ONCE):
        part = places[start : start + IMAGES_AT_ONCE]
        pixels = np.stack([plain_view(items[place], encoder.preprocess, exact=encoder.exact) for place in part])
        rows[part] = (encode or encoder.encode_images)(pixels)
    return rows


def plain(head: Head) -> Head:
    """The head alone."""
    return head.head if isinstance(head, Tuned) else head
