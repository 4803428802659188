"""Which label each word of a fused text pushes: what the answer loses when the word is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmprompt.types import Array


@dataclass(frozen=True)
class Push:
    """A word, the label whose logit it raises most beside the others', and by how much."""

    word: str
    label: str
    contribution: float


def without_each_word(text: str) -> tuple[list[str], list[str]]:
    """The words of `text` as blanks divide it, and for each the text without it."""
    words = text.split()
    return words, [" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))]


def pushes(words: Sequence[str], labels: Sequence[str], whole: Array, without: Array) -> list[Push]:
    """One for each of L words, in their order. `whole` (C,) logits of the full text, `without` (L, C).

    What a word adds to every label alike decides nothing and is taken off (leave-one-out, Li et al. 2016, on logits).
    """
    changes = whole[None, :].astype(np.float64) - without  # (L, C)
    changes -= changes.mean(1, keepdims=True)
    best = changes.argmax(1)
    return [
        Push(word, labels[c], float(changes[row, c])) for row, (word, c) in enumerate(zip(words, best, strict=True))
    ]
