"""Features from before networks: HOG and colour for images, hashed bags of words for text. Nothing is learned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.encoders.sift import SiftImages
from cmprompt.encoders.stop_words import stop_words
from cmprompt.errors import UsageError, unknown
from cmprompt.types import Array, Preprocess

if TYPE_CHECKING:
    from cmprompt.encoders.tfidf import TfidfTexts

SIDE_PX = 96
CELL_PX = 16
TURNS = 9
SHADES = 4  # of each colour channel in the histogram: 4 x 4 x 4
WORDS = 1024  # places that words are hashed to
_SPACELESS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")


def classic_images(kind: str = "hog", device: str = "cpu", batch_size: int | None = None) -> ClassicImages | SiftImages:
    """`classic`, or `classic:sift`; both on the processor, picture by picture. Raises UsageError for another kind."""
    known: dict[str, type[ClassicImages | SiftImages]] = {"hog": ClassicImages, "sift": SiftImages}
    if kind not in known:
        raise UsageError(unknown("kind of classic features", kind, known))
    return known[kind]()


class ClassicImages:
    """`classic`: histograms of oriented gradients (Dalal and Triggs 2005) beside a colour histogram, equal parts."""

    preprocess = Preprocess(SIDE_PX, "squash", "bilinear", (0.0,) * 3, (1.0,) * 3)
    model_id = f"classic-hog{SIDE_PX}-{CELL_PX}-{TURNS}-rgb{SHADES}"
    dim = (SIDE_PX // CELL_PX - 1) ** 2 * 4 * TURNS + SHADES**3

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows."""
        rows: Array = np.stack([self._row(picture.transpose(1, 2, 0)) for picture in pixels]).astype(np.float32)
        return rows

    def _row(self, picture: Array) -> Array:
        from skimage.feature import hog

        edges = hog(
            picture, orientations=TURNS, pixels_per_cell=(CELL_PX, CELL_PX), cells_per_block=(2, 2), channel_axis=-1
        )
        shades = (picture.astype(int) * SHADES // 256) @ (SHADES**2, SHADES, 1)
        colours = np.sqrt(np.bincount(shades.ravel(), minlength=SHADES**3) / shades.size)  # unit by itself
        length = np.linalg.norm(edges)
        edges = edges / length if length else edges  # a picture of one colour has no edges
        row = np.concatenate([edges, colours])
        unit: Array = row / np.linalg.norm(row)
        return unit


def with_stop_words(text_encoder: str | None, language: str | None) -> str | None:
    """The name of the text encoder that leaves these words out. Raises UsageError where that is not `classic`."""
    if language is None:
        return text_encoder
    if text_encoder not in ("classic", "classic:tfidf"):
        raise UsageError("--stop-words is for --text-encoder classic; other encoders read every word")
    return f"classic:{language}" if text_encoder == "classic" else f"classic:tfidf-{language}"


def classic_texts(kind: str | None = None, device: str = "cpu") -> ClassicTexts | TfidfTexts:
    """`classic`, `classic:tfidf`, and both less the stop words of a language: `classic:en`, `classic:tfidf-en`."""
    from cmprompt.encoders.tfidf import KIND, TfidfTexts

    name, _, language = (kind or "").partition("-")
    return TfidfTexts(language or None) if name == KIND else ClassicTexts(kind)


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
