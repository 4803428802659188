"""Bytes to pixels."""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cmprompt.errors import ItemError
from cmprompt.images import decode, from_frame, open_rgb
from cmprompt.types import Array, Frame, Preprocess
from tests.conftest import draw, encode

SMALL = Preprocess(32, "shortest", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


# How a picture is stored that each orientation turns upright.
STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def photo(width: int = 96, height: int = 64) -> Image.Image:
    """Smooth, coloured and different in each corner, so that a turn or a swap of channels shows."""
    y, x = np.mgrid[0:height, 0:width]
    bands = [255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 20 + y / 30)]
    return Image.fromarray(np.stack(bands, 2).astype(np.uint8))


def pixels(data: bytes, **options: Any) -> Array:
    return decode(data, SMALL, **options).pixels.astype(int)


def difference(data: bytes, like: Image.Image) -> float:
    """The mean difference of the pixels from those of the same picture as plain RGB."""
    return float(np.abs(pixels(data) - pixels(encode(like))).mean())


def status(data: bytes, **options: Any) -> str:
    with pytest.raises(ItemError) as caught:
        decode(data, SMALL, **options)
    return caught.value.status


def test_pixels_are_channels_first() -> None:
    decoded = decode(encode(draw((255, 128, 0))), SMALL)
    assert decoded.pixels.shape == (3, 32, 32) and decoded.pixels.dtype == np.uint8
    assert decoded.pixels[:, 5, 5].tolist() == [255, 128, 0] and decoded.flags == ()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_agree(file_format: str) -> None:
    assert difference(encode(photo(), file_format), photo()) == 0


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_are_close(file_format: str) -> None:
    assert difference(encode(photo(), file_format, quality=95), photo()) < 3


def test_gif_is_close() -> None:
    assert difference(encode(photo().quantize(256), "GIF"), photo()) < 8


def test_heic_is_read_where_the_extra_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo()).save(buffer, quality=95)
    assert difference(buffer.getvalue(), photo()) < 4


def test_the_content_decides_not_the_name() -> None:
    assert difference(encode(photo(), "TIFF"), photo()) == 0  # decode is never told a name


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LAB"])
def test_modes_become_rgb(mode: str) -> None:
    picture = _converted(mode)
    like = photo() if mode in ("CMYK", "YCbCr", "LAB") else picture.convert("RGB")
    assert difference(encode(picture, "TIFF"), like) < 4


def _converted(mode: str) -> Image.Image:
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        lab = ImageCms.applyTransform(photo(), to_lab)
        assert lab is not None
        return lab
    return photo().convert(mode)


def test_cmyk_jpeg_is_converted() -> None:
    assert difference(encode(photo().convert("CMYK"), "JPEG", quality=98), photo()) < 4


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(file_format: str) -> None:
    grey = photo().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert difference(encode(deep, file_format), grey) == 0


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_floats_are_scaled_by_their_range(scale: float) -> None:
    grey = photo().convert("L")
    floats = Image.fromarray((np.asarray(grey) * scale).astype(np.float32))
    assert difference(encode(floats, "TIFF"), grey) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_over_white(mode: str) -> None:
    half = photo().convert("L").convert(mode) if mode == "LA" else photo().convert("RGBA")
    half.putalpha(Image.linear_gradient("L").resize(half.size))
    white = Image.new("RGBA", half.size, "white")
    expected = Image.alpha_composite(white, half.convert("RGBA")).convert("RGB")
    data = encode(half.quantize(256), "PNG") if mode == "PA" else encode(half)
    assert difference(data, expected) < (8 if mode == "PA" else 1)


def test_one_transparent_colour_is_white() -> None:
    red = Image.new("RGB", (40, 40), "red")
    assert decode(encode(red, transparency=(255, 0, 0)), SMALL).pixels.min() == 255
    assert decode(encode(red.quantize(4), transparency=0), SMALL).pixels.min() == 255
    assert decode(encode(Image.new("L", (40, 40), 7), transparency=7), SMALL).pixels.min() == 255


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    stored = photo().transpose(STORED_BY[orientation]) if orientation > 1 else photo()
    data = encode(stored, file_format, exif=exif_with(orientation), quality=95)
    assert difference(data, photo()) < 3


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_reduced_and_turned_jpeg_keeps_its_crop(orientation: int) -> None:
    upright = photo(701, 1203)
    data = encode(upright.transpose(STORED_BY[orientation]), "JPEG", exif=exif_with(orientation), quality=95)
    assert difference(data, upright) < 1


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_a_broken_exif_block_is_passed_over(exif: bytes) -> None:
    assert difference(encode(photo(), "JPEG", exif=exif, quality=95), photo()) < 3


def test_warnings_of_pillow_do_not_leak() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(encode(draw(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), SMALL)
    assert caught == []


def test_log_lines_of_pillow_do_not_reach_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encode(draw(), "TIFF"))
    at = data.index(b"\x15\x01\x03\0")  # samples per pixel
    data[at + 8 : at + 10] = b"\xff\xff"
    assert status(bytes(data)) == "unreadable"
    assert capfd.readouterr().err == ""


def test_libtiff_does_not_print(capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(photo(), "TIFF", compression="tiff_lzw")
    assert status(data[: len(data) // 2]) == "truncated"
    assert capfd.readouterr().err == ""


def test_a_picture_of_one_pixel_and_a_very_long_one() -> None:
    assert np.unique(pixels(encode(draw("red", (1, 1))))[0]).tolist() == [255]
    assert np.unique(pixels(encode(draw("blue", (1, 20000))))[2]).tolist() == [255]
    assert np.unique(pixels(encode(draw("blue", (20000, 1))), exact=True)[2]).tolist() == [255]


def test_a_frame_is_what_the_same_picture_is() -> None:
    frame = Frame(np.asarray(photo()))
    np.testing.assert_array_equal(from_frame(frame, SMALL).pixels, decode(encode(photo()), SMALL).pixels)


def test_open_rgb_gives_the_upright_picture() -> None:
    assert open_rgb(encode(draw("red", (90, 60)), "JPEG", exif=exif_with(6))).size == (60, 90)
    assert open_rgb(encode(draw("red", (1600, 1200)), "JPEG"), least_px=100).size == (200, 150)


def test_a_lower_cap_refuses_from_the_header() -> None:
    assert status(encode(draw("red", (100, 100))), max_pixels=9999) == "too_large"
    assert decode(encode(draw("red", (100, 100))), SMALL, max_pixels=10000).flags == ()


def test_threads_get_the_same_pixels() -> None:
    files = [encode(photo(90 + i, 70), file_format) for i, file_format in enumerate(["JPEG", "PNG", "WEBP", "TIFF"])]
    alone = [decode(data, SMALL).pixels for data in files]
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(
            i for _ in range(20) for i, data in enumerate(files) if (decode(data, SMALL).pixels != alone[i]).any()
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
