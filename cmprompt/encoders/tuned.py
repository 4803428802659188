"""Towers that were trained with a head: what is saved of one, and the encoder that has it in place of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from cmprompt.encoders.embedding import EmbeddingTexts
from cmprompt.encoders.pair import trainable
from cmprompt.encoders.tfidf import KIND, TfidfTexts
from cmprompt.types import Array, Encoder

SIDES: dict[str, tuple[str, ...]] = {"image": (), "text": ("kind", "vocabulary")}  # and what `about` holds of each


@dataclass(frozen=True)
class Tower:
    """The float32 `weights` of one side; `about`, JSON, is what else it takes: the kind and words of an embedding, or
    `tfidf` and the language whose stop words it leaves out."""

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


def with_towers(encoder: Encoder, towers: Sequence[Tower]) -> Encoder:
    """`encoder` with these in place of its own. Raises UsageError where it has no such side."""
    made: Any = encoder
    for tower in towers:
        if tower.side == "image":
            made = trainable(made).with_image_tower(tower.weights, tower.sha256)
        else:
            made = made.with_texts(_texts(tower))
    tuned: Encoder = made
    return tuned


def with_counts(encoder: Encoder, texts: Sequence[str]) -> tuple[Encoder, tuple[Tower, ...]]:
    """An `encoder` that weighs words, with the weights that `texts` give, and what to save of it; others as is."""
    side: Any = getattr(encoder, "texts", None)
    if not getattr(side, "counts_words", False):
        return encoder, ()
    counted = side.counted(texts)
    tower = Tower("text", {KIND: counted.idf}, {"kind": KIND, "vocabulary": [counted.without or ""]})
    return with_towers(encoder, [tower]), (tower,)


def _texts(tower: Tower) -> EmbeddingTexts | TfidfTexts:
    """The encoder of texts that a tower was saved of."""
    words, kind = tower.about["vocabulary"], tower.about["kind"]
    if kind == KIND:
        return TfidfTexts(words[0] or None, tower.weights[KIND])
    return EmbeddingTexts(kind, words, tower.weights, tower.sha256)
