"""Any open_clip model as an Encoder. Making one reads two headers; a back end loads at the first encode."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cmprompt.encoders import openvino
from cmprompt.encoders.batches import Batched, unit
from cmprompt.encoders.devices import cores, pick_device, pick_precision
from cmprompt.encoders.tokenizer import Tokenizer, tokenizer_of
from cmprompt.encoders.torch import TorchTowers
from cmprompt.encoders.weights import Checkpoint, read_scalar
from cmprompt.errors import ModelError, UsageError
from cmprompt.types import Array

if TYPE_CHECKING:
    from cmprompt.encoders.quantized import Quantized

TEXT_BUCKET = 4  # contexts are cut to a multiple of this many tokens
# Rows of a matrix product that keep a processor busy, its units for bf16 or those for fp32: a few labels, or one image,
# should not wait for more. A GPU wants many.
TOKENS_PER_BATCH = {"bf16": 256, "fp32": 128}
IMAGE_POSITIONS = {"bf16": 200, "fp32": 100}
GPU_TOKENS = 4096
CONVOLVED = 2  # images at once where the tower has convolutions
SMALL_BYTES = 32 << 20  # of weights: fp32 costs such a model about what reading its pictures does
IMAGE_BYTES = 64 << 20  # of a GPU's memory for each image of a batch, of which there are at most
MOST_IMAGES = 256
Side = Literal["images", "texts"]
Notices = Callable[[str], None]
# what another image tower makes anew
LOADED = ("store_key", "back_end", "_torch", "_torch_fp32", "_exported", "_quantized")


class OpenClipEncoder:
    """Implements `cmprompt.types.Encoder`: through OpenVINO on a processor, through torch elsewhere, for a tower that
    does not export, and under `exact`.

    Every batch has one fixed shape, whatever is asked for, the last one padded: a matrix product may round
    differently at another shape, and the same image must give the same bytes in any company.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        exact: bool = False,
        threads: int | None = None,
        batch_size: int | None = None,
        compiled: bool = False,
        notices: Notices | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = pick_device(device)
        if compiled and (exact or self.device == "cpu"):
            other = "--exact" if exact else f"--device {self.device}, where OpenVINO compiles the model"
            raise UsageError(f"--compile is for a GPU and does not go with {other}; leave it out")
        self.compiled = compiled
        small = checkpoint.weights.stat().st_size < SMALL_BYTES
        picked = partial(pick_precision, device=self.device, exact=exact, small=small)
        self.precision = picked(precision)
        self._floats = picked("auto") if self.precision == "int8" else self.precision
        self.exact = exact
        self.threads = threads or cores()
        self.streams = self.threads if self.device == "cpu" else 1
        self._loading = _locks()
        self._towers: dict[Side, Callable[[Array], Array]] = {}
        self._batched: dict[tuple[str, int], Batched] = {}  # what runs where, and how many rows asked for at once
        self.image_weights: Mapping[str, Array] | None = None  # of an image tower that was trained with a head
        self._notices = notices or logging.getLogger("cmprompt").warning
        self.dim = int(checkpoint.model_cfg["embed_dim"])
        self.preprocess = checkpoint.preprocess
        self.context_length = int(checkpoint.model_cfg["text_cfg"].get("context_length", 77))
        self.batch_size = batch_size or self._default_batch_size()
        self.weights_hash = checkpoint.verified_hash()
        self.model_id = f"{checkpoint.name}@{self.weights_hash[:12]}-{checkpoint.config_digest}"
        self.logit_scale, self.logit_bias = self._read_logit_numbers()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizer_of(self.checkpoint.model_cfg["text_cfg"], self.checkpoint.folder)

    @cached_property
    def store_key(self) -> str:
        """The first one asked for on a machine exports the towers, since it names what runs them."""
        from cmprompt.images import decode_path

        precision = self.precision
        if precision == "int8":
            precision = f"int8-{self._calibrated().digest}"
        return f"{self.model_id}/{precision}/{self.back_end}/{decode_path(self.exact)}"

    @property
    def calibration_images(self) -> int:
        """How many images `calibrate` wants before anything else is asked; 0 where there is nothing to calibrate."""
        if self.precision != "int8" or self._quantized is not None:
            return 0
        from cmprompt.encoders.quantized import CALIBRATED_ON, MEASURED_ON, require

        require()
        return CALIBRATED_ON + MEASURED_ON

    def calibrate(self, pixels: Array) -> None:
        """Fit the ranges of int8 numbers to (N, 3, H, W) uint8 images, once for a model on a machine: what
        another run has fitted stays.

        Raises UsageError for too few, or without NNCF; ModelError where the image tower does not export.
        """
        from cmprompt.encoders.quantized import quantize

        if "images" not in self._exported:
            raise ModelError(f"{self.checkpoint.name} does not export, so it has no int8; use --precision auto")
        quantize(self._exported["images"], pixels, self._notices)
        self.__dict__.pop("_quantized", None)
        self.__dict__.pop("store_key", None)

    @cached_property
    def back_end(self) -> str:
        """What runs the two towers, in the store's words."""
        if not self._exported:
            return f"torch-{self.device.split(':')[0]}" + ("-compiled" if self.compiled else "")
        from cmprompt.encoders.export import openvino_version

        version = ".".join(openvino_version().split(".")[:2])
        return f"openvino-{version}" + ("" if len(self._exported) == 2 else f"-{next(iter(self._exported))}")

    @property
    def model(self) -> Any:
        """The torch model, for what needs gradients; loads at first use."""
        return self._torch.model

    @cached_property
    def _torch(self) -> TorchTowers:
        return TorchTowers(
            self.checkpoint, self.device, self._floats, self.exact, self.image_weights, compiled=self.compiled
        )

    @cached_property
    def _torch_fp32(self) -> TorchTowers:
        return TorchTowers(self.checkpoint, self.device, "fp32", self.exact, self.image_weights)

    @cached_property
    def _exported(self) -> Mapping[str, Path]:
        """The towers that OpenVINO runs, by side."""
        if self.exact or not openvino.runs_here(self.device, self.precision):
            return {}
        from cmprompt.encoders.export import exported

        sides = exported(self.checkpoint, self.weights_hash, self._notices)
        return {side: path for side, path in sides.items() if side == "texts" or self.image_weights is None}

    @cached_property
    def _quantized(self) -> Quantized | None:
        """The image tower in int8, where it was calibrated."""
        from cmprompt.encoders.quantized import quantized

        return quantized(self._exported["images"]) if "images" in self._exported else None

    def _calibrated(self) -> Quantized:
        if self._quantized is None:
            raise UsageError(
                f"--precision int8: {self.checkpoint.name} has not seen any of your images yet; "
                "cmprompt classify or embed on a folder of them calibrates it, once"
            )
        return self._quantized

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.tokenizer.count(texts)

    def fallback_share(self, texts: Sequence[str]) -> float:
        return self.tokenizer.fallback_share(texts)

    def image_tower(self) -> Any:
        """An image tower of its own to train, in fp32: normalised (N, 3, H, W) -> (N, D)."""
        return deepcopy(self._torch_fp32.model.visual)  # the loaded one may lie in the mapped file

    def with_image_tower(self, weights: Mapping[str, Array], digest: str) -> OpenClipEncoder:
        """The same with the weights of a trained `image_tower`, whose hash is `digest`: another model."""
        twin = copy(self)
        for name in LOADED:
            twin.__dict__.pop(name, None)
        twin._loading, twin._towers, twin._batched, twin.image_weights = _locks(), {}, {}, weights
        twin.model_id = f"{self.model_id}+image@{digest[:12]}"
        return twin

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows. A row that has no direction even in fp32 is NaN.

        Raises ItemError("out_of_memory") where a single image does not fit.
        """
        side = self.preprocess.size_px
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"expected (N, 3, {side}, {side}) uint8, got {pixels.shape} {pixels.dtype}")
        return self._unit_rows(pixels, "images", self.batch_size)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float32 unit rows; a text longer than the context is cut, as open_clip does."""
        tokens = self.tokenizer.batch(texts)  # (M, L)
        rows = np.zeros((len(tokens), self.dim), np.float32)
        for chosen, length, size in self._by_length(tokens):
            rows[chosen] = self._unit_rows(tokens[chosen, :length], "texts", size)
        return rows

    def encode_image_tokens(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, 1 + P, D) float32 unit rows: the pooled vector, then one for each place."""
        with self._loading["torch"]:
            run = self._torch.image_tokens
        return self._in_batches("image tokens", run, self.batch_size)(pixels)

    def encode_text_tokens(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, 1 + L, D) float32 unit rows: the pooled vector, then one for each word, zero behind them."""
        with self._loading["torch"]:
            run = self._torch.text_tokens
        tokens = self.tokenizer.batch(texts)  # (M, L)
        rows = np.zeros((len(tokens), 1 + tokens.shape[1], self.dim), np.float32)
        for chosen, length, size in self._by_length(tokens):
            rows[chosen, : 1 + length] = self._in_batches("text tokens", run, size)(tokens[chosen, :length])
        return rows

    def _by_length(self, tokens: Array) -> Iterator[tuple[Array, int, int]]:
        """Rows that are run with one context, the context, and how many of them at once."""
        lengths = self._lengths(tokens)
        most = TOKENS_PER_BATCH[self._floats] if self.device == "cpu" else GPU_TOKENS
        for length in np.unique(lengths).tolist():
            yield np.flatnonzero(lengths == length), length, max(1, most // length)

    def _lengths(self, tokens: Array) -> Array:
        """The context each text is run with: its own length rounded up, so that it does not depend on its company."""
        from cmprompt.encoders.towers import is_trimmable

        context = tokens.shape[1]
        if not is_trimmable(self.checkpoint.model_cfg["text_cfg"]):
            return np.full(len(tokens), context)
        used = context - (tokens[:, ::-1] != 0).argmax(1)
        lengths: Array = np.minimum(context, -(-used // TEXT_BUCKET) * TEXT_BUCKET)
        return lengths

    def _unit_rows(self, inputs: Array, side: Side, size: int) -> Array:
        if not len(inputs):
            return np.zeros((0, self.dim), np.float32)
        rows = unit(self._in_batches(side, self._tower(side), size)(inputs))
        bad = ~np.isfinite(rows).all(1)
        if bad.any() and self.precision != "fp32":
            rows[bad] = unit(self._in_batches(f"{side} in fp32", getattr(self._torch_fp32, side), size)(inputs[bad]))
        return rows

    def _in_batches(self, what: str, run: Callable[[Array], Array], size: int) -> Batched:
        """`run` in batches of `size`, or of what turned out to fit in memory."""
        return self._batched.setdefault((what, size), Batched(run, size))

    def _tower(self, side: Side) -> Callable[[Array], Array]:
        """(N, ...) -> (N, D), not normalised; loads at first use, whichever thread comes first."""
        small = self.precision == "int8" and side == "images"
        path = self._calibrated().path if small else self._exported.get(side)
        with self._loading[side if path else "torch"]:
            if side not in self._towers:
                self._towers[side] = (
                    openvino.Tower(path, self._floats, self.streams) if path else getattr(self._torch, side)
                )
        return self._towers[side]

    def _default_batch_size(self) -> int:
        """On a processor the fewest images that fill its matrix units, so that one image alone stays quick.

        On a GPU what all its memory suggests, not what is free: a batch of another size may round differently.
        """
        if self.device.startswith("cuda"):
            import torch

            most = torch.cuda.get_device_properties(self.device).total_memory // IMAGE_BYTES
            return max(1, min(MOST_IMAGES, 1 << most.bit_length() - 1))
        if self.device != "cpu":
            return 64
        vision = self.checkpoint.model_cfg["vision_cfg"]
        if "timm_model_name" in vision or not isinstance(vision.get("layers"), int):
            return CONVOLVED  # most of them convolve, which fills those units with fewer
        positions = max(1, self.preprocess.size_px // int(vision.get("patch_size", 32))) ** 2
        fill = IMAGE_POSITIONS[self._floats] // positions
        return min(8, 1 << fill.bit_length() - 1) if fill else 1

    def _read_logit_numbers(self) -> tuple[float, float | None]:
        scale = read_scalar(self.checkpoint.weights, "logit_scale")
        if scale is None:
            raise ModelError(f"{self.checkpoint.weights} has no logit_scale, so it is not an open_clip model")
        return float(np.exp(np.float32(scale))), read_scalar(self.checkpoint.weights, "logit_bias")


def _locks() -> dict[str, Lock]:
    """One for each back end that loads by itself."""
    return {name: Lock() for name in ("images", "texts", "torch")}
