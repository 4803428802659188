"""Every mode a picture can come in, to RGB: alpha over white, deep greys scaled rather than clipped. ICC is ignored."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cmprompt.types import Array


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` itself where it is plain RGB already."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), image.info.get("transparency")))
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    try:
        rgba = image.convert("RGBA")
    except ValueError:  # a transparent colour that the mode cannot hold: nothing is transparent
        return image.convert("RGB")
    canvas = Image.new("RGB", rgba.size, "white")
    canvas.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    return canvas


def _eight_bits(values: Array, transparent: object) -> Array:
    """(H, W) of 16 or 32 bits or floats -> uint8.

    16 bits span 0 to 65535. Wider types have no agreed white: 0 to 1, to 255 or to 65535, whichever holds the values,
    else their own range.
    """
    white = values == transparent if isinstance(transparent, int) else None
    if values.dtype.itemsize == 2 and values.dtype.kind == "u":
        grey = (np.minimum(values, 65407) + 128) // 257  # rounds v / 257 without leaving 16 bits
    else:
        low, high = _range(values)
        grey = (np.nan_to_num(values.astype(np.float32)).clip(low, high) - low) * np.float32(255 / (high - low)) + 0.5
    grey = grey.astype(np.uint8)
    if white is not None:
        grey[white] = 255
    return grey


def _range(values: Array) -> tuple[float, float]:
    """Black and white of values without a fixed range."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low >= 0:
        ceilings = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        return 0.0, next((c for c in ceilings if high <= c), high)
    return low, max(high, low + 1.0)
