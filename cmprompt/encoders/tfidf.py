"""`classic:tfidf`: the words of `classic`, the rarer in the table's texts the louder (Spärck Jones 1972)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from cmprompt.encoders.words import WORDS, ClassicTexts
from cmprompt.types import Array

KIND = "tfidf"


class TfidfTexts:
    """Counts of hashed words times `idf` (D,), as unit rows; all words are as loud before `counted` has seen texts."""

    dim = WORDS
    counts_words: ClassVar[bool] = True

    def __init__(self, without: str | None = None, idf: Array | None = None) -> None:
        """`without`: the language whose stop words are left out. Raises UsageError for one without a list."""
        self.words, self.without = ClassicTexts(without), without
        self.idf = np.ones(WORDS, np.float32) if idf is None else idf
        digest = "uncounted" if idf is None else hashlib.sha256(idf.tobytes()).hexdigest()[:12]
        self.model_id = f"{self.words.model_id}-{KIND}@{digest}"

    def counted(self, texts: Sequence[str]) -> TfidfTexts:
        """The same with the weights that these texts give: ln((1 + n) / (1 + df)) + 1, as scikit-learn smooths it."""
        seen = (self.words.counts(texts) > 0).sum(0)  # (D,)
        idf = np.log((1 + len(texts)) / (1 + seen)) + 1
        return TfidfTexts(self.without, idf.astype(np.float32))

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float32 unit rows."""
        rows = self.words.counts(texts) * self.idf
        unit: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit
