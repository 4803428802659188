"""`classic`: texts as bags of hashed words. Nothing is learned."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from cmprompt.encoders.stop_words import stop_words
from cmprompt.types import Array

WORDS = 1024  # places that words are hashed to
_SPACELESS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")


class ClassicTexts:
    """`classic`: words hashed to places, their counts a unit row; pairs of characters in scripts without spaces."""

    dim = WORDS

    def __init__(self, without: str | None = None) -> None:
        """`without`: the language whose stop words are left out. Raises UsageError for one without a list."""
        from sklearn.feature_extraction.text import HashingVectorizer

        self.model_id = f"classic-words{WORDS}" + (f"-without-{without}" if without else "")
        analyzer = Analyzer(stop_words(without) if without else frozenset())
        self.vectorizer = HashingVectorizer(n_features=WORDS - 1, analyzer=analyzer, alternate_sign=False, norm=None)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float32 unit rows."""
        rows = np.sqrt(self.counts(texts))
        unit: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def counts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float64 how often each has the words of each place.

        The last place says "no words", so that no row is zero.
        """
        found = self.vectorizer.transform(list(texts)).toarray()
        return np.column_stack([found, (found.sum(1) == 0).astype(float)])


class Analyzer:
    """A text to its words, less those that are stopped; scripts without spaces to pairs of characters."""

    def __init__(self, stopped: frozenset[str] = frozenset()) -> None:
        self.stopped = stopped

    def __call__(self, text: str) -> list[str]:
        found = []
        for word in re.findall(r"\w+", text.lower()):
            if _SPACELESS.search(word):
                found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
            elif word not in self.stopped:
                found.append(word)
        return found
