"""Features from before networks: HOG and colour for images, and which of its kind a name means. Nothing is learned."""

from __future__ import annotations

import numpy as np

from cmprompt.encoders.sift import SiftImages
from cmprompt.encoders.tfidf import KIND, TfidfTexts
from cmprompt.encoders.words import ClassicTexts
from cmprompt.errors import UsageError, unknown
from cmprompt.types import Array, Preprocess

SIDE_PX = 96
CELL_PX = 16
TURNS = 9
SHADES = 4  # of each colour channel in the histogram: 4 x 4 x 4


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
    name, _, language = (kind or "").partition("-")
    return TfidfTexts(language or None) if name == KIND else ClassicTexts(kind)
