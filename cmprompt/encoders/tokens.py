"""Patch and word tokens: what a tower knows of each place and each word, in the space of its pooled vectors.

The tokens of an item travel and are stored as one row, its pooled vector first, under a store key of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from cmprompt.errors import UsageError
from cmprompt.types import Array, Embedded, Encoder, Features

TOKENS = frozenset({"image_tokens", "text_tokens"})


class TokenEncoder:
    """Implements `Encoder` with rows of (1 + P) * D and (1 + L) * D numbers, and takes them apart again."""

    def __init__(self, encoder: Encoder) -> None:
        for method in ("encode_image_tokens", "encode_text_tokens"):
            if not hasattr(encoder, method):
                raise UsageError(f"--head attention reads patch and word tokens; {encoder.model_id} gives none")
        self.encoder: Any = encoder
        self.model_id, self.logit_scale, self.logit_bias = encoder.model_id, encoder.logit_scale, encoder.logit_bias
        self.preprocess, self.context_length, self.exact = encoder.preprocess, encoder.context_length, encoder.exact
        self.store_key = f"{encoder.store_key}/tokens/raw"
        self.streams = getattr(encoder, "streams", 1)
        self.batch_size = getattr(encoder, "batch_size", 16)

    @cached_property
    def dim(self) -> int:
        """Numbers of an image, from an empty picture."""
        side = self.preprocess.size_px
        return int(self.encode_images(np.zeros((1, 3, side, side), np.uint8)).shape[1])

    @cached_property
    def text_dim(self) -> int:
        """Numbers of a text."""
        return int(self.encode_texts(["a"]).shape[1])

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, (1 + P) * D) float32."""
        rows: Array = self.encoder.encode_image_tokens(pixels)
        return rows.reshape(len(rows), -1)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, (1 + L) * D) float32."""
        rows: Array = self.encoder.encode_text_tokens(texts)
        return rows.reshape(len(rows), -1)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The encoder's."""
        counts: list[int] = self.encoder.count_tokens(texts)
        return counts

    def fallback_share(self, texts: Sequence[str]) -> float:
        """The encoder's."""
        share: float = self.encoder.fallback_share(texts)
        return share

    def split(self, batches: Iterator[Embedded]) -> Iterator[Embedded]:
        """The batches with each row as a pooled vector and its tokens."""
        for batch in batches:
            yield replace(batch, features=self._split(batch.features))

    def _split(self, x: Features) -> Features:
        image, image_tokens = parted(x.image, self.encoder.dim)
        text, text_tokens = parted(x.text, self.encoder.dim)
        return Features(image, text, x.has_image, x.has_text, image_tokens, text_tokens)


def parted(rows: Array | None, dim: int) -> tuple[Array | None, Array | None]:
    """(N, (1 + T) * D) or (N, 1 + T, D) -> the pooled (N, D) and the tokens (N, T, D)."""
    if rows is None:
        return None, None
    whole = rows.reshape(len(rows), -1, dim)
    return np.ascontiguousarray(whole[:, 0]), np.ascontiguousarray(whole[:, 1:])


def image_tokens(visual: Any, x: Any) -> Any:
    """open_clip's image tower on normalised (N, 3, H, W) -> (N, 1 + P, D), the pooled vector first.

    A place of a feature map is projected as if the map were that place alone: under mean pooling and a linear
    projection the pooled vector is the mean of its tokens. Raises UsageError for a tower that pools in another way.
    """
    trunk = getattr(visual, "trunk", None)
    if hasattr(visual, "transformer") and hasattr(visual, "conv1"):
        pooled, tokens = _vit(visual, x)
    elif trunk is not None:
        pooled, tokens = _timm(visual, trunk, x)
    elif hasattr(visual, "attnpool") and hasattr(visual, "layer4"):
        pooled, tokens = _resnet(visual, x)
    else:
        raise UsageError(f"--head attention cannot take patch tokens from the image tower {type(visual).__name__}")
    if tokens.ndim != 3 or tokens.shape[-1] != pooled.shape[-1]:
        raise UsageError("--head attention: the patches of this image tower are not in the space of its vectors")
    return _joined(pooled, tokens)


def text_tokens(model: Any, ids: Any) -> Any:
    """open_clip's text tower on (M, L) ids -> (M, 1 + L, D), the pooled vector first, zero where there is no word.

    The start token, which sees no word, and the padding are zero.
    """
    from cmprompt.encoders.towers import pool_words, project_words, read_words

    words = read_words(model, ids)  # (M, L, width)
    pooled = project_words(model, pool_words(model, words, ids))
    there = _words_of(ids)[..., None]
    return _joined(pooled, project_words(model, words) * there)


def _joined(pooled: Any, tokens: Any) -> Any:
    import torch

    return torch.cat([pooled[:, None], tokens], 1)


def _words_of(ids: Any) -> Any:
    """(M, L) bool: after the first place, up to the last one that is not what the text is padded with."""
    import torch

    places = torch.arange(ids.shape[1], device=ids.device)
    last = torch.where(ids != ids[:, -1:], places, 0).amax(1, keepdim=True)
    last = torch.where(ids[:, -1:] == 0, last, last + 1)  # padded with its end, whose first one is a token of the text
    return (places > 0) & (places <= last)


def _vit(visual: Any, x: Any) -> tuple[Any, Any]:
    pooled, tokens = visual._pool(visual.transformer(visual._embeds(x)))
    if visual.final_ln_after_pool:
        tokens = visual.ln_post(tokens)
    return (pooled, tokens) if visual.proj is None else (pooled @ visual.proj, tokens @ visual.proj)


def _timm(visual: Any, trunk: Any, x: Any) -> tuple[Any, Any]:
    from cmprompt.encoders.trunks import channels_last

    features = trunk.forward_features(x)
    pooled = visual.head(trunk.forward_head(features))
    if features.ndim == 4:
        places = channels_last(trunk, features)  # (N, h, w, K)
        n, h, w, _ = places.shape
        one = places.flatten(0, 2)[:, None, None]  # (N * h * w, 1, 1, K)
        alone = one if features.shape[-1] == places.shape[-1] and features.shape[1] == h else one.permute(0, 3, 1, 2)
        return pooled, visual.head(trunk.forward_head(alone)).unflatten(0, (n, h * w))
    tokens = features[:, int(getattr(trunk, "num_prefix_tokens", 0)) :]
    return pooled, visual.head(trunk.fc_norm(tokens) if hasattr(trunk, "fc_norm") else tokens)


def _resnet(visual: Any, x: Any) -> tuple[Any, Any]:
    """The values of the attention that pools, each place's own (MaskCLIP, Zhou et al., ECCV 2022, section 3.3)."""
    features = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(x)))))
    pool = visual.attnpool
    return pool(features), pool.c_proj(pool.v_proj(features.flatten(2).transpose(1, 2)))
