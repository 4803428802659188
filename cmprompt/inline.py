"""A picture as bytes, or inside a page that stands alone."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

TALLEST_JPEG_PX = 65_500  # libjpeg's limit


def to_png(picture: Image) -> bytes:
    """PNG bytes."""
    return _encoded(picture, "PNG")


def data_url(picture: Image, quality: int = 80) -> str:
    """What an `img` shows without a file: a JPEG, whose colours are halved in size below quality 90; a PNG where the
    picture is too tall for one."""
    if picture.height > TALLEST_JPEG_PX:
        kind, data = "png", to_png(picture)
    else:
        sampling = 0 if quality >= 90 else 2  # 4:4:4, 4:2:0
        kind, data = "jpeg", _encoded(picture.convert("RGB"), "JPEG", quality=quality, subsampling=sampling)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _encoded(picture: Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
