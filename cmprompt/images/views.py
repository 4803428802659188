"""Views of a picture: the one that is classified, and random crops and flips of it to train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image

from cmprompt import images
from cmprompt.reading import content_hash
from cmprompt.types import Array, Frame, Item, Preprocess

LEAST_PART = 0.35  # of the picture's area in a crop; smaller ones often miss what the label names
STRETCH = 4 / 3  # the most that a crop is wider than high, or higher than wide
TRIES = 10  # for a crop that fits into the picture


def plain_view(item: Item, preprocess: Preprocess, *, exact: bool = False) -> Array:
    """(3, H, W) uint8 as `embed` would have it. Raises OSError, ItemError."""
    assert item.image is not None
    data = item.image()
    if isinstance(data, Frame):
        return images.from_frame(data, preprocess, exact=exact).pixels
    return images.decode(data, preprocess, exact=exact).pixels


def random_view(data: bytes | Frame, preprocess: Preprocess, dice: np.random.Generator) -> Array:
    """(3, H, W) uint8: a crop of random size, shape and place, mirrored half of the time (Szegedy et al. 2015).

    Raises ItemError.
    """
    picture = _picture(data, preprocess)
    crop = picture.crop(_box(picture.width, picture.height, dice))
    if dice.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return images.from_frame(Frame(np.asarray(crop)), replace(preprocess, resize="squash")).pixels


def views_of(item: Item, preprocess: Preprocess, count: int, seed: int) -> Iterator[Item]:
    """`count` random views of a picture as items of their own, the same for the same bytes and seed."""
    read = item.image
    assert read is not None

    def view(number: int) -> Frame:
        data = read()
        content = int.from_bytes(content_hash(data)[:8], "big")
        pixels = random_view(data, preprocess, np.random.default_rng((seed, number, content)))
        return Frame(pixels.transpose(1, 2, 0))

    return (Item(f"{item.id} (view {number + 1})", partial(view, number)) for number in range(count))


def _picture(data: bytes | Frame, preprocess: Preprocess) -> Image.Image:
    if isinstance(data, Frame):
        return Image.fromarray(np.ascontiguousarray(data.pixels))
    return images.open_rgb(data, least_px=2 * preprocess.size_px)


def _box(width: int, height: int, dice: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom); the whole picture where no crop of these shapes fits into it."""
    for _ in range(TRIES):
        area = width * height * dice.uniform(LEAST_PART, 1.0)
        ratio = np.exp(dice.uniform(-np.log(STRETCH), np.log(STRETCH)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(dice.integers(0, width - w + 1)), int(dice.integers(0, height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height
