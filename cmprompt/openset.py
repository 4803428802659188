"""None of these: is an image near any label at all? One standardised scale for every label.

z = (cos - m) / s, with m and s the mean and deviation of that image's cosines over a fixed vocabulary of everyday
words: how far a label stands out among all that the image could have been. A cosine of 0.25 means nothing by itself
and differs from label to label and model to model; a z of 2 means nearer than to about 98 % of everyday words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cmprompt.product import Grid, product
from cmprompt.types import Array, Encoder

if TYPE_CHECKING:
    from cmprompt.store import Store

# Two deviations: under a normal distribution 2.3 % of unrelated words lie above. A round number near the best F1 on
# CLIP's vectors of CIFAR-10, which are its development data; benchmarks/none_of_these.py judges it on others.
DEFAULT_Z = 2.0
VOCABULARY_TEMPLATE = "a photo of a {}."


def vocabulary_vectors(encoder: Encoder, store: Store | None = None, *, template: str = VOCABULARY_TEMPLATE) -> Array:
    """(V, D) unit vectors of the everyday vocabulary, each word in `template`.

    One template for each word, not an ensemble: m and s need the crowd, not the best vector of each word, and a
    thousand texts are encoded once for each model and then come from the store.
    """
    from cmprompt.embed import embed_texts
    from cmprompt.labels import everyday

    return embed_texts([template.replace("{}", word) for word in everyday()], encoder, store)


def moments(images: Array, vocabulary: Array | Grid) -> tuple[Array, Array]:
    """(N, D) and (V, D) unit rows -> mean and deviation, (N,) float64 each, of each image's cosines."""
    cosines = product(images, vocabulary).astype(np.float64)  # (N, V)
    return cosines.mean(axis=1), np.maximum(cosines.std(axis=1), 1e-12)


def standardise(cosines: Array, mean: Array, deviation: Array) -> Array:
    """(N, C) cosines -> (N, C) float64 z."""
    z: Array = (cosines - mean[:, None]) / deviation[:, None]
    return z
