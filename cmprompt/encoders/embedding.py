"""`embedding`: a word embedding that is learned with a head, pooled or read by a GRU or a Transformer.

Its words are those of the training texts. Untrained it only tells texts apart; trained, its weights and vocabulary lie
in the head's directory, and it is a text encoder like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt.encoders.vocabulary import LENGTH, PADDING, UNKNOWN, WIDTH, word_ids
from cmprompt.errors import ModelError, UsageError, unknown
from cmprompt.types import Array

if TYPE_CHECKING:
    from cmprompt.encoders.reader import Reader

KINDS = ("pooled", "gru", "transformer")
CODE = 16  # bytes that tell texts apart
TEXTS_AT_ONCE = 32
LENGTH_STEP = 8  # texts are read to a multiple of this many words, whatever their company


class Unlearned:
    """What `--text-encoder embedding` is before it is trained: a code for each text, to tell one from another."""

    dim = WIDTH
    unit_rows = False  # a head reads its rows, and those beside them, as they are

    def __init__(self, kind: str = KINDS[0], device: str = "auto") -> None:
        if kind not in KINDS:
            raise UsageError(unknown("kind of embedding", kind, KINDS))
        self.learns = kind
        self.model_id = f"embedding-{kind}-unlearned"

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float32 unit rows, equal for equal texts; they say nothing of what a text means."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:CODE] = list(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:CODE])
            row[:CODE] -= 127.5
        unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def encode_text_tokens(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, 2, D): the code, once more for the words that are not learned yet."""
        return np.repeat(self.encode_texts(texts)[:, None], 2, axis=1)


def unlearned_kind(encoder: Any) -> str | None:
    """How the texts of `encoder` are to be read by an embedding that is not trained yet; None for other encoders."""
    kind: str | None = getattr(getattr(encoder, "texts", None), "learns", None)
    return kind


class EmbeddingTexts:
    """The trained embedding. `weights` are those of `reader.Reader`, float32."""

    dim = WIDTH
    unit_rows = False

    def __init__(self, kind: str, vocabulary: Sequence[str], weights: Mapping[str, Array], digest: str) -> None:
        self.kind, self.vocabulary, self.weights = kind, tuple(vocabulary), weights
        words = hashlib.sha256("\n".join(self.vocabulary).encode("utf-8", "surrogatepass")).hexdigest()
        self.model_id = f"embedding-{kind}-{words[:8]}@{digest[:12]}"

    @cached_property
    def reader(self) -> Reader:
        """The torch module, in evaluation mode."""
        import torch

        from cmprompt.encoders.reader import Reader

        reader = Reader(self.kind, len(self.vocabulary))
        try:
            reader.load_state_dict({name: torch.from_numpy(array) for name, array in self.weights.items()})
        except RuntimeError as error:
            raise ModelError(f"the saved word embedding does not fit its vocabulary: {error}") from error
        return reader.eval().requires_grad_(False)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, WIDTH) float32, as the head was trained on them: not of length one."""
        return self._read(texts)[0]

    def encode_text_tokens(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, 1 + LENGTH, WIDTH) float32: the same, then a row for each word, zero behind the last one."""
        pooled, tokens = self._read(texts)
        return np.concatenate([pooled[:, None], tokens], 1)

    def _read(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Batches of one shape for each length, so that a text's numbers do not depend on its company."""
        from cmprompt.encoders.batches import batches

        ids = word_ids(texts, self.vocabulary)
        lengths = -(-(ids != PADDING).sum(1) // LENGTH_STEP) * LENGTH_STEP
        pooled = np.zeros((len(texts), WIDTH), np.float32)
        tokens = np.zeros((len(texts), LENGTH, WIDTH), np.float32)
        for length in np.unique(lengths).tolist():
            for rows in batches(np.flatnonzero(lengths == length), TEXTS_AT_ONCE):
                part = np.full((TEXTS_AT_ONCE, length), PADDING, np.int64)
                part[:, 0] = UNKNOWN
                part[: len(rows)] = ids[rows, :length]
                one, each = self._run(part)
                pooled[rows], tokens[rows, :length] = one[: len(rows)], each[: len(rows)]
        return pooled, tokens

    def _run(self, ids: Array) -> tuple[Any, Any]:
        import torch

        with torch.inference_mode():
            pooled, tokens = self.reader(torch.from_numpy(ids))
        return pooled.numpy(), tokens.numpy()
