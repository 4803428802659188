"""The data folder decoded once into uint8 arrays under WORK/cache. Nothing named val or validation is trained on.

Each set is `NAME-images.npy` (N, S, S, 3) uint8, read by memory map, and `NAME-labels.npy`: (N,), (N, 5) captions for
Flickr8k, (N, 3) fine and coarse name and description for groceries.
"""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

CIFAR_HELD_OUT = 2000  # CIFAR has no val file here: these random training photos are never trained on
SIZES_PX = {"tiny": 64, "cifar": 32, "flickr": 128, "clothing": 112, "grocery": 112, "weather": 112, "houses": 112}

Row = tuple[bytes, object]


def square(blob: bytes, size_px: int) -> NDArray[np.uint8]:
    """(S, S, 3): shortest side to S, centre crop; what random crops later cut from."""
    image = Image.open(io.BytesIO(blob)).convert("RGB")
    side = min(image.size)
    if image.size != (size_px, size_px):
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.asarray(image)


def parquet(paths: Iterable[Path], label: str) -> Iterable[Row]:
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            yield row["image"]["bytes"], row[label]


def flickr(paths: Iterable[Path]) -> Iterable[Row]:
    for path in paths:
        with tarfile.open(path) as tar:
            files = {member.name: member for member in tar.getmembers()}
            for name in sorted(n for n in files if n.endswith(".webp")):
                image = tar.extractfile(files[name])
                text = tar.extractfile(files[name.replace(".webp", ".json")])
                assert image and text
                yield image.read(), (json.load(text)["captions"] * 5)[:5]


def folders(root: Path) -> Iterable[Row]:
    for path in sorted(p for p in root.glob("*/*") if p.is_file()):
        yield path.read_bytes(), path.parent.name


def groceries(table: Path) -> Iterable[Row]:
    with table.open(newline="") as handle:
        for row in csv.DictReader(handle):
            yield (table.parent / row["image"]).read_bytes(), [row["fine"], row["coarse"], row["description"]]


def houses(table: Path) -> Iterable[Row]:
    with table.open(newline="") as handle:
        for row in csv.DictReader(handle):
            yield (table.parent / row["image"]).read_bytes(), "house"


def sources(data: Path) -> dict[str, Callable[[], Iterable[Row]]]:
    tiny, cifar, flickr8k = data / "tiny-imagenet", data / "cifar10", data / "flickr8k"
    return {
        "tiny": lambda: parquet(sorted(tiny.glob("train-*.parquet")), "wnid"),
        "tiny-val": lambda: parquet([tiny / "val.parquet"], "wnid"),
        "cifar": lambda: parquet(sorted(cifar.glob("train-*.parquet")), "name"),
        "flickr": lambda: flickr(sorted(flickr8k.glob("train-*.tar"))),
        "flickr-val": lambda: flickr([flickr8k / "val.tar"]),
        "clothing": lambda: folders(data / "clothing/train"),
        "clothing-val": lambda: folders(data / "clothing/validation"),
        "grocery": lambda: groceries(data / "grocery/train.csv"),
        "grocery-val": lambda: groceries(data / "grocery/val.csv"),
        "weather": lambda: folders(data / "weather"),
        "houses": lambda: houses(data / "houses/train.csv"),
    }


def build(data: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    for name, rows in sources(data).items():
        if not (cache / f"{name}-labels.npy").exists():
            size = SIZES_PX[name.removesuffix("-val")]
            pairs = [(square(blob, size), label) for blob, label in rows()]
            save(cache, name, np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs]))
    if not (cache / "cifar-val-labels.npy").exists():
        images, labels = load(cache, "cifar")
        order = np.random.default_rng(0).permutation(len(labels))
        for name, chosen in (("cifar-val", order[:CIFAR_HELD_OUT]), ("cifar-train", order[CIFAR_HELD_OUT:])):
            save(cache, name, images[chosen], labels[chosen])


def save(cache: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.str_]) -> None:
    """Labels last: a set whose labels are there is whole."""
    np.save(cache / f"{name}-images.npy", images)
    np.save(cache / f"{name}-labels.npy", labels)


def load(cache: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Images (N, S, S, 3), memory-mapped, and labels (N,) or (N, K)."""
    return np.load(cache / f"{name}-images.npy", mmap_mode="r"), np.load(cache / f"{name}-labels.npy")
