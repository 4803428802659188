"""An image encoder and a text encoder of different makes, as one Encoder whose two sides share no space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cmprompt.encoders.devices import cores
from cmprompt.errors import UnknownModel, UsageError, unknown
from cmprompt.registry import IMAGE_ENCODERS, TEXT_ENCODERS, resolve
from cmprompt.types import Array, Encoder, Preprocess

IMAGES_AT_ONCE = 16  # where neither a flag nor the image side says
PREFIX = "pair:"  # `pair:IMAGE|TEXT`, how a head remembers its two encoders


class PairEncoder:
    """Implements `Encoder`. Rows of the narrower side end in zeros, so that both have `dim` numbers.

    The two sides cannot be compared with each other: there is no zero-shot head. Beside a learned embedding a network's
    features stay as they are (`unit_rows` False): what is trained on them may need their length.
    """

    logit_scale = 1.0
    logit_bias: float | None = None
    context_length = 1 << 20
    exact = True  # stored in full precision

    def __init__(self, images: Any, texts: Any, batch_size: int | None = None, threads: int | None = None) -> None:
        self.images, self.texts = images, texts
        self.threads = threads or cores()
        self.batch_size = batch_size or int(getattr(images, "batch_size", IMAGES_AT_ONCE))
        self.unit_rows = bool(getattr(texts, "unit_rows", True))
        self.raw_images = not self.unit_rows and hasattr(images, "encode_raw")

    @cached_property
    def dim(self) -> int:
        """D, that of the wider side."""
        return max(int(self.images.dim), int(self.texts.dim))

    @cached_property
    def preprocess(self) -> Preprocess:
        """The image side's."""
        found: Preprocess = self.images.preprocess
        return found

    @cached_property
    def model_id(self) -> str:
        """Both sides'."""
        return f"{self.images.model_id}+{self.texts.model_id}"

    @cached_property
    def store_key(self) -> str:
        """Rows of another precision, device or decoder, and those that are not of length one, are kept apart."""
        from cmprompt.images import decode_path

        encodings = dict.fromkeys(_encoding(side) for side in (self.images, self.texts))
        end = "pair" if self.unit_rows else "pair/raw"
        return f"{self.model_id}/{'+'.join(encodings)}/{decode_path(self.exact)}/{end}"

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, dim) float32 rows, of length one unless `raw_images`."""
        encode = self.images.encode_raw if self.raw_images else self.images.encode_images
        return _widened(encode(pixels), self.dim)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, dim) float32 rows, of length one where `unit_rows`."""
        return _widened(self.texts.encode_texts(texts), self.dim)

    def encode_image_tokens(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, 1 + P, dim) float32. Raises UsageError where the side has no places."""
        return _widened(with_tokens(self.images, "encode_image_tokens")(pixels), self.dim)

    def encode_text_tokens(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, 1 + L, dim) float32. Raises UsageError where the side does not tell its words apart."""
        return _widened(with_tokens(self.texts, "encode_text_tokens")(texts), self.dim)

    def image_tower(self) -> Any:
        """The image side to train. Raises UsageError where it is none that learns."""
        return trainable(self.images).image_tower()

    def with_image_tower(self, weights: Mapping[str, Array], digest: str) -> PairEncoder:
        """The same with the weights of a trained `image_tower`."""
        return PairEncoder(self.images.with_image_tower(weights, digest), self.texts, self.batch_size, self.threads)

    def with_texts(self, texts: Any) -> PairEncoder:
        """The same with another encoder of texts."""
        return PairEncoder(self.images, texts, self.batch_size, self.threads)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(text.split()) for text in texts]

    def fallback_share(self, texts: Sequence[str]) -> float:
        """0: a side of its own has no script that it does not know."""
        return 0.0


def pair_name(image: str | None, text: str | None, model: str) -> str:
    """What `load_encoder` must be told for these two; `model` gives the side that is not named."""
    return f"{PREFIX}{image or model}|{text or model}"


def load(model: str, **options: Any) -> Any:
    """What `pair:IMAGE|TEXT` names; a model's own side is loaded with the same options."""
    from cmprompt.encoders import load_encoder

    return load_pair(
        model, options["device"], lambda name: load_encoder(name, **options), options["batch_size"], options["threads"]
    )


def load_pair(
    name: str,
    device: str,
    load_model: Callable[[str], Encoder],
    batch_size: int | None = None,
    threads: int | None = None,
) -> PairEncoder:
    """`pair:IMAGE|TEXT`: `classic`, `timm:NAME` (images), `embedding` (texts) or a model's own. Raises UsageError."""
    image, _, text = name.removeprefix(PREFIX).partition("|")
    images = _side(image, IMAGE_ENCODERS, device, load_model, batch_size=batch_size)
    return PairEncoder(images, _side(text, TEXT_ENCODERS, device, load_model), batch_size, threads)


def trainable(encoder: Any) -> Any:
    """`encoder`, if its image tower can be trained. Raises UsageError."""
    if not hasattr(encoder, "image_tower"):
        raise UsageError(f"--unfreeze image: {encoder.model_id} has nothing to train; use an open_clip or timm network")
    return encoder


def _encoding(side: Any) -> str:
    """What the store's key of a model has behind its name; the other sides compute in fp32."""
    key: str = getattr(side, "store_key", "fp32")
    return key.removeprefix(f"{side.model_id}/")


def _side(
    name: str, table: dict[str, str], device: str, load_model: Callable[[str], Encoder], **options: int | None
) -> Any:
    kind, _, rest = name.partition(":")
    if kind not in table:
        if kind in {**IMAGE_ENCODERS, **TEXT_ENCODERS}:
            raise UsageError(unknown("encoder for this side", name, [*table, "or a model's name"]))
        try:
            return load_model(name)
        except UnknownModel as error:
            names = ("timm:NAME" if kind == "timm" else kind for kind in sorted(table))
            raise UnknownModel(f"{error}; on this side {', '.join(names)} go too") from error
    make = resolve(table, "encoder", kind)
    return make(rest, device, **options) if rest else make(**options)


def with_tokens(side: Any, method: str) -> Any:
    """The method that gives a side's tokens. Raises UsageError where it has none."""
    if not hasattr(side, method):
        raise UsageError(f"--head attention reads patch and word tokens; {side.model_id} gives none")
    return getattr(side, method)


def _widened(rows: Array, dim: int) -> Array:
    """The same rows, along the last axis, with zeros up to `dim`."""
    wide = np.zeros((*rows.shape[:-1], dim), np.float32)
    wide[..., : rows.shape[-1]] = rows
    return wide
