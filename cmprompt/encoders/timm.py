"""Any timm network as frozen image features: its last feature map or tokens, averaged.

VGG16 gives its last convolution, 7 x 7 x 512 at 224 px, averaged to 512. The planes behind that are left out.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cmprompt.encoders.batches import Batched
from cmprompt.encoders.devices import cores, pick_device
from cmprompt.encoders.torch import normalised
from cmprompt.encoders.trunks import places, pooled
from cmprompt.errors import ModelError, UnknownModel, UsageError, unknown
from cmprompt.types import Array, Preprocess

WEIGHTS = "model.safetensors"
MOST_IMAGES = 16  # at once; on a processor one for each core, so that one alone waits for no more than itself
RANDOM = "random"  # `timm:vgg16/random`: seeded random weights, for trying things out without a download


class TimmImages:
    """`timm:NAME`; `NAME/random` has seeded random weights, `NAME/128px` sees pictures of that size.

    Every batch has one fixed shape, as in `OpenClipEncoder`.
    """

    def __init__(
        self,
        name: str = "",
        device: str = "auto",
        batch_size: int | None = None,
        weights: Mapping[str, Array] | None = None,
    ) -> None:
        """Raises UnknownModel for a network that timm does not have, UsageError for an option or device."""
        from timm import is_model

        self.name, *options = name.split("/")
        if not is_model(self.name):
            from timm import list_models

            raise UnknownModel(
                unknown("timm network", self.name, list_models(), listed_by="timm.list_models() gives their names")
            )
        self.options = options
        self.random = RANDOM in options
        self.size_px = _size_px(name, [option for option in options if option != RANDOM])
        self.weights = weights
        self.device = pick_device(device)
        self.batch_size = batch_size or (min(MOST_IMAGES, cores()) if self.device == "cpu" else MOST_IMAGES)

    @cached_property
    def model(self) -> Any:
        """The torch module, in evaluation mode. Raises ModelError where its weights cannot be had."""
        return self._load().eval().requires_grad_(False).to(self.device)

    @cached_property
    def preprocess(self) -> Preprocess:
        """As the network's own configuration says."""
        from timm.data import resolve_data_config

        found = resolve_data_config({}, model=self.model)
        return Preprocess(
            size_px=self.size_px or found["input_size"][-1],
            resize="shortest",
            interpolation="bicubic" if found["interpolation"] == "bicubic" else "bilinear",
            mean=tuple(found["mean"]),
            std=tuple(found["std"]),
        )

    @cached_property
    def dim(self) -> int:
        """D of the features, from one empty picture: what networks say of themselves may be that of their head."""
        side = self.preprocess.size_px
        return int(self._rows(np.zeros((1, 3, side, side), np.uint8)).shape[1])

    @cached_property
    def model_id(self) -> str:
        """The name, the size of the pictures and a hash of every weight."""
        digest = hashlib.sha256(str(self.size_px or "").encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return f"timm-{self.name}@{digest.hexdigest()[:12]}"

    @property
    def store_key(self) -> str:
        """The pair that it is a side of says how its pixels come about."""
        return f"{self.model_id}/fp32/torch-{self.device.split(':')[0]}"

    def encode_images(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32 unit rows."""
        rows = self.encode_raw(pixels)
        unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def encode_raw(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, D) float32, as the network gives them.

        Raises ItemError("out_of_memory") where a single image does not fit.
        """
        return self._rows_in_batches(pixels)

    @cached_property
    def _rows_in_batches(self) -> Batched:
        return Batched(self._rows, self.batch_size)

    @cached_property
    def _tokens_in_batches(self) -> Batched:
        return Batched(self._tokens, self.batch_size)

    def _rows(self, pixels: Array) -> Array:
        import torch

        model = self.model
        with torch.inference_mode():
            rows: Array = pooled(model, model.forward_features(self._normalised(pixels))).float().cpu().numpy()
        return rows

    def encode_image_tokens(self, pixels: Array) -> Array:
        """(N, 3, H, W) uint8 -> (N, 1 + P, D) float32 unit rows: the pooled vector, then each place of the last map.

        Raises UsageError for a network whose features have no places.
        """
        return self._tokens_in_batches(pixels)

    def _tokens(self, pixels: Array) -> Array:
        import torch

        model = self.model  # loads outside inference mode, where its weights could not be trained later
        with torch.inference_mode():
            features = model.forward_features(self._normalised(pixels))
            rows = torch.cat([pooled(model, features)[:, None], places(model, features)], 1)
            unit: Array = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
        return unit

    def _normalised(self, pixels: Array) -> Any:
        import torch

        return normalised(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device), self.preprocess)

    def image_tower(self) -> Any:
        """A network of its own to train: normalised (N, 3, H, W) -> (N, D)."""
        import torch

        class Tower(torch.nn.Module):
            def __init__(self, trunk: Any) -> None:
                super().__init__()
                self.trunk = trunk

            def forward(self, x: Any) -> Any:
                return pooled(self.trunk, self.trunk.forward_features(x))

        return Tower(deepcopy(self.model)).eval()

    def with_image_tower(self, weights: Mapping[str, Array], digest: str) -> TimmImages:
        """The same with the weights of a trained `image_tower`; their hash is part of `model_id` as all weights are."""
        return TimmImages("/".join([self.name, *self.options]), self.device, self.batch_size, weights)

    def _load(self) -> Any:
        import torch

        if self.weights is not None:
            return self._filled({key.removeprefix("trunk."): value for key, value in self.weights.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                return self._built(None if self.random else _published_weights(self.name))
            except (OSError, RuntimeError) as error:
                raise ModelError(f"the weights of timm:{self.name} cannot be had: {error}") from error

    def _built(self, weights: Path | None = None) -> Any:
        import timm
        import torch

        published = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}} if weights else {}
        model = timm.create_model(self.name, num_classes=0, **published)
        if hasattr(model, "pre_logits"):  # planes of 103 million weights in VGG16, which its features do not pass
            model.pre_logits = torch.nn.Identity()
        return model

    def _filled(self, weights: Mapping[str, Array]) -> Any:
        """With these weights, nothing downloaded. Raises ModelError where they do not fit."""
        import torch

        from cmprompt.encoders.towers import has_meta

        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        with torch.device("meta"):
            model = self._built()
        try:
            model.load_state_dict(tensors, assign=True)
            if has_meta(model):  # what no file carries has to be computed
                model = self._built()
                model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(f"the saved weights do not fit timm:{self.name}: {error}") from error
        return model


def _published_weights(name: str) -> Path:
    """The safetensors that timm's own table names, from the Hugging Face cache or the hub. Raises ModelError."""
    from timm.models import get_pretrained_cfg

    from cmprompt.hub import find_cached
    from cmprompt.hub.download import Hub

    found: Any = get_pretrained_cfg(name)
    repo = str(found.hf_hub_id or "") if found else ""
    if not repo:
        raise ModelError(f"timm publishes no safetensors of {name}; timm:{name}/{RANDOM} has untrained weights")
    if here := find_cached(repo, WEIGHTS):
        return here
    hub = Hub(sys.stderr.isatty(), otherwise=f"Without a network, timm:{name}/{RANDOM} (untrained) and classic work")
    commit, files = hub.list_files(repo, None, f"timm:{name}")
    if WEIGHTS not in files:
        raise ModelError(f"{repo} has no {WEIGHTS}; timm:{name}/{RANDOM} has untrained weights")
    return hub.fetch(repo, commit, files[WEIGHTS])


def _size_px(name: str, options: list[str]) -> int | None:
    """The size that the name asks for, None for the network's own."""
    found = re.fullmatch(r"(\d+)px", options[0]) if len(options) == 1 else None
    if options and found is None:
        raise UsageError(f"timm:{name}: after the network's name may stand /random and a size such as /128px")
    return int(found[1]) if found else None
