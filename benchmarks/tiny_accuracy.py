"""What the bundled model can do, through the public API with the shipped prompts: `python benchmarks/tiny_accuracy.py`.

Writes results/tiny_accuracy.md and .json.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from harness import HERE, about, parser, reached, save_page, table
from PIL import Image

from cmprompt import embed, load_encoder, zero_shot
from cmprompt.encoders.weights import TINY
from cmprompt.labels import label_set
from cmprompt.metrics import accuracy_at_k
from cmprompt.prompts import expand, load_prompt_set
from cmprompt.types import Array, Encoder, Features, Item

CATS = {"n02123045", "n02123394", "n02124075"}
DOGS = {"n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799"}
CIFAR_HELD_OUT = 2000  # the random training photos that the recipe leaves out; CIFAR has no val file here
Photos = list[tuple[bytes, str]]


@dataclass
class Row:
    measure: str
    value: float
    floor: float
    aim: float
    chance: float | None = None
    teacher: float | None = None
    unit: str = "%"
    below: bool = False  # is less better?

    @property
    def reached(self) -> str:
        return reached(self.value, self.floor, self.aim, below=self.below)


def parquet(path: Path, label: str) -> Photos:
    return [(row["image"]["bytes"], row[label]) for row in pq.read_table(path).to_pylist()]


def vectors(encoder: Encoder, blobs: Iterable[bytes]) -> Array:
    """(N, D) unit rows."""
    items = (Item(str(number), lambda blob=blob: blob) for number, blob in enumerate(blobs))
    return np.concatenate([batch.features.image for batch in embed(items, encoder) if batch.features.image is not None])


def scores(encoder: Encoder, rows: Array, names: Sequence[str]) -> Array:
    """(N, C) logits of the zero-shot head of the names in the shipped `photo` prompts."""
    head = zero_shot(encoder, expand(label_set(list(names)), [load_prompt_set("photo")]))
    return head.logits(Features.of_images(rows))


def tiny_imagenet(encoder: Encoder, data: Path, ask: Teacher | None) -> Iterator[Row]:
    table = pq.read_table(data / "tiny-imagenet/val.parquet").to_pylist()
    names = {row["wnid"]: row["names"].split(",")[0].strip() for row in table}
    wnids = sorted(names)
    # two animals and machines share a word: the label says which
    labels = [names[w] if names[w] != "crane" else "construction crane" for w in wnids]
    rows, target = vectors(encoder, (r["image"]["bytes"] for r in table)), [wnids.index(r["wnid"]) for r in table]
    logits = scores(encoder, rows, labels)
    taught = ask(table, [names[w] for w in wnids]) if ask else None
    for k, floor, aim in ((1, 40, 55), (5, 66, 80)):
        told = None if taught is None else 100 * accuracy_at_k(taught, np.array(target), k)
        value = 100 * accuracy_at_k(logits, np.array(target), k)
        yield Row(f"Tiny-ImageNet val, 200 names, top-{k}", value, floor, aim, k / 2, told)
    pets = np.array([r["wnid"] in CATS | DOGS for r in table])
    dogs = np.array([int(r["wnid"] in DOGS) for r in table])[pets]
    value = 100 * accuracy_at_k(scores(encoder, rows[pets], ["cat", "dog"]), dogs, 1)
    yield Row("cat against dog, upsized photos", value, 88, 95, 50)


def held_out(folder: Path, data: Path) -> Row:
    """A second run's words that no image went with (`python -m training.train --held-out 20`), among themselves."""
    encoder = load_encoder(f"local-dir:{folder}")
    wnids = (folder / "held_out.txt").read_text().split()
    table = [r for r in pq.read_table(data / "tiny-imagenet/val.parquet").to_pylist() if r["wnid"] in wnids]
    names = {row["wnid"]: row["names"].split(",")[0].strip() for row in table}
    rows = vectors(encoder, (r["image"]["bytes"] for r in table))
    target = np.array([wnids.index(r["wnid"]) for r in table])
    value = 100 * accuracy_at_k(scores(encoder, rows, [names[w] for w in wnids]), target, 1)
    return Row(f"held-out words, {len(wnids)}-way top-1", value, 25, 45, 100 / len(wnids))


class Teacher:
    """MobileNetV2's probabilities of the classes that it shares with a set."""

    def __init__(self, data: Path) -> None:
        sys.path.insert(0, str(HERE.parent))
        from training import teachers

        self.names = [name.split(",")[0].strip() for name in teachers.imagenet_names(data)]
        self.teachers, self.model = teachers, teachers.mobilenet(data)

    def __call__(self, table: list[dict[str, dict[str, bytes]]], names: Sequence[str]) -> Array:
        photos = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB").resize((64, 64)) for row in table]
        columns = [self.names.index(name) for name in names]
        seen = self.teachers.look(self.model, np.stack([np.asarray(p) for p in photos]), 224)
        return self.teachers.probabilities(self.model, seen)[:, columns].astype(np.float32)


def named(encoder: Encoder, photos: Photos, spoken: Callable[[str], str]) -> tuple[float, float]:
    """Top-1 in percent, and chance."""
    names = sorted({name for _, name in photos})
    rows = vectors(encoder, (blob for blob, _ in photos))
    target = np.array([names.index(name) for _, name in photos])
    return 100 * accuracy_at_k(scores(encoder, rows, [spoken(n) for n in names]), target, 1), 100 / len(names)


def cifar(encoder: Encoder, data: Path) -> Row:
    photos = [photo for path in sorted((data / "cifar10").glob("*.parquet")) for photo in parquet(path, "name")]
    held_out = np.random.default_rng(0).permutation(len(photos))[:CIFAR_HELD_OUT]
    value, chance = named(encoder, [photos[row] for row in held_out], str)
    return Row("CIFAR-10, 10 names (2,000 training photos left out)", value, 75, 85, chance)


def clothing(encoder: Encoder, data: Path) -> Row:
    photos = [(p.read_bytes(), p.parent.name) for p in sorted((data / "clothing/validation").glob("*/*"))]
    spoken = {"longsleeve": "long-sleeved shirt", "outwear": "coat", "shoes": "shoe"}
    value, chance = named(encoder, photos, lambda name: spoken.get(name, name))
    return Row("clothing validation, 10 names", value, 35, 55, chance)


def flickr(encoder: Encoder, data: Path) -> Iterator[Row]:
    with tarfile.open(data / "flickr8k/val.tar") as tar:
        files = {m.name: m for m in tar.getmembers()}
        keys = sorted(name.removesuffix(".webp") for name in files if name.endswith(".webp"))

        def read(name: str) -> bytes:
            handle = tar.extractfile(files[name])
            assert handle is not None
            return handle.read()

        rows = vectors(encoder, [read(f"{key}.webp") for key in keys])
        captions = [json.loads(read(f"{key}.json"))["captions"] for key in keys]
    texts = encoder.encode_texts([caption for five in captions for caption in five])
    target = np.repeat(np.arange(len(keys)), [len(five) for five in captions])
    for k, floor, aim in ((1, 4, 15), (10, 25, 50)):
        value = 100 * accuracy_at_k(texts @ rows.T, target, k)
        yield Row(f"Flickr8k val, text to image R@{k}", value, floor, aim, 100 * k / len(keys))


def cost(data: Path) -> Iterator[Row]:
    size = sum((TINY / name).stat().st_size for name in ("open_clip_model.safetensors", "open_clip_config.json"))
    yield Row("weights and config", size / 1e6, 25, 15, unit="MB", below=True)
    code = (
        "import time, numpy, torch, open_clip; torch.set_num_threads(1); from cmprompt import load_encoder;"
        "t = time.perf_counter(); e = load_encoder('tiny', threads=1); s = e.preprocess.size_px;"
        "x = numpy.zeros((1, 3, s, s), numpy.uint8); e.encode_images(x); l = time.perf_counter() - t;"
        "r = [];\nfor _ in range(60):\n t = time.perf_counter(); e.encode_images(x);"
        " r.append(time.perf_counter() - t)\n"
        "print(1000 * l, 1000 * sorted(r)[30])"
    )
    out = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    load_ms, image_ms = np.min([[float(word) for word in text.split()[-2:]] for text in out], axis=0)
    yield Row("one image, one thread, decode excluded", image_ms, 15, 6, unit="ms", below=True)
    yield Row("load and first image, libraries imported", load_ms, 300, 100, unit="ms", below=True)


def markdown(rows: Sequence[Row]) -> str:
    names = ("measure", "value", "at least", "aim", "chance", "teacher", "reached")
    return table(names, (cells(row) for row in rows))


def cells(r: Row) -> list[str]:
    bound = "≤ " if r.below else ""
    others = ["" if v is None else f"{v:.1f}" for v in (r.chance, r.teacher)]
    return [r.measure, f"{r.value:.1f} {r.unit}", f"{bound}{r.floor:g}", f"{bound}{r.aim:g}", *others, r.reached]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="tiny")
    options.add_argument("--held-out", type=Path, help="what `python -m training.train --held-out 20` made")
    options.add_argument("--teacher", action="store_true", help="ask the teacher as well: two minutes more")
    given = options.parse_args()
    begun, encoder = time.perf_counter(), load_encoder(given.model)
    rows = [
        *tiny_imagenet(encoder, given.data, Teacher(given.data) if given.teacher else None),
        cifar(encoder, given.data),
        clothing(encoder, given.data),
        *flickr(encoder, given.data),
        *([held_out(given.held_out, given.data)] if given.held_out else []),
        *cost(given.data),
    ]
    facts = about(model=encoder.model_id, took=f"{time.perf_counter() - begun:.0f} s")
    whole = {"rows": [{**asdict(row), "reached": row.reached} for row in rows]}
    title = "The bundled model, measured"
    print(save_page("tiny_accuracy", title, markdown(rows), whole, facts, given.out), end="")


if __name__ == "__main__":
    main()
