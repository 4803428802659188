"""A model's towers run by torch: on any device, for every tower, and whatever needs gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cmprompt.encoders.weights import Checkpoint
from cmprompt.errors import ModelError
from cmprompt.types import Array, Preprocess

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class TorchTowers:
    """The open_clip model on `device` in one precision, its image tower compiled on request.

    Raises ModelError where the weights do not fit it, or where torch cannot compile.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        precision: str,
        exact: bool = False,
        image_weights: Mapping[str, Array] | None = None,
        compiled: bool = False,
    ) -> None:
        import torch

        from cmprompt.encoders.towers import fill_image_tower, load_towers

        if exact:
            torch.backends.cudnn.allow_tf32 = False
        self.device = device
        self.preprocess = checkpoint.preprocess
        self.context_length = int(checkpoint.model_cfg["text_cfg"].get("context_length", 77))
        self.model = load_towers(checkpoint, device, DTYPES[precision])
        if image_weights is not None:
            fill_image_tower(self.model, image_weights)
        if device.startswith("cuda"):
            self.model.to(memory_format=torch.channels_last)
        self._encode_image = compile_for_one_shape(self.model.encode_image) if compiled else self.model.encode_image

    def image_tokens(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, 1 + P, D) float32 unit rows, the pooled vector first."""
        from cmprompt.encoders.tokens import image_tokens

        with self._inference():
            x = normalised(self._sent(pixels), self.preprocess).to(next(self.model.parameters()).dtype)
            return _unit(image_tokens(self.model.visual, x))

    def text_tokens(self, tokens: Array) -> Array:
        """(M, L) int64 -> (M, 1 + L, D) float32 unit rows, the pooled vector first, zero where there is no word."""
        import torch

        from cmprompt.encoders.tokens import text_tokens

        with self._inference():
            return _unit(text_tokens(self.model, torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device)))

    def images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32, not normalised."""
        with self._inference():
            x = normalised(self._sent(pixels), self.preprocess)
            rows: Array = self._encode_image(x.to(next(self.model.parameters()).dtype)).float().cpu().numpy()
        return rows

    def _inference(self) -> Any:
        """No gradients, and on a processor one thread for each stream.

        Threads that share a product wait for the slowest at every layer, and where something else wants a core too
        (decoding does) they spin there for most of the time.
        """
        import torch

        if self.device == "cpu":
            torch.set_num_threads(1)
        return torch.inference_mode()

    def _sent(self, pixels: Array) -> Any:
        """The bytes on the device; to a GPU from pinned memory and without waiting, in the order its kernels like."""
        import torch

        x = torch.from_numpy(np.ascontiguousarray(pixels))
        if not self.device.startswith("cuda"):
            return x.to(self.device)
        return x.pin_memory().to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def texts(self, tokens: Array) -> Array:
        """(M, L) int64, perhaps trimmed -> (M, D) float32, not normalised."""
        import torch

        with self._inference():
            ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device)
            rows: Array = encode_tokens(self.model, ids, self.context_length).float().cpu().numpy()
        return rows


def compile_for_one_shape(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What torch.compile makes of it at its first call, since batches have one shape. Raises ModelError there."""
    import torch
    from torch._dynamo.exc import TorchDynamoException

    compiled = torch.compile(function, dynamic=False)

    def call(x: Any) -> Any:
        try:
            return compiled(x)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"--compile: torch cannot compile this model here ({reason}); leave it out") from error

    return call


def _unit(rows: Any) -> Array:
    """Rows of length one along the last axis; zero rows stay zero."""
    from torch.nn import functional

    unit: Array = functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def normalised(pixels: Any, preprocess: Preprocess) -> Any:
    """(N, 3, H, W) uint8 -> float32 as the checkpoint was trained on."""
    import torch

    mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return (pixels.float() / 255 - mean) / std


def encode_tokens(model: Any, tokens: Any, context_length: int) -> Any:
    """(M, L) tokens through the text tower, its own way where they fill the context."""
    from cmprompt.encoders.towers import encode_trimmed

    whole = tokens.shape[1] == context_length
    return model.encode_text(tokens) if whole else encode_trimmed(model, tokens)
