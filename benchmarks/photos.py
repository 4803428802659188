"""Photo-like JPEGs for the benchmarks, made of the pictures that installed packages and the public image sets carry.

    python benchmarks/photos.py DIR --count 1000
    python benchmarks/photos.py DIR --count 200 --width 4000 --height 3000

Seeded crops and mosaics; fine detail and grain are added, since an enlarged picture has neither and would decode too
fast. The same arguments and sources give the same files.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from harness import cores, default_data
from PIL import Image, ImageChops, ImageEnhance

from cmprompt.examples import PHOTOS, installed

SETS = ("weather/*/*.jpg", "houses/images/*.jpg", "grocery/images/**/*.jpg", "clothing/train/*/*.jpg")
FROM_EACH_SET = 60
PLATE_PX = 1024  # a plate of detail, repeated over larger pictures
DETAIL = 15.0  # standard deviation in grey levels, of 255
GRAIN = 5.5
LARGE_PX = 1200  # pictures wider than this are enlarged several times over, and cameras smooth them


def write_photos(folder: Path, count: int, width: int = 500, height: int = 375, data: Path | None = None) -> list[Path]:
    """`count` JPEGs in `folder`; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{width}x{height}-{number:05}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    pictures = _sources(data or default_data()) if missing else []
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda number: _write(paths[number], _photo(pictures, number, width, height), number), missing))
    return paths


def _sources(data: Path) -> list[Image.Image]:
    """The packages' photos, and a few of each set that is there."""
    paths = [path for _, *place, _, _ in PHOTOS if (path := installed(*place))]
    for pattern in SETS:
        found = sorted(data.glob(pattern))
        paths += found[:: max(1, len(found) // FROM_EACH_SET)]
    return [Image.open(path).convert("RGB") for path in paths]


def _photo(pictures: Sequence[Image.Image], number: int, width: int, height: int) -> Image.Image:
    """A mosaic of one to six crops with detail over it, at a brightness of its own."""
    dice = np.random.default_rng([number, width])
    columns, rows = int(dice.integers(1, 4)), int(dice.integers(1, 3))
    canvas = Image.new("RGB", (width, height))
    for column in range(columns):
        for row in range(rows):
            left, top = width * column // columns, height * row // rows
            size = width * (column + 1) // columns - left, height * (row + 1) // rows - top
            canvas.paste(_crop(pictures[int(dice.integers(len(pictures)))], size, dice), (left, top))
    bright = ImageEnhance.Brightness(canvas).enhance(float(dice.uniform(0.7, 1.2)))
    return ImageChops.add(bright, _detail(width, height, dice), 1, -128)


def _crop(source: Image.Image, size: tuple[int, int], dice: np.random.Generator) -> Image.Image:
    """A part of `source`, of the shape of `size`, resized to it."""
    scale = min(source.width / size[0], source.height / size[1]) * float(dice.uniform(0.6, 1.0))
    wide, high = size[0] * scale, size[1] * scale
    left, top = float(dice.uniform(0, source.width - wide)), float(dice.uniform(0, source.height - high))
    return source.resize(size, Image.Resampling.BICUBIC, (left, top, left + wide, top + high))


def _detail(width: int, height: int, dice: np.random.Generator) -> Image.Image:
    """Detail around 128 in every channel, from a random place of the plate."""
    plate = _plate(width > LARGE_PX)
    left, top = (int(shift) for shift in dice.integers(0, PLATE_PX, 2))
    shifted = ImageChops.offset(plate, left, top)
    canvas = Image.new("RGB", (width, height))
    for x in range(0, width, PLATE_PX):
        for y in range(0, height, PLATE_PX):
            canvas.paste(shifted, (x, y))
    return canvas


@cache
def _plate(smooth: bool) -> Image.Image:
    """Noise that falls off with frequency, as photos' spectra do (Field 1987), in patches, and a little grain."""
    dice = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(PLATE_PX)[:, None], np.fft.rfftfreq(PLATE_PX)[None])
    frequency[0, 0] = 1.0

    def noise(power: float) -> np.ndarray:
        spectrum = np.fft.rfft2(dice.standard_normal((PLATE_PX, PLATE_PX))) / frequency**power
        made = np.fft.irfft2(spectrum, (PLATE_PX, PLATE_PX))
        return (made - made.mean()) / made.std()

    share = 0.5 if smooth else 1.0
    patches = np.clip(0.6 + 0.6 * noise(1.5), 0, None)  # sky here, leaves there
    grey = DETAIL * noise(0.6) * patches
    colour = np.stack([GRAIN * noise(0.2) for _ in range(3)], axis=2)
    pixels = 128 + share * (grey[:, :, None] + colour)
    return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


def _write(path: Path, picture: Image.Image, number: int) -> None:
    """Written whole or not at all, at one of three cameras' qualities."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=(90, 93, 95)[number % 3], subsampling="4:2:0")
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)


def main() -> None:
    """Write the files that the command line asks for, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--data", type=Path, default=default_data())
    asked = parser.parse_args()
    paths = write_photos(asked.folder, asked.count, asked.width, asked.height, asked.data)
    sizes_kb = sorted(path.stat().st_size / 1024 for path in paths)
    print(
        f"{len(paths)} photos in {asked.folder}, median {sizes_kb[len(paths) // 2]:.0f} KB, all {sum(sizes_kb):.0f} KB"
    )


if __name__ == "__main__":
    main()
