"""Bytes to pixels: the one place where untrusted bytes are decoded, and where the caps live.

Every failure is an `ItemError` with a status of the closed list; no other exception leaves, whatever the bytes.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
import warnings
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from cmprompt.errors import ItemError
from cmprompt.images.colour import to_rgb
from cmprompt.images.formats import ALLOWED, completed, is_cut_short, repaired, sniff
from cmprompt.images.resize import fit
from cmprompt.types import MAX_FILE_BYTES, Array, Frame, Preprocess

DECODE_VERSION = f"1-pillow{PIL.__version__.split('.')[0]}"
MAX_PIXELS = 178_956_970  # where Pillow's own bomb check, which stays on, refuses too

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset(_UPRIGHT[tag] for tag in (5, 6, 7, 8))
_MIRRORS_X = frozenset(_UPRIGHT[tag] for tag in (2, 3, 6, 7))
_MIRRORS_Y = frozenset(_UPRIGHT[tag] for tag in (3, 4, 7, 8))
# Pillow imports all its plugins when asked for one that it has not loaded; these cost only themselves.
_PLUGINS = {"TIFF": "PIL.TiffImagePlugin", "WEBP": "PIL.WebPImagePlugin", "AVIF": "PIL.AvifImagePlugin"}
_HUSHED = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif"), 0)
_PILLOWS_LOGGER = logging.getLogger("PIL")
_STILL = frozenset({"MPO"})  # a photo with a depth map or a second view is not an animation


@dataclass(frozen=True)
class Decoded:
    """`pixels` (3, size_px, size_px) uint8 RGB, and what the record should say about them."""

    pixels: Array
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Picture:
    """An upright RGB picture; `full_size` (width, height) is its size before the decoder reduced it.

    `is_mirrored` (x, y): whether turning it upright put its right edge left, its lower edge on top.
    """

    image: Image.Image
    full_size: tuple[int, int]
    flags: tuple[str, ...]
    is_mirrored: tuple[bool, bool] = (False, False)


def decode(
    data: bytes,
    preprocess: Preprocess,
    *,
    exact: bool = False,
    allow_truncated: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Decoded:
    """File bytes to pixels. A JPEG is decoded at a reduced scale of at least twice the target, unless `exact`.

    Raises ItemError: unreadable, truncated, unsupported, too_large, out_of_memory.
    """
    least_px = None if exact else 2 * preprocess.size_px
    picture = _upright(data, least_px, allow_truncated, max_pixels)
    square = fit(picture.image, preprocess, full_size=picture.full_size, is_mirrored=picture.is_mirrored, exact=exact)
    return Decoded(_channels_first(square), picture.flags)


def from_frame(frame: Frame, preprocess: Preprocess, *, exact: bool = False) -> Decoded:
    """A decoded frame, (H, W, 3) uint8, to pixels. Raises ItemError where it has none."""
    if not frame.pixels.size:
        raise ItemError("unreadable", f"a picture of {frame.pixels.shape[1]} x {frame.pixels.shape[0]} pixels")
    image = Image.fromarray(np.ascontiguousarray(frame.pixels))
    return Decoded(_channels_first(fit(image, preprocess, exact=exact)))


def open_rgb(data: bytes, *, least_px: int | None = None) -> Image.Image:
    """The upright RGB picture, for reports and explanations; a JPEG may come smaller, its short side >= `least_px`.

    Raises ItemError as `decode` does.
    """
    return _upright(data, least_px, allow_truncated=False, max_pixels=MAX_PIXELS).image


def decode_path(exact: bool) -> str:
    """How the pixels come about, for the store's key."""
    return f"{DECODE_VERSION}-exact" if exact else DECODE_VERSION


def _channels_first(square: Image.Image) -> Array:
    pixels: Array = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))  # (3, H, W)
    return pixels


def _upright(data: bytes, least_px: int | None, allow_truncated: bool, max_pixels: int) -> _Picture:
    """Decode, and turn whatever goes wrong into an ItemError."""
    name = _allowed_format(data)
    _hush_pillow()
    try:
        return _decode_or_repair(name, data, least_px, max_pixels)
    except ItemError:
        raise
    except MemoryError as error:
        raise ItemError("out_of_memory", f"not enough memory to decode this {name}") from error
    except Image.DecompressionBombError as error:
        raise ItemError("too_large", str(error)) from error
    except Exception as error:  # a decoder fed with hostile bytes raises anything
        if not (is_cut_short(name, data) or "truncated" in str(error)):
            raise ItemError("unreadable", f"broken {name}: {_reason(error)}") from error
        if not allow_truncated:
            raise ItemError("truncated", f"the end of this {name} is missing") from error
    return _salvaged(name, data, least_px, max_pixels)


def _decode_or_repair(name: str, data: bytes, least_px: int | None, max_pixels: int) -> _Picture:
    try:
        return _decode(name, data, least_px, max_pixels)
    except (OSError, SyntaxError, ValueError):
        if (fixed := repaired(name, data)) is None:
            raise
    return _decode(name, fixed, least_px, max_pixels)


def _reason(error: Exception) -> str:
    """What the decoder says, without the memory address that Pillow puts into it: runs must give the same bytes."""
    return "its header makes no sense" if isinstance(error, PIL.UnidentifiedImageError) else str(error)


def _allowed_format(data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise ItemError("too_large", f"{len(data)} bytes; the cap is {MAX_FILE_BYTES}")
    name = sniff(data)
    if name is None:
        raise ItemError("unreadable", "not a picture" if data else "the file is empty")
    if name.endswith("video"):
        how = "classify, embed and index read files named as one (clip.mp4), with the extra [video]"
        raise ItemError("unsupported", f"a video is not read here; {how}")
    if name not in ALLOWED:
        raise ItemError("unsupported", f"{name} is not read; convert it to JPEG or PNG")
    return name


def _salvaged(name: str, data: bytes, least_px: int | None, max_pixels: int) -> _Picture:
    """What there is of a cut file, flagged; Pillow's global switch for this would concern every thread."""
    whole = completed(name, data)
    try:
        picture = _decode(name, whole or data, least_px, max_pixels, partial=whole is None)
    except ItemError:
        raise
    except Exception as error:
        raise ItemError("truncated", f"too little is left of this {name}: {_reason(error)}") from error
    return replace(picture, flags=("truncated", *picture.flags))


def _decode(name: str, data: bytes, least_px: int | None, max_pixels: int, partial: bool = False) -> _Picture:
    image = _open(name, data)
    width, height = image.size
    if width * height > max_pixels:
        raise ItemError("too_large", f"{width} x {height} pixels; the cap is {max_pixels}")
    reduced = least_px is not None and name == "JPEG" and image.draft(None, (least_px, least_px)) is not None
    _load(image, partial)
    rgb = to_rgb(image)
    turn = _turn(image)
    flags = ("first_frame",) if _is_animated(image) else ()
    full_size = (width, height) if reduced else rgb.size
    if turn is None:
        return _Picture(rgb, full_size, flags)
    full_size = full_size[::-1] if turn in _SIDEWAYS else full_size
    return _Picture(rgb.transpose(turn), full_size, flags, (turn in _MIRRORS_X, turn in _MIRRORS_Y))


def _open(name: str, data: bytes) -> Image.Image:
    """The header only; nothing is decoded yet."""
    if name == "HEIF":
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            raise ItemError("unsupported", "HEIC needs an extra: pip install 'cmprompt[heic]'") from error
        return HeifImageFile(io.BytesIO(data))  # type: ignore[no-any-return]
    if name in _PLUGINS:
        import_module(_PLUGINS[name])
    if name == "TIFF":
        _hush_libtiff()
    return Image.open(io.BytesIO(data), formats=(name,))


def _load(image: Image.Image, partial: bool) -> None:
    try:
        image.load()
    except Exception:
        if not partial:
            raise
        image.tile = []  # type: ignore[attr-defined]  # keeps Pillow from decoding again what it has
        image.load()


def _is_animated(image: Image.Image) -> bool:
    try:
        return image.format not in _STILL and bool(getattr(image, "is_animated", False))
    except Exception:  # a broken second frame: there is more than one
        return True


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What its EXIF asks for; an EXIF block that cannot be read asks for nothing."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return None


def _hush_pillow() -> None:
    """Pillow's warnings and log lines about a file's oddities are not ours to show.

    One lasting filter for its modules: `warnings.catch_warnings` swaps global state and races between threads.
    """
    if not warnings.filters or warnings.filters[0] != _HUSHED:
        warnings.filterwarnings("ignore", module=_HUSHED[3].pattern)
    if not _PILLOWS_LOGGER.handlers:  # without one, Python prints to stderr
        _PILLOWS_LOGGER.addHandler(logging.NullHandler())


@cache
def _hush_libtiff() -> None:
    """libtiff prints to stderr by itself; where Pillow's wheel brings it along, it can be told not to."""
    for library in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*.so*"):
        libtiff = ctypes.CDLL(str(library))
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
