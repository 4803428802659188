"""A head built from text: the zero-shot classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from cmprompt.encoders.batches import unit
from cmprompt.encoders.pair import PairEncoder
from cmprompt.errors import ModelError, UsageError, unknown
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.max_pool import MaxPoolHead
from cmprompt.types import Array, Encoder

if TYPE_CHECKING:
    from cmprompt.embed import Stats
    from cmprompt.store import Store

Pool = Literal["mean", "scores", "max"]
POOLS: tuple[Pool, ...] = ("mean", "scores", "max")


def zero_shot(
    encoder: Encoder,
    prompts: Mapping[str, Sequence[str]],
    *,
    pool: Pool = "mean",
    store: Store | None = None,
    stats: Stats | None = None,
) -> LinearHead | MaxPoolHead:
    """The head of `{label: texts}`, C labels.

    `pool` says how the texts of one label become one score:
    `mean` averages the unit vectors and makes the mean a unit vector again (open_clip's zero_shot_classifier; CuPL,
    Pratt et al. 2023); `scores` averages the similarities, which is the mean left as it is (DCLIP, Menon and Vondrick
    2023); `max` takes the most similar text. `stats` counts the texts that were encoded.
    Raises UsageError without labels, for a label without texts, and where pictures and texts have an encoder each, so
    that they share no space.
    """
    from cmprompt.embed import embed_texts

    _check(prompts, pool)
    if isinstance(encoder, PairEncoder):
        raise UsageError(
            f"{encoder.model_id} has an encoder for pictures and another for texts, whose vectors cannot be compared:"
            " labels mean nothing to it before a head is fitted"
        )
    texts = [text for label_texts in prompts.values() for text in label_texts]  # class-major
    vectors = _usable(unit(embed_texts(texts, encoder, store, stats=stats)))  # (M, D)
    counts = [len(label_texts) for label_texts in prompts.values()]
    labels = tuple(prompts)
    bias = None if encoder.logit_bias is None else np.full(len(labels), encoder.logit_bias, np.float32)
    if pool == "max":
        return MaxPoolHead(vectors, starts_of(counts), labels, encoder.model_id, encoder.logit_scale, bias)
    weight = means_of(vectors, counts).astype(np.float32)  # (C, D)
    if pool == "mean":
        weight = _usable(unit(weight))
    return LinearHead(weight, labels, encoder.model_id, encoder.logit_scale, bias, text_built=True)


def means_of(vectors: Array, counts: Sequence[int]) -> Array:
    """(M, D) rows of which the first `counts[0]` belong together, then the next -> (C, D) float64 mean of each."""
    sums = np.add.reduceat(vectors.astype(np.float64), starts_of(counts), axis=0)
    means: Array = sums / np.array(counts)[:, None]
    return means


def starts_of(counts: Sequence[int]) -> Array:
    """(C,) the row at which each label's texts begin."""
    return np.cumsum([0, *counts[:-1]])


def _check(prompts: Mapping[str, Sequence[str]], pool: str) -> None:
    if pool not in POOLS:
        raise UsageError(unknown("pool", pool, POOLS))
    if not prompts:
        raise UsageError("no labels; name some with --labels cat,dog or --labels @FILE")
    empty = [label for label, texts in prompts.items() if not len(texts) or isinstance(texts, str)]
    if empty:
        raise UsageError(f"label {empty[0]!r} has no list of texts; give it at least one phrase")


def _usable(rows: Array) -> Array:
    """The same unit rows. Raises ModelError where one has no direction."""
    if np.isnan(rows).any():
        raise ModelError("a text's vector is zero or not a number; verify the model with `cmprompt models verify`")
    return rows
