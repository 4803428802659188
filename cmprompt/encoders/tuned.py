"""Towers that were trained with a head: what is saved of one, and the encoder that has it in place of its own.

`tuned:DIR` names that encoder for the head in DIR.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cmprompt.encoders.embedding import EmbeddingTexts
from cmprompt.encoders.pair import PairEncoder, trainable
from cmprompt.types import Array, Encoder

SIDES: dict[str, tuple[str, ...]] = {"image": (), "text": ("kind", "vocabulary")}  # and what `about` holds of each


@dataclass(frozen=True)
class Tower:
    """The float32 `weights` of one side; `about`, JSON, is what else it takes: the kind and words of an embedding."""

    side: Literal["image", "text"]
    weights: Mapping[str, Array]
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def packed(self) -> bytes:
        """As safetensors."""
        from safetensors.numpy import save

        return bytes(save(dict(self.weights)))

    @cached_property
    def sha256(self) -> str:
        """Of `packed`."""
        return hashlib.sha256(self.packed).hexdigest()


def load(model: str, **options: Any) -> Encoder:
    """What `tuned:DIR` names; the model below the towers is loaded with the same options."""
    from cmprompt.encoders import load_encoder
    from cmprompt.heads.io import read_towers

    base, towers = read_towers(Path(model.removeprefix("tuned:")).expanduser())
    return with_towers(load_encoder(base, **options), towers)


def with_towers(encoder: Encoder, towers: Sequence[Tower]) -> Encoder:
    """`encoder` with these in place of its own. Raises UsageError where it has no such side."""
    made: Any = encoder
    for tower in towers:
        if tower.side == "image":
            made = trainable(made).with_image_tower(tower.weights, tower.sha256)
        else:
            words, kind = tower.about["vocabulary"], tower.about["kind"]
            made = PairEncoder(made.images, EmbeddingTexts(kind, words, tower.weights, tower.sha256))
    tuned: Encoder = made
    return tuned
