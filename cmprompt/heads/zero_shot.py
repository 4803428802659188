"""A head built from text: the zero-shot classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
TEXTS_AT_ONCE = 4096  # whose vectors are held together


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
    (head,) = zero_shot_heads(encoder, [prompts], pool=pool, store=store, stats=stats)
    return head


def zero_shot_heads(
    encoder: Encoder,
    several: Sequence[Mapping[str, Sequence[str]]],
    *,
    pool: Pool = "mean",
    store: Store | None = None,
    stats: Stats | None = None,
) -> list[LinearHead | MaxPoolHead]:
    """A head as `zero_shot` makes it for each of one or several `{label: texts}`, whose texts are encoded together."""
    from cmprompt.embed import embed_texts

    for prompts in several:
        _check(prompts, pool)
    if isinstance(encoder, PairEncoder):
        raise UsageError(
            f"{encoder.model_id} has an encoder for pictures and another for texts, whose vectors cannot be compared:"
            " labels mean nothing to it before a head is fitted"
        )
    parts = []
    for block in _blocks(own for prompts in several for own in prompts.values()):
        texts = [text for own in block for text in own]  # class-major
        vectors = _usable(unit(embed_texts(texts, encoder, store, stats=stats)))  # (m, D)
        parts.append(_pooled(vectors, [len(own) for own in block], pool))
    counts = [[len(own) for own in prompts.values()] for prompts in several]
    ends = np.cumsum([sum(own) if pool == "max" else len(own) for own in counts])
    rows = np.split(np.concatenate(parts), ends[:-1])
    return [_head(encoder, *each, pool) for each in zip(several, rows, counts, strict=True)]


def _head(
    encoder: Encoder, prompts: Mapping[str, Sequence[str]], rows: Array, counts: Sequence[int], pool: Pool
) -> LinearHead | MaxPoolHead:
    """The head of `prompts`, `counts` texts of each label, and of what `_pooled` keeps of their vectors."""
    labels = tuple(prompts)
    bias = None if encoder.logit_bias is None else np.full(len(labels), encoder.logit_bias, np.float32)
    if pool == "max":
        return MaxPoolHead(rows, starts_of(counts), labels, encoder.model_id, encoder.logit_scale, bias)
    return LinearHead(rows, labels, encoder.model_id, encoder.logit_scale, bias, text_built=True)


def _blocks(texts: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """The texts of some labels after the other, `TEXTS_AT_ONCE` of them at most where no label has more."""
    block: list[Sequence[str]] = []
    size = 0
    for own in texts:
        if block and size + len(own) > TEXTS_AT_ONCE:
            yield block
            block, size = [], 0
        block.append(own)
        size += len(own)
    if block:
        yield block


def _pooled(vectors: Array, counts: Sequence[int], pool: Pool) -> Array:
    """What a head keeps of the texts' (M, D) unit rows, which belong to labels as in `means_of`: (M, D) or (C, D)."""
    if pool == "max":
        return vectors
    means = means_of(vectors, counts).astype(np.float32)
    return _usable(unit(means)) if pool == "mean" else means


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
