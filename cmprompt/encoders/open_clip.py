"""Any open_clip model as an Encoder. Making one reads two headers; torch loads at the first encode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from cmprompt.encoders.devices import cores, pick_device, pick_precision
from cmprompt.encoders.tokenizer import Tokenizer, tokenizer_of
from cmprompt.encoders.weights import Checkpoint, read_scalar
from cmprompt.errors import ItemError, ModelError
from cmprompt.types import Array

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TEXT_BUCKET = 8  # contexts are cut to a multiple of this many tokens
TOKENS_PER_BATCH = 512
IMAGE_POSITIONS = 400  # enough rows to keep a processor's matrix units busy
Result = TypeVar("Result")


class OpenClipEncoder:
    """Implements `cmprompt.types.Encoder` through torch.

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
    ) -> None:
        self.checkpoint = checkpoint
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device, exact)
        self.exact = exact
        self.threads = threads or cores()
        self.streams = self.threads if self.device == "cpu" else 1
        self._loading = Lock()
        self.dim = int(checkpoint.model_cfg["embed_dim"])
        self.preprocess = checkpoint.preprocess
        self.context_length = int(checkpoint.model_cfg["text_cfg"].get("context_length", 77))
        self.batch_size = batch_size or self._default_batch_size()
        self.weights_hash = checkpoint.verified_hash()
        self.model_id = f"{checkpoint.name}@{self.weights_hash[:12]}-{checkpoint.config_digest}"
        self.store_key = f"{self.model_id}/{self.precision}/torch-{self.device.split(':')[0]}/{decode_path(exact)}"
        self.logit_scale, self.logit_bias = self._read_logit_numbers()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizer_of(self.checkpoint.model_cfg["text_cfg"], self.checkpoint.folder)

    @cached_property
    def model(self) -> Any:
        """The torch model, for what needs gradients or an export; loads at first use."""
        return self._load(DTYPES[self.precision])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.tokenizer.count(texts)

    def fallback_share(self, texts: Sequence[str]) -> float:
        return self.tokenizer.fallback_share(texts)

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows. A row that has no direction even in fp32 is NaN.

        Raises ItemError("out_of_memory") where a single image does not fit.
        """
        side = self.preprocess.size_px
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"expected (N, 3, {side}, {side}) uint8, got {pixels.shape} {pixels.dtype}")
        return self._unit_rows(pixels, self._run_images, self.batch_size)

    def encode_texts(self, texts: Sequence[str]) -> Array:
        """M texts -> (M, D) float32 unit rows; a text longer than the context is cut, as open_clip does."""
        tokens = self.tokenizer.batch(texts)  # (M, L)
        lengths = self._lengths(tokens)
        rows = np.zeros((len(tokens), self.dim), np.float32)
        for length in np.unique(lengths):
            chosen = np.flatnonzero(lengths == length)
            size = max(1, TOKENS_PER_BATCH // int(length))
            rows[chosen] = self._unit_rows(tokens[chosen, :length], self._run_texts, size)
        return rows

    def _lengths(self, tokens: Array) -> Array:
        """The context each text is run with: its own length rounded up, so that it does not depend on its company."""
        from cmprompt.encoders.towers import is_trimmable

        context = tokens.shape[1]
        if not is_trimmable(self.checkpoint.model_cfg["text_cfg"]):
            return np.full(len(tokens), context)
        used = context - (tokens[:, ::-1] != 0).argmax(1)
        lengths: Array = np.minimum(context, -(-used // TEXT_BUCKET) * TEXT_BUCKET)
        return lengths

    def _unit_rows(self, inputs: Array, run: Callable[[Any, Array], Array], size: int) -> Array:
        with self._loading:  # several threads may come at once
            model = self.model
        rows = self._run_batches(inputs, lambda part: unit(run(model, part)), size)
        bad = ~np.isfinite(rows).all(1)
        if bad.any() and self.precision != "fp32":
            rows[bad] = self._run_batches(inputs[bad], lambda part: unit(run(self._model_fp32, part)), size)
        return rows

    def _run_batches(self, inputs: Array, run: Callable[[Array], Array], size: int) -> Array:
        parts = [run_in_halves(part, run, size) for part in batches(inputs, size)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _run_images(self, model: Any, pixels: Array) -> Array:
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).float().div_(255)
            mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in self._statistics)
            x = x.sub_(mean).div_(std).to(next(model.parameters()).dtype)
            rows: Array = model.encode_image(x).float().cpu().numpy()
        return rows

    def _run_texts(self, model: Any, tokens: Array) -> Array:
        import torch

        from cmprompt.encoders.towers import encode_trimmed

        with torch.inference_mode():
            ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device)
            encode = model.encode_text if tokens.shape[1] == self.context_length else lambda x: encode_trimmed(model, x)
            rows: Array = encode(ids).float().cpu().numpy()
        return rows

    @property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.preprocess.mean, self.preprocess.std

    @cached_property
    def _model_fp32(self) -> Any:
        return self._load("float32")

    def _load(self, dtype: str) -> Any:
        import torch

        from cmprompt.encoders.towers import load_towers

        if self.device == "cpu":
            # One thread for each stream: threads that share a product wait for the slowest at every layer, and where
            # something else wants a core too (decoding does) they spin there for most of the time.
            torch.set_num_threads(1)
        if self.exact:
            torch.backends.cudnn.allow_tf32 = False
        return load_towers(self.checkpoint, self.device, dtype)

    def _default_batch_size(self) -> int:
        """On a processor the fewest images that fill its matrix units, so that one image alone stays quick."""
        if self.device != "cpu":
            return 64
        vision = self.checkpoint.model_cfg["vision_cfg"]
        positions = max(1, self.preprocess.size_px // int(vision.get("patch_size", 32))) ** 2
        return max(1, min(8, 1 << (IMAGE_POSITIONS // positions).bit_length() - 1)) if positions < 400 else 1

    def _read_logit_numbers(self) -> tuple[float, float | None]:
        scale = read_scalar(self.checkpoint.weights, "logit_scale")
        if scale is None:
            raise ModelError(f"{self.checkpoint.weights} has no logit_scale, so it is not an open_clip model")
        return float(np.exp(np.float32(scale))), read_scalar(self.checkpoint.weights, "logit_bias")


def decode_path(exact: bool) -> str:
    """How the pixels come about, for the store's key."""
    from cmprompt.images import DECODE_VERSION

    return f"{DECODE_VERSION}-exact" if exact else DECODE_VERSION


def batches(inputs: Array, size: int) -> Iterator[Array]:
    """Slices of `size` rows, the last one perhaps shorter."""
    return (inputs[start : start + size] for start in range(0, len(inputs), size))


def run_in_halves(inputs: Array, run: Callable[[Array], Array], size: int) -> Array:
    """`run` on `inputs` padded to `size` rows; out of memory, on halves of it, down to one row.

    Raises ItemError("out_of_memory") where one row alone does not fit.
    """
    try:
        padding = np.zeros((size - len(inputs), *inputs.shape[1:]), inputs.dtype)
        padding[:] = inputs[:1]
        return run(np.concatenate([inputs, padding]))[: len(inputs)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if size == 1:
        raise ItemError("out_of_memory", "one item alone does not fit in memory; try --device cpu or a smaller model")
    half = -(-size // 2)
    return np.concatenate([run_in_halves(part, run, half) for part in batches(inputs, half)])


def is_out_of_memory(error: Exception) -> bool:
    """CUDA has a class for it, the CPU's allocator only a message."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "not enough memory" in text or "can't allocate" in text


def unit(rows: Array) -> Array:
    """(N, D) rows of length one; NaN where a row is not finite or has no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return np.where(np.isfinite(norms) & (norms > 0), rows / norms, np.nan).astype(np.float32)


def load(checkpoint: Checkpoint, **options: Any) -> OpenClipEncoder:
    """The registry's name for it."""
    return OpenClipEncoder(checkpoint, **options)
