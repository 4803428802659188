"""The public image sets as labelled vectors, for `heads.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmprompt.encoders import load_encoder
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.labelled.rows import Labelled
from cmprompt.labelled.vectors import embed_labelled
from cmprompt.labels import label_set
from cmprompt.prompts import choose_sets, expand
from cmprompt.sources import SourceOptions, read_items
from cmprompt.store import Store
from cmprompt.types import Array, Encoder, Features, Item

BOTH = frozenset({"image", "text"})


@dataclass(frozen=True)
class Vectors:
    """N rows with the names of their classes, and the zero-shot head of these names."""

    features: Features
    names: Array  # (N,) str
    prior: LinearHead

    def take(self, rows: Array) -> Vectors:
        return Vectors(self.features.take(rows), self.names[rows], self.prior)


@dataclass(frozen=True)
class Bench:
    """The model that makes the vectors, and where sets and vectors lie."""

    data: Path
    encoder: Encoder
    store: Store

    @staticmethod
    def open(data: Path, work: Path, model: str) -> Bench:
        return Bench(data, load_encoder(model), Store(work / "heads-store"))

    def vectors(self, items: Sequence[Item], needs: frozenset[str] = frozenset({"image"})) -> Features:
        return embed_labelled(Labelled("the benchmark", tuple(items)), self.encoder, self.store, needs)

    def prior(self, names: Sequence[str]) -> LinearHead:
        """Zero-shot, by the shipped photo prompts."""
        labels = label_set(names)
        head = zero_shot(self.encoder, expand(labels, choose_sets([], [], labels)), store=self.store)
        assert isinstance(head, LinearHead)
        return head

    def labelled(self, items: Sequence[Item]) -> Vectors:
        names = np.array([str(item.target) for item in items])
        return Vectors(self.vectors(items), names, self.prior(sorted(set(names.tolist()))))


def replay(data: Path) -> Vectors:
    """500 real CLIP ViT-B/32 vectors of CIFAR-10 images, and the text of their classes."""
    folder = data / "clip-vitb32-replay"
    images, texts = np.load(folder / "cifar10-test-first500.npz"), np.load(folder / "text-embeddings.npz")
    words = [{"automobile": "car", "ship": "boat"}.get(name, name) for name in images["names"].tolist()]
    place = texts["names"].tolist()
    rows = np.stack([texts["a_name"][place.index(word)] for word in words]).astype(np.float32)
    weight = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    names = np.array(words)[images["labels"].astype(int)]
    features = Features.of_images(images["image_embeddings"].astype(np.float32))
    return Vectors(features, names, LinearHead(weight, tuple(words), "clip", 100.0))


def tiny_imagenet(data: Path, part: str, rows: int) -> list[Item]:
    """The first `rows` photos of `part` (train-0 or val); the class is the first of its synonyms."""
    options = SourceOptions(image_col="image", target_col="wnid", limit=rows)
    items = list(read_items([str(data / "tiny-imagenet" / f"{part}.parquet")], options))
    return [replace(item, target=item.columns["names"].split(",")[0].strip()) for item in items]


def cifar10(data: Path, rows: int) -> list[Item]:
    """Of the 2,000 photos that the bundled model's recipe leaves out (as tiny_accuracy.py has them)."""
    tables = [str(path) for path in sorted((data / "cifar10").glob("*.parquet"))]
    items = list(read_items(tables, SourceOptions(image_col="image", target_col="name")))
    return [items[row] for row in np.random.default_rng(0).permutation(len(items))[:rows].tolist()]


def clothing(data: Path, part: str) -> list[Item]:
    """`part`: train or validation."""
    return list(read_items([str(data / "clothing" / part)], SourceOptions(class_folders=True)))


def grocery(data: Path, part: str) -> list[Item]:
    """Groceries: the coarse class is the text, the fine one the label."""
    options = SourceOptions(image_col="image", text_col="coarse", target_col="fine")
    return list(read_items([str(data / "grocery" / f"{part}.csv")], options))


def houses(data: Path) -> list[Item]:
    return list(read_items([str(data / "houses" / "train.csv")], SourceOptions(target_col="price")))


def captioned(data: Path, parts: Sequence[str], rows: int) -> list[Item]:
    """Flickr8k photos, each with its first caption."""
    shards = [str(data / "flickr8k" / f"{part}.tar") for part in parts]
    return list(read_items(shards, SourceOptions(limit=rows)))


def matched(features: Features, seed: int) -> tuple[Features, Array, Array]:
    """Every photo twice, with its own caption (yes) and with another photo's (no): neither side alone says which.

    Gives the rows, their names, and the photo of each.
    """
    n = len(features)
    order = np.random.default_rng(seed).permutation(n)
    other = np.empty(n, int)
    other[order] = np.roll(order, 1)  # never its own
    assert features.text is not None
    twice = features.take(np.tile(np.arange(n), 2))
    changes = {"text": np.concatenate([features.text, features.text[other]])}
    if features.text_tokens is not None:
        changes["text_tokens"] = np.concatenate([features.text_tokens, features.text_tokens[other]])
    return replace(twice, **changes), np.repeat(["yes", "no"], n), np.tile(np.arange(n), 2)
