"""Pictures that are broken, hostile or odd: each has a status of the closed list, or pixels."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from cmprompt.errors import STATUSES, ItemError
from cmprompt.images import decode
from cmprompt.images.formats import repaired, sniff
from cmprompt.sources import read_items
from cmprompt.types import Preprocess
from tests.conftest import draw, encode

SMALL = Preprocess(32, "shortest", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def outcome(data: bytes, **options: Any) -> tuple[str, ...]:
    """The status, and the flags of what was decoded."""
    try:
        return "ok", *decode(data, SMALL, **options).flags
    except ItemError as error:
        return (error.status,)


def noisy(width: int = 160, height: int = 120, mode: str = "RGB") -> Image.Image:
    bands = {"RGB": (3,), "L": ()}[mode]
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, *bands), np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello, I am a text\n", b"<!doctype html><html><p>not found", b"\0" * 100, b"P", b"BM",
        b"BMW makes cars, and this is a text about them", b"#define MAX_WIDTH 3\n#define MAX_HEIGHT 4\n",
        b"<!DOCTYPE html>\n<svg></svg>", b"<html><head><title>404</title></head><body><svg></svg>",
        b"<div><svg></svg></div>", b"a text about <svg>",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_unreadable(data: bytes) -> None:
    assert outcome(data) == ("unreadable",)


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "progressive", "deflate", "lossless"]
)
def test_truncated_files_are_not_scored(file_format: str) -> None:
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "progressive": ("JPEG", {"progressive": True}),
        "deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
        "lossless": ("WEBP", {"lossless": True}),
    }
    name, more = options.get(file_format, (file_format, {}))
    data = encode(noisy(), name, **more)
    for share in (0.3, 0.6, 0.9):
        assert outcome(data[: int(len(data) * share)]) == ("truncated",), share


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_allowed_truncated_files_show_what_is_left(file_format: str) -> None:
    data = encode(noisy(), file_format)
    assert outcome(data[: int(len(data) * 0.7)], allow_truncated=True) == ("ok", "truncated")
    assert outcome(data, allow_truncated=True) == ("ok",)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "TIFF"])
def test_the_upper_part_of_a_truncated_picture_is_right(file_format: str) -> None:
    data = encode(noisy(), file_format)
    cut = decode(data[: int(len(data) * 0.8)], SMALL, allow_truncated=True).pixels.astype(int)
    whole = decode(data, SMALL).pixels.astype(int)
    rows = slice(16, 32) if file_format == "BMP" else slice(0, 16)  # BMP begins at the bottom
    assert np.abs(cut[:, rows] - whole[:, rows]).mean() < 1


def test_too_little_is_left_to_score() -> None:
    assert outcome(encode(noisy(), "JPEG")[:40], allow_truncated=True) == ("truncated",)
    assert outcome(encode(noisy(), "PNG")[:30], allow_truncated=True) == ("truncated",)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares any size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def declared(file_format: str, width: int, height: int) -> bytes:
    if file_format == "PNG":
        return png_of(width, height)
    data = bytearray(encode(draw("red", (64, 64)), file_format))
    if file_format == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif file_format == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif file_format == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif file_format == "PPM":
        data = bytearray(b"P6 %d %d 255\n" % (width, height))
    elif file_format == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = data.index(struct.pack("<HHI", tag, 4, 1))
            data[at + 8 : at + 12] = struct.pack("<I", value)
    return bytes(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF"])
def test_a_declared_60000_x_60000_is_refused_from_the_header(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(declared(file_format, 60000, 60000))
    script = (
        "import resource, sys\n"
        "from cmprompt.images import decode; from cmprompt.errors import ItemError\n"
        "from cmprompt.types import Preprocess\n"
        "wanted = Preprocess(32, 'shortest', 'bicubic', (0,) * 3, (1,) * 3)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(open(sys.argv[1], 'rb').read(), wanted, max_pixels=10**12)\n"
        "except ItemError as error: print(error.status)\n"
        "try: decode(open(sys.argv[1], 'rb').read(), wanted)\n"
        "except ItemError as error: print(error.status)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    pillows_own, ours, grown_kb = done.stdout.split()
    assert (pillows_own, ours) == ("too_large", "too_large") and int(grown_kb) < 100_000 and not done.stderr


def test_pillows_own_bomb_check_stays_on() -> None:
    outcome(png_of(60000, 60000), max_pixels=10**12)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1" + b"\0" * 40, "PSD"),
        (b"SIMPLE  =                    T" + b" " * 50, "FITS"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a drawing -->\n<!DOCTYPE svg PUBLIC '-//W3C//DTD'>\n<SVG>", "SVG"),
        (b"#define im_width 8\n#define im_height 8\nstatic char im_bits[] = {", "XBM"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "video"),
    ],
)
def test_formats_off_the_list_are_unsupported(data: bytes, name: str) -> None:
    assert sniff(data) == name
    assert outcome(data) == ("unsupported",)


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypisom\0\0\2\0isommp41", b"\x1aE\xdf\xa3" + bytes(40)])
def test_a_video_among_pictures_is_told_where_videos_are_read(data: bytes) -> None:
    with pytest.raises(ItemError, match="a video is not read here; classify, embed and index read"):
        decode(data, SMALL)


@pytest.mark.parametrize(
    "file_format", ["EPS", "PDF", "ICO", "TGA", "SGI", "PCX", "DDS", "JPEG2000", "ICNS", "QOI", "XBM"]
)
def test_formats_that_pillow_would_read_are_unsupported(file_format: str) -> None:
    picture = draw("red", (64, 64)) if file_format != "XBM" else Image.new("1", (64, 64))
    assert outcome(encode(picture, file_format)) == ("unsupported",)


def test_no_program_is_started_for_postscript() -> None:
    script = (
        "import sys; started = []\n"
        "programs = ('subprocess.Popen', 'os.system', 'os.posix_spawn', 'os.exec')\n"
        "sys.addaudithook(lambda event, _: started.append(event) if event in programs else None)\n"
        "from cmprompt.images import decode; from cmprompt.types import Preprocess\n"
        "try: decode(sys.stdin.buffer.read(), Preprocess(32, 'shortest', 'bicubic', (0,) * 3, (1,) * 3))\n"
        "except Exception as error: print(error.status, started)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=encode(draw("red", (64, 64)), "EPS"), capture_output=True, check=True
    )
    assert done.stdout == b"unsupported []\n"


def frames(n: int) -> list[Image.Image]:
    return [draw(colour, (48, 48)) for colour in ["red", "lime", "blue"] * (n // 3)]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_of_many_frames_is_scored(file_format: str) -> None:
    first, *others = frames(3)
    data = encode(first, file_format, save_all=True, append_images=others)
    decoded = decode(data, SMALL)
    assert decoded.flags == ("first_frame",)
    assert decoded.pixels[0].mean() > 240 and decoded.pixels[2].mean() < 15


def test_the_first_of_ten_thousand_pages_comes_at_once() -> None:
    page = encode(draw("red", (8, 8)), "TIFF")
    (directory,) = struct.unpack_from("<I", page, 4)
    (entries,) = struct.unpack_from("<H", page, directory)
    body = page[directory : directory + 2 + 12 * entries]
    pages = b""
    for _ in range(10_000):
        pages += body + struct.pack("<I", len(page) + len(pages) + len(body) + 4)
    data = page[: directory + len(body)] + struct.pack("<I", len(page)) + page[directory + len(body) + 4 :] + pages
    started = time.perf_counter()
    assert outcome(data) == ("ok", "first_frame")
    assert time.perf_counter() - started < 5


def test_the_first_frame_of_a_long_animation_comes_at_once() -> None:
    picture = noisy(200, 200, "L")
    data = encode(picture, "GIF", save_all=True, append_images=[picture.rotate(i) for i in range(1, 200)])
    decode(data, SMALL)
    started = time.perf_counter()
    assert outcome(data) == ("ok", "first_frame")
    assert time.perf_counter() - started < 5


def test_a_phone_photo_with_a_second_picture_is_no_animation() -> None:
    data = encode(draw("red"), "MPO", save_all=True, append_images=[draw("blue")])
    assert outcome(data) == ("ok",)
    assert decode(data, SMALL).pixels[0].mean() > 240


def test_a_png_with_a_broken_profile_or_animation_is_shown_without() -> None:
    whole = encode(draw("red", (40, 40)))
    for name, data in ((b"iCCP", b"name\0\1not zlib"), (b"acTL", struct.pack(">II", 3, 0)), (b"iCCP", b"")):
        broken = whole[:33] + chunk(name, data) + whole[33:]
        assert decode(broken, SMALL).pixels[0].min() == 255


def test_an_avif_with_an_association_box_for_each_item_is_shown() -> None:
    picture = draw("red", (40, 40)).convert("RGBA")
    picture.putalpha(0)
    data = encode(picture, "AVIF")
    (start, length) = (data.index(b"ipma") - 4, int.from_bytes(data[data.index(b"ipma") - 4 :][:4], "big"))
    assert data[start + 12 : start + 16] == struct.pack(">I", 2)
    assert outcome(data) == ("ok",) and length > 16
    entries, n_first = data[start + 16 : start + length], 3 + data[start + 18]
    parts = [entries[:n_first], entries[n_first:]]
    boxes = b"".join(struct.pack(">I4sII", 16 + len(part), b"ipma", 0, 1) + part for part in parts)
    split = _grown(data[:start] + boxes + data[start + length :], by=16)
    assert decode(split, SMALL).pixels.min() > 250  # transparent, over white


def test_an_avif_of_many_association_boxes_takes_no_quadratic_time() -> None:
    data = struct.pack(">I4s", 8, b"ipco") + 300_000 * struct.pack(">I4sIIB", 17, b"ipma", 0, 1, 7)
    started = time.perf_counter()
    whole = repaired("AVIF", data)
    assert time.perf_counter() - started < 3
    assert whole is not None and len(whole) == len(data) and whole.endswith(b"\7" * 300_000)


def _grown(data: bytes, by: int) -> bytes:
    """An AVIF file whose boxes down to `iprp`, and the places of its pictures, are moved."""
    changed = bytearray(data)
    for name in (b"meta", b"iprp"):
        at = data.index(name) - 4
        changed[at : at + 4] = struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + by)
    at = data.index(b"iloc") + 4
    assert data[at] == 0 and data[at + 4 : at + 6] == b"\x44\0"  # version 0, four-byte offsets and lengths, no base
    for i in range(int.from_bytes(data[at + 6 : at + 8], "big")):
        entry = at + 8 + 14 * i + 6
        changed[entry : entry + 4] = struct.pack(">I", int.from_bytes(data[entry : entry + 4], "big") + by)
    return bytes(changed)


def test_every_awkward_file_has_a_status(data_dir: Path) -> None:
    folder = data_dir / "awkward"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    statuses = [outcome(path.read_bytes())[0] for path in paths]
    assert set(statuses) <= set(STATUSES)
    assert statuses.count("ok") >= 500


def test_a_file_deleted_or_changed_after_listing(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw("red").save(tmp_path / name)
    gone, changed = read_items([str(tmp_path)])
    (tmp_path / "a.png").unlink()
    draw("blue").save(tmp_path / "b.png")
    assert gone.image is not None and changed.image is not None
    with pytest.raises(FileNotFoundError):
        gone.image()
    with Image.open(io.BytesIO(bytes(changed.image()))) as picture:
        assert picture.getpixel((0, 0)) == (0, 0, 255)
