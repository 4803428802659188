"""`classic:sift`: a bag of visual words. Nothing is learned: descriptors are hashed to words, as texts are."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from cmprompt.types import Array, Preprocess

SIDE_PX = 128
BITS = 9  # of a word's number: 512 words
DESCRIPTOR = 128  # numbers of one SIFT descriptor
GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


class SiftImages:
    """SIFT descriptors (Lowe 2004) by scikit-image, each hashed to a visual word by the signs of its products with
    random directions (Charikar 2002); the roots of the words' shares are a unit row."""

    preprocess = Preprocess(SIDE_PX, "squash", "bilinear", (0.0,) * 3, (1.0,) * 3)
    model_id = f"classic-sift{SIDE_PX}-{1 << BITS}"
    dim = (1 << BITS) + 1  # the last place says "no descriptors", so that no row is zero

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows."""
        rows: Array = np.stack([self._row(picture) for picture in pixels]).astype(np.float32)
        return rows

    def words(self, descriptors: Array) -> Array:
        """(K, 128) descriptors -> (K,) numbers of visual words; like descriptors have like words."""
        centred = descriptors - descriptors.mean(1, keepdims=True)
        signs: Array = (centred @ self._directions > 0) @ (1 << np.arange(BITS))
        return signs

    @cached_property
    def _directions(self) -> Array:
        """(128, BITS), the same in every process."""
        return np.random.default_rng(0).normal(size=(DESCRIPTOR, BITS))

    def _row(self, picture: Array) -> Array:
        counts = np.zeros(self.dim)
        found = _descriptors(np.tensordot(GREY, picture / 255.0, 1))
        if len(found):
            counts[:-1] = np.bincount(self.words(found), minlength=self.dim - 1) / len(found)
        else:
            counts[-1] = 1.0
        return np.sqrt(counts)


def _descriptors(grey: Array) -> Array:
    """(K, 128) of an (H, W) picture; none of a flat one."""
    from skimage.feature import SIFT

    detector = SIFT()
    try:
        detector.detect_and_extract(grey)
    except RuntimeError:  # "SIFT found no features"
        return np.zeros((0, DESCRIPTOR))
    return np.asarray(detector.descriptors, np.float64)
