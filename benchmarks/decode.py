"""Which decoder? A JPEG's bytes to the pixels a model sees, on one core, and how far its vectors are from open_clip's.

    pip install simplejpeg
    python benchmarks/decode.py

Files of 500 x 375 and of 12 megapixels, at 224 px and at the bundled model's own size; agreement at the latter, by its
image tower in fp32. Not judged: it is why `images.py` decodes as it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from agreement import cosines
from harness import about, median, parser, save_page, table
from open_clip.transform import image_transform
from photos import write_photos
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from cmprompt import load_encoder
from cmprompt.images import decode
from cmprompt.images.resize import fit
from cmprompt.types import Array, Encoder, Preprocess

SIZES = (224, None)  # None: the model's own
ROUNDS = 3
Way = Callable[[bytes, Preprocess], Array]


def open_clips(data: bytes, preprocess: Preprocess) -> Array:
    """open_clip's transform, its normalisation taken back."""
    side, method = preprocess.size_px, preprocess.interpolation
    make = image_transform(side, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=method)
    pixels: Array = (make(Image.open(BytesIO(data))) * 255).round().to(torch.uint8).numpy()
    return pixels


def ours(data: bytes, preprocess: Preprocess) -> Array:
    """Pillow at the smallest scale of at least twice the target, the crop as the resize's box."""
    return decode(data, preprocess).pixels


def simple(data: bytes, preprocess: Preprocess) -> Array:
    """simplejpeg at that scale, then the same resize."""
    least = 2 * preprocess.size_px
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    rows = simplejpeg.decode_jpeg(data, "RGB", min_height=min(least, height), min_width=min(least, width))
    square = fit(Image.fromarray(rows), preprocess, full_size=(width, height))
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def torchvisions(data: bytes, preprocess: Preprocess) -> Array:
    """torchvision's decoder, and its antialiased resize of bytes."""
    whole = decode_jpeg(torch.from_numpy(np.frombuffer(data, np.uint8).copy()), ImageReadMode.RGB)
    side, method = preprocess.size_px, functional.InterpolationMode(preprocess.interpolation)
    square = functional.center_crop(functional.resize(whole, [side], method, antialias=True), [side, side])
    pixels: Array = square.numpy()
    return pixels


WAYS: dict[str, Way] = {
    "open_clip's transform": open_clips,
    "Pillow as cmprompt does it": ours,
    "simplejpeg": simple,
    "torchvision": torchvisions,
}


def rate(way: Way, files: list[bytes], preprocess: Preprocess) -> float:
    """Images for each core-second, the median of some rounds."""
    found = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        for data in files:
            way(data, preprocess)
        found.append(len(files) / (time.thread_time() - started))
    return median(found)


def rows_of(files: list[bytes], encoder: Encoder) -> list[list[object]]:
    """A line for each way: its rate at each size, then the mean and the least cosine with the first."""
    made: list[list[object]] = []
    vectors: dict[str, Array] = {}
    for name, way in WAYS.items():
        sizes = [replace(encoder.preprocess, size_px=size or encoder.preprocess.size_px) for size in SIZES]
        rates = [f"{rate(way, files, preprocess):.0f}" for preprocess in sizes]
        vectors[name] = encoder.encode_images(np.stack([way(data, encoder.preprocess) for data in files]))
        near = cosines(vectors[name], vectors["open_clip's transform"])
        made.append([name, *rates, f"{near.mean():.6f}", f"{near.min():.6f}"])
    return made


def read(folder: Path, count: int) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())[:count]]


def main() -> None:
    """Two tables, small photos and large ones."""
    asked = parser(__doc__, images=200).parse_args()
    torch.set_num_threads(1)
    encoder, large = load_encoder("tiny", exact=True), max(1, asked.images // 10)
    photos, wide = asked.work / "photos-1000", asked.work / "large-200"
    write_photos(photos, asked.images, data=asked.data)
    write_photos(wide, large, 4000, 3000, asked.data)
    sizes = [f"{size or encoder.preprocess.size_px} px, images for each core-second" for size in SIZES]
    names = ("", *sizes, "cosine, mean", "least")
    parts = {"500 x 375": read(photos, asked.images), "12 megapixels": read(wide, large)}
    body = "\n".join(
        f"## {len(files)} of {what}\n\n{table(names, rows_of(files, encoder))}" for what, files in parts.items()
    )
    print(save_page("decode", "Decoders", body, {"rounds": ROUNDS}, about(model=encoder.model_id), asked.out))


if __name__ == "__main__":
    main()
