"""Line 12: do the fast choices change answers? The default path against `--exact`, vector by vector.

    python benchmarks/agreement.py [--model tiny]

The bundled model and real photos: an equal share from the held-out parts of Tiny-ImageNet, Flickr8k, clothing and
grocery. Vectors of an untrained model nearly coincide, so cosines are also taken after the mean vector is subtracted.
Those photos are small; the generated JPEGs of 500 x 375 and of 12 megapixels show what the reduced decoding does.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from harness import Line, about, parser, save
from photos import write_photos

from cmprompt import embed, load_encoder, zero_shot
from cmprompt.labels import label_set
from cmprompt.prompts import expand, load_prompt_set
from cmprompt.types import Array, Encoder, Features, FileBytes, Item

COSINE, CENTRED, TOP_1 = (0.9995, 0.9999), (0.995, 0.999), (99.5, 99.9)  # at least, aim


def tiny_imagenet(data: Path) -> list[Item]:
    rows = pq.read_table(data / "tiny-imagenet/val.parquet").to_pylist()
    return [Item(f"tiny-imagenet {n}", lambda row=row: row["image"]["bytes"]) for n, row in enumerate(rows)]


def flickr(data: Path) -> list[Item]:
    with tarfile.open(data / "flickr8k/val.tar") as tar:
        names = [member for member in tar if member.name.endswith(".webp")]
        blobs = [(member.name, tar.extractfile(member).read()) for member in names]  # type: ignore[union-attr]
    return [Item(name, lambda blob=blob: blob) for name, blob in blobs]


def clothing(data: Path) -> list[Item]:
    return [_file(path) for path in sorted((data / "clothing/validation").glob("*/*.jpg"))]


def grocery(data: Path) -> list[Item]:
    with (data / "grocery/val.csv").open(encoding="utf-8") as file:
        return [_file(data / "grocery" / row["image"]) for row in csv.DictReader(file)]


def _file(path: Path) -> Item:
    return Item(str(path), FileBytes(str(path)))


def names_of(data: Path) -> list[str]:
    """Tiny-ImageNet's 200 names."""
    names = pq.read_table(data / "tiny-imagenet/val.parquet", columns=["names"])["names"].to_pylist()
    return sorted({name.split(",")[0].strip() for name in names})


def photos_of(data: Path, count: int) -> list[Item]:
    """An equal share of each set, as far as it goes; the first one fills up."""
    sets = [read(data) for read in (tiny_imagenet, flickr, clothing, grocery)]
    dice = np.random.default_rng(0)
    shuffled = [[one[place] for place in dice.permutation(len(one))] for one in sets]
    chosen = [item for one in shuffled[1:] for item in one[: count // 4]]
    return [*shuffled[0][: count - len(chosen)], *chosen]


def vectors(encoder: Encoder, items: list[Item]) -> Array:
    """(N, D) unit rows; every picture has to give one."""
    parts = list(embed(items, encoder))
    assert all(outcome.status == "ok" for part in parts for outcome in part.outcomes)
    return np.concatenate([part.features.image for part in parts if part.features.image is not None])


def cosines(a: Array, b: Array) -> Array:
    """(N,) of rows of any length."""
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def compared(what: str, items: list[Item], fast: Encoder, exact: Encoder, names: list[str]) -> Iterator[Line]:
    """The three figures of one lot of pictures, and the lowest cosine."""
    ours, theirs = (vectors(encoder, items).astype(np.float64) for encoder in (fast, exact))
    mean = theirs.mean(0)
    prompts = expand(label_set(names), [load_prompt_set("photo")])

    def best(encoder: Encoder, rows: Array) -> Array:
        return zero_shot(encoder, prompts).logits(Features.of_images(rows.astype(np.float32))).argmax(1)

    same = 100 * float((best(fast, ours) == best(exact, theirs)).mean())
    plain, centred = cosines(ours, theirs), cosines(ours - mean, theirs - mean)
    yield Line(f"{what}: cosine, mean", "--exact", float(plain.mean()), *COSINE, suffix="")
    yield Line(f"{what}: cosine, least", "--exact", float(plain.min()), None, None, suffix="")
    yield Line(f"{what}: cosine less the mean vector, mean", "--exact", float(centred.mean()), *CENTRED, suffix="")
    yield Line(f"{what}: cosine less the mean vector, least", "--exact", float(centred.min()), None, None, suffix="")
    yield Line(f"{what}: same best of {len(names)} names", "--exact", same, *TOP_1, suffix=" %")


def main() -> None:
    """Compare on the real photos and on the generated ones, and save the lines."""
    options = parser(__doc__, images=2000)
    options.add_argument("--model", default="tiny")
    options.add_argument("--precision", default="auto", help="of the fast path; default auto")
    asked = options.parse_args()
    fast = load_encoder(asked.model, precision=asked.precision)
    exact, names = load_encoder(asked.model, exact=True), names_of(asked.data)
    facts = about(model=fast.model_id, fast=fast.store_key, exact=exact.store_key)
    real = photos_of(asked.data, asked.images)
    photos = write_photos(asked.work / "photos-1000", max(1, asked.images // 4), data=asked.data)
    large = write_photos(asked.work / "large-200", max(1, asked.images // 20), 4000, 3000, asked.data)
    lots = {
        f"{len(real):,} real photos": real,
        f"{len(photos)} generated, 500 x 375": [_file(path) for path in photos],
        f"{len(large)} generated, 12 megapixels": [_file(path) for path in large],
    }
    lines = [line for what, items in lots.items() for line in compared(what, items, fast, exact, names)]
    print(save("agreement", "The fast path against --exact", lines, facts, asked.out))


if __name__ == "__main__":
    main()
