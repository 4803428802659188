"""Any timm network as frozen image features: its last feature map or tokens, averaged, as unit vectors."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np

from cmprompt.encoders.devices import pick_device
from cmprompt.errors import ModelError
from cmprompt.types import Array, Preprocess

RANDOM = "/random"  # `timm:vgg16/random`: seeded random weights, for trying things out without a download


class TimmImages:
    """`timm:NAME`. VGG16 gives its last convolution 7 x 7 x 512 averaged to 512."""

    def __init__(self, name: str, device: str = "auto") -> None:
        from timm import is_model

        self.name, self.random = name.removesuffix(RANDOM), name.endswith(RANDOM)
        if not is_model(self.name):
            from timm import list_models

            from cmprompt.errors import unknown

            raise ModelError(unknown("timm network", self.name, list_models()))
        self.device = pick_device(device)

    @cached_property
    def model(self) -> Any:
        """The torch module, in evaluation mode. Raises ModelError where its weights cannot be had."""
        import timm
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                model = timm.create_model(self.name, pretrained=not self.random, num_classes=0)
            except (OSError, RuntimeError) as error:
                raise ModelError(f"the weights of timm:{self.name} cannot be had: {error}") from error
        return model.eval().requires_grad_(False).to(self.device)

    @cached_property
    def preprocess(self) -> Preprocess:
        """As the network's own configuration says."""
        from timm.data import resolve_data_config

        found = resolve_data_config({}, model=self.model)
        return Preprocess(
            size_px=found["input_size"][-1],
            resize="shortest",
            interpolation="bicubic" if found["interpolation"] == "bicubic" else "bilinear",
            mean=tuple(found["mean"]),
            std=tuple(found["std"]),
        )

    @cached_property
    def dim(self) -> int:
        """D of the features, from one empty picture: what networks say of themselves may be that of their head."""
        import torch

        side = self.preprocess.size_px
        with torch.inference_mode():
            empty = self.model.forward_features(torch.zeros(1, 3, side, side, device=self.device))
            return int(pooled(self.model, empty).shape[1])

    @cached_property
    def model_id(self) -> str:
        """The name and a hash of every weight."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return f"timm-{self.name}@{digest.hexdigest()[:12]}"

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows."""
        import torch

        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.preprocess.mean, self.preprocess.std))
        with torch.inference_mode():
            x = (torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255 - mean) / std
            rows = pooled(self.model, self.model.forward_features(x.to(self.device))).float().cpu().numpy()
        unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def pooled(model: Any, features: Any) -> Any:
    """(N, D) of a feature map (N, D, H, W) or (N, H, W, D), or of tokens (N, T, D) as the network itself pools them."""
    if features.ndim == 4:
        last = features.shape[-1] == model.num_features and features.shape[1] != model.num_features
        return features.mean((1, 2) if last else (2, 3))
    if features.ndim == 3:
        return model.forward_head(features, pre_logits=True)
    return features
