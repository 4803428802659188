"""What is looked for: texts and pictures added up, others taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.errors import ItemError, UsageError
from cmprompt.types import Array, Encoder, FileBytes, Item

if TYPE_CHECKING:
    from cmprompt.store import Store


def query_vector(
    encoder: Encoder,
    store: Store | None,
    *,
    texts: Sequence[str] = (),
    like: Sequence[str] = (),
    minus: Sequence[str] = (),
) -> Array:
    """(D,) unit vector of the signed sum of `texts` and pictures or clips `like` (paths), less the texts `minus`.

    Raises UsageError where there is nothing to look for, ItemError where a picture cannot be read.
    """
    from cmprompt.embed import embed_texts

    if not texts and not like:
        raise UsageError("nothing to look for; give a text, or --like IMAGE")
    words = embed_texts([*texts, *minus], encoder, store) if texts or minus else np.zeros((0, encoder.dim), np.float32)
    signs = np.array([1.0] * len(texts) + [-1.0] * len(minus), np.float32)
    total = signs @ words + sum((_picture(path, encoder, store) for path in like), np.zeros(encoder.dim, np.float32))
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise UsageError("what is looked for cancels out; take something else away")
    vector: Array = (total / length).astype(np.float32)
    return vector


def _picture(path: str, encoder: Encoder, store: Store | None) -> Array:
    from cmprompt.clips import pooled, with_frames
    from cmprompt.embed import embed

    (batch,) = pooled(embed(with_frames([Item(path, FileBytes(path))]), encoder, store))
    if batch.outcomes[0].status != "ok" or batch.features.image is None:
        raise ItemError(batch.outcomes[0].status, f"--like {path}: {batch.outcomes[0].error}")
    row: Array = batch.features.image[0]
    return row
