"""From a picture of any size to the square a checkpoint wants, with the crop as the resize's own box.

The geometry is that of open_clip's transform (torchvision's `Resize` and `CenterCrop`, timm's `ResizeKeepRatio`).
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from cmprompt.types import Preprocess

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
_MAX_WHOLE_PX = 1 << 24  # up to here the whole picture may be resized before it is cropped


@dataclass(frozen=True)
class Plan:
    """Resize the whole picture to `whole` (width, height), then take `crop` (left, top, right, bottom) of that."""

    whole: tuple[int, int]
    crop: tuple[int, int, int, int]


def plan(width: int, height: int, preprocess: Preprocess) -> Plan:
    """What to do with a picture of `width` x `height`; a crop beyond the picture is padding."""
    size = preprocess.size_px
    if preprocess.resize == "squash":
        whole = (size, size)
    elif preprocess.resize == "longest":
        ratio = max(width, height) / size
        whole = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    else:
        short, long = min(width, height), max(width, height)
        stretched = int(size * long / short)
        whole = (size, stretched) if width <= height else (stretched, size)
    left, top = _offset(whole[0], size), _offset(whole[1], size)
    return Plan(whole, (left, top, left + size, top + size))


def _offset(length: int, size: int) -> int:
    """Where a centred crop begins; negative for the padding before a length below `size`."""
    return -((size - length) // 2) if length < size else round((length - size) / 2.0)


def fit(
    image: Image.Image,
    preprocess: Preprocess,
    *,
    full_size: tuple[int, int] | None = None,
    is_mirrored: tuple[bool, bool] = (False, False),
    exact: bool = False,
) -> Image.Image:
    """`image` (RGB) as the square that `preprocess` asks for.

    `full_size` (width, height): the size before a decoder reduced `image` by 2, 4 or 8, which decides the geometry.
    `is_mirrored` (x, y): whether it was turned since, so that the pixel which is only partly covered comes first.
    `exact` resizes in two steps as open_clip does, where the picture between them is of bounded size.
    """
    width, height = full_size or image.size
    todo = plan(width, height, preprocess)
    method = _FILTERS[preprocess.interpolation]
    if exact and todo.whole[0] * todo.whole[1] <= _MAX_WHOLE_PX:
        return _padded(image.resize(todo.whole, method), todo.crop, preprocess.fill)
    reduced = round(width / image.width)
    left, top = max(todo.crop[0], 0), max(todo.crop[1], 0)
    right, bottom = min(todo.crop[2], todo.whole[0]), min(todo.crop[3], todo.whole[1])
    scale_x, scale_y = width / todo.whole[0] / reduced, height / todo.whole[1] / reduced
    first_x = image.width - width / reduced if is_mirrored[0] else 0
    first_y = image.height - height / reduced if is_mirrored[1] else 0
    box = (
        first_x + left * scale_x,
        first_y + top * scale_y,
        min(first_x + right * scale_x, image.width),
        min(first_y + bottom * scale_y, image.height),
    )
    square = image.resize((right - left, bottom - top), method, box=box)
    return _padded(square, _moved(todo.crop, left, top), preprocess.fill)


def _moved(crop: tuple[int, int, int, int], left: int, top: int) -> tuple[int, int, int, int]:
    return crop[0] - left, crop[1] - top, crop[2] - left, crop[3] - top


def _padded(image: Image.Image, crop: tuple[int, int, int, int], fill: int) -> Image.Image:
    """`crop` of the picture; what of it lies outside is filled."""
    if crop[0] >= 0 and crop[1] >= 0 and crop[2] <= image.width and crop[3] <= image.height:
        return image if crop == (0, 0, *image.size) else image.crop(crop)
    size = crop[2] - crop[0]
    canvas = Image.new("RGB", (size, size), (fill, fill, fill))
    canvas.paste(image, (-crop[0], -crop[1]))
    return canvas
