"""Which pixels speak for a label: one heat map for each, in the picture's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cmprompt.encoders.devices import torch_threads
from cmprompt.errors import UsageError, unknown
from cmprompt.types import Array, Encoder, Preprocess

if TYPE_CHECKING:
    from PIL.Image import Image

Method = Literal["auto", "gradients", "occlusion"]
METHODS: tuple[Method, ...] = ("auto", "gradients", "occlusion")


@dataclass(frozen=True)
class Heat:
    """`maps` (C, h, w) float32, each from 0 to 1, over the part `box` (left, top, right, bottom) of the picture."""

    labels: tuple[str, ...]
    maps: Array
    method: str
    box: tuple[float, float, float, float]

    def on_picture(self, place: int, size: tuple[int, int]) -> Array:
        """(height, width) heat of one label for a picture of `size` (width, height); 0 where the model is blind."""
        from PIL import Image

        left, top, right, bottom = pixel_box(self.box, size)
        x, y, end_x, end_y = max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])
        across, down = right - left, bottom - top
        height, width = self.maps[place].shape
        part = ((x - left) * width / across, (y - top) * height / down,
                (end_x - left) * width / across, (end_y - top) * height / down)  # fmt: skip
        fitted = Image.fromarray(self.maps[place]).resize((end_x - x, end_y - y), Image.Resampling.BICUBIC, part)
        full = np.zeros((size[1], size[0]), np.float32)
        full[y:end_y, x:end_x] = np.clip(np.asarray(fitted), 0, 1)
        return full


def heat_of(
    encoder: Encoder,
    picture: Image,
    weight: Array,
    labels: tuple[str, ...],
    method: Method = "auto",
    shown: Array | None = None,
) -> Heat:
    """Heat maps of an upright RGB picture for the rows `shown` (K,), else all, of a linear head's `weight` (C, D).

    What is explained is a label's product less the mean of all others': what tells it from them. `auto` takes the
    gradients where the tower can be reached into, else occlusion.
    """
    from cmprompt.explain.gradients import heat_maps
    from cmprompt.explain.occlusion import OCCLUSION, occlusion_maps
    from cmprompt.images import from_frame
    from cmprompt.types import Frame

    if method not in METHODS:
        raise UsageError(unknown("method", method, METHODS))
    pixels = from_frame(Frame(np.asarray(picture)), encoder.preprocess, exact=encoder.exact).pixels
    aims = against_others(weight)
    if shown is not None:
        aims, labels = aims[shown], tuple(labels[place] for place in shown)
    found = None
    model = getattr(encoder, "model", None) if method != "occlusion" else None
    if model is not None:
        with torch_threads():
            found = heat_maps(model.visual, pixels, aims, encoder.preprocess)
    if found is None and method == "gradients":
        raise UsageError(f"the model {encoder.model_id} gives no gradients to look at; use --method occlusion")
    name, maps = found or (OCCLUSION, occlusion_maps(encoder, pixels, aims))
    return Heat(labels, _to_unit(maps), name, seen_box(picture.size, encoder.preprocess))


def against_others(weight: Array) -> Array:
    """(C, D) rows, each less the mean of the others."""
    count = len(weight)
    if count == 1:
        return weight
    aims: Array = (weight - (weight.sum(0) - weight) / (count - 1)).astype(np.float32)
    return aims


def seen_box(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float]:
    """Which part of a picture of `size` (width, height) the model sees: the middle square, all of it, or more."""
    width, height = size
    if preprocess.resize == "squash":
        return 0.0, 0.0, float(width), float(height)
    side = min(size) if preprocess.resize == "shortest" else max(size)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def pixel_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """`box` in whole pixels, at least one of a picture of `size` (width, height) among them."""
    left, top, right, bottom = (round(edge) for edge in box)
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _to_unit(maps: Array) -> Array:
    """Each map from 0 to 1; one without any heat stays 0."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    scaled: Array = ((maps - low) / np.maximum(high - low, 1e-12)).astype(np.float32)
    return scaled
