"""Photo-like files for the benchmarks: seeded crops of the sample photos, saved as cameras save them.

python benchmarks/photos.py DIR --count 1000
python benchmarks/photos.py DIR --count 200 --width 4000 --height 3000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from cmprompt.examples import PHOTOS, installed


def write_photos(folder: Path, count: int, width: int = 500, height: int = 375) -> list[Path]:
    """`count` JPEGs in `folder`; those that are there already are kept, for the same arguments give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Image.open(path).convert("RGB") for _, *place, _, _ in PHOTOS if (path := installed(*place))]
    paths = [folder / f"{width}x{height}-{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            _photo(sources, number, width, height).save(path, quality=88)
    return paths


def _photo(sources: list[Image.Image], number: int, width: int, height: int) -> Image.Image:
    dice = np.random.default_rng(number)
    source = sources[number % len(sources)]
    share = dice.uniform(0.5, 1.0)
    crop = int(source.width * share), int(source.height * share)
    left, top = (int(dice.integers(0, full - part + 1)) for full, part in zip(source.size, crop, strict=True))
    picture = source.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + crop[0], top + crop[1]))
    return ImageEnhance.Brightness(picture).enhance(float(dice.uniform(0.7, 1.3)))


def main() -> None:
    """Write the files that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    asked = parser.parse_args()
    print(len(write_photos(asked.folder, asked.count, asked.width, asked.height)), "photos in", asked.folder)


if __name__ == "__main__":
    main()
