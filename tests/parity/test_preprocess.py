"""Pixels under `exact` are those of open_clip's own transform, before its normalisation."""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import Compose

from cmprompt.images import decode
from cmprompt.types import Array, Preprocess

Resize = Literal["shortest", "squash", "longest"]
SIZES = [(224, 224), (1, 1), (500, 375), (375, 500), (225, 224), (31, 33), (320, 7), (13, 200), (301, 299)]


def saved(picture: Image.Image, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format)
    return buffer.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    return noise(max(2, width // 16), max(2, height // 16)).resize((width, height), Image.Resampling.BICUBIC)


def by_open_clip(picture: Image.Image, preprocess: Preprocess) -> Array:
    config = PreprocessCfg(
        size=preprocess.size_px,
        resize_mode=preprocess.resize,
        interpolation=preprocess.interpolation,
        fill_color=preprocess.fill,
    )
    *to_pixels, _tensor, _normalise = image_transform_v2(config, is_train=False).transforms
    return np.asarray(Compose(to_pixels)(picture)).transpose(2, 0, 1)


def preprocess(resize: Resize, interpolation: Literal["bicubic", "bilinear"], size_px: int = 224) -> Preprocess:
    return Preprocess(size_px, resize, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), fill=7)


@pytest.mark.parametrize("resize", get_args(Resize))
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_exact_pixels_are_open_clips(resize: Resize, interpolation: Literal["bicubic", "bilinear"]) -> None:
    wanted = preprocess(resize, interpolation)
    for width, height in SIZES:
        picture = noise(width, height)
        ours = decode(saved(picture), wanted, exact=True).pixels
        np.testing.assert_array_equal(ours, by_open_clip(picture, wanted), err_msg=f"{width} x {height}")


@pytest.mark.parametrize("size_px", [64, 225, 256, 336])
def test_exact_holds_at_other_targets(size_px: int) -> None:
    rng = np.random.default_rng(size_px)
    for width, height in rng.integers(20, 600, (12, 2)):
        picture, wanted = noise(int(width), int(height)), preprocess("shortest", "bicubic", size_px)
        np.testing.assert_array_equal(
            decode(saved(picture), wanted, exact=True).pixels, by_open_clip(picture, wanted), err_msg=f"{picture.size}"
        )


def test_exact_jpeg_is_decoded_whole() -> None:
    data = saved(smooth(1800, 1200), "JPEG")
    wanted = preprocess("shortest", "bicubic")
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(decode(data, wanted, exact=True).pixels, by_open_clip(picture, wanted))


@pytest.mark.parametrize("resize", get_args(Resize))
@pytest.mark.parametrize("size", [(1800, 1200), (1203, 2011), (455, 449), (3001, 450), (2250, 2249)])
def test_the_fast_road_is_close(resize: Resize, size: tuple[int, int]) -> None:
    data = saved(smooth(*size), "JPEG")
    wanted = preprocess(resize, "bicubic")
    fast, exact = (decode(data, wanted, exact=exact).pixels.astype(int) for exact in (False, True))
    assert np.abs(fast - exact).mean() < 1
    assert np.abs(fast - exact).max() < 24
