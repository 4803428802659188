"""The words of a learned embedding: which there are, and a text as the rows of their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from cmprompt.encoders.words import Analyzer
from cmprompt.types import Array

VOCABULARY, WIDTH, LENGTH = 10_000, 512, 64  # words, numbers of each, words of a text that are read
PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2  # rows of the table


def vocabulary_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of `texts`, the most frequent first, 10,000 at most."""
    split = Analyzer()
    counts = Counter(word for text in texts for word in split(text))
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:VOCABULARY])


def word_ids(texts: Sequence[str], vocabulary: Sequence[str]) -> Array:
    """(M, LENGTH) int64 rows of the table; a word not in the vocabulary, or a text without words, is UNKNOWN."""
    split, place = Analyzer(), {word: row for row, word in enumerate(vocabulary, FIRST_WORD)}
    rows = np.full((len(texts), LENGTH), PADDING, np.int64)
    for row, text in zip(rows, texts, strict=True):
        ids = [place.get(word, UNKNOWN) for word in split(text)[:LENGTH]] or [UNKNOWN]
        row[: len(ids)] = ids
    return rows
