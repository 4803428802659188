"""All training images with their targets, drawn as mixed batches."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from training.augment import augment
from training.concepts import build, first_name, without_latin
from training.data import load
from training.targets import Targets
from training.teachers import NAMED

# share of a batch; the small sets are seen more often than their size
SHARES = {
    "tiny": 0.62,
    "cifar-train": 0.18,
    "flickr": 0.10,
    "clothing": 0.04,
    "grocery": 0.03,
    "weather": 0.02,
    "houses": 0.01,
}
# so much as often as other classes of Tiny-ImageNet: many in people's folders; and dogs are many in Flickr8k, cats few
TIMES = {"cat": 4, "dog": 2}
SMALL_TRUST = 0.06  # in the teacher's 1,000 names for small pictures, where it is often wrong


def wnid_names(data: Path) -> dict[str, str]:
    """wnid -> comma-separated names."""
    tables = [
        pq.read_table(path, columns=["wnid", "names"]) for path in sorted((data / "tiny-imagenet").glob("train-*"))
    ]
    return {
        wnid: names for t in tables for wnid, names in zip(*(t[c].to_pylist() for c in ("wnid", "names")), strict=True)
    }


@dataclass
class Part:
    images: NDArray[np.uint8]
    rows: NDArray[np.int64]  # of the images that may be used
    label: NDArray[np.int64]  # (N,) row in the tables of weights and masks
    soft: NDArray[np.float16]  # (N, 1000) the teacher's probabilities
    seen: NDArray[np.float16]  # (N, 1280) what the teacher has of each before its classifier
    pool: NDArray[np.int64]  # `rows`, some of them several times: what batches are drawn from
    told: NDArray[np.float16] | None = None  # (N, V) what the probe calls each


@dataclass
class Batch:
    pixels: torch.Tensor  # (N, 3, P, P) in 0..1
    weights: torch.Tensor  # (N, V)
    mask: torch.Tensor  # (N, V)
    soft: torch.Tensor  # (N, 1000)
    trust: torch.Tensor  # (N,) how much weight it has
    seen: torch.Tensor  # (N, 1280) centred
    told: torch.Tensor  # (N, V)
    captioned: torch.Tensor  # (K,) rows of the batch
    captions: NDArray[np.int64]  # (K,) rows of `Corpus.captions`


class Corpus:
    def __init__(self, data: Path, cache: Path, held_out: frozenset[str]) -> None:
        self.wnids = wnid_names(data)
        self.known_wnids = {wnid: names for wnid, names in self.wnids.items() if wnid not in held_out}
        with (data / "grocery/train.csv").open(newline="") as handle:
            groceries = {row["fine"]: row["coarse"] for row in csv.DictReader(handle)}
        hidden = {w.lower() for wnid in held_out for w in without_latin(self.wnids[wnid])}
        self.forbidden = re.compile("|".join(rf"\b{re.escape(w)}s?\b" for w in sorted(hidden)) or "(?!)", re.IGNORECASE)
        groceries = {
            fine: coarse for fine, coarse in groceries.items() if not self.forbidden.search(f"{fine} {coarse}")
        }
        self.targets = Targets(build(self.wnids, groceries, held_out))
        tables: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.parts = {name: self._part(cache, name, held_out, groceries, tables) for name in SHARES}
        self.weights, self.masks = (torch.stack(column) for column in zip(*tables, strict=True))
        tiny = self.parts["tiny"]
        some = torch.from_numpy(tiny.seen[tiny.rows[::20]].astype(np.float32))
        self.centre, self.spread = some.mean(0), some.std(0) + 1e-3  # (1280,)
        self.captions = load(cache, "flickr")[1]  # (N, 5)
        self.allowed = [str(c) for five in self.captions[self.parts["flickr"].rows] for c in five]

    def centred(self, part: Part, rows: NDArray[np.int64] | slice) -> torch.Tensor:
        """(N, 1280) the teacher's features of some images, of mean 0 and deviation 1 over Tiny-ImageNet."""
        return (torch.from_numpy(part.seen[rows].astype(np.float32)) - self.centre) / self.spread

    def listen(self, folder: Path) -> None:
        """Takes up what the probe has told of each image."""
        for name, part in self.parts.items():
            part.told = np.load(folder / f"told-{name}.npy", mmap_mode="r")

    def _part(
        self,
        cache: Path,
        name: str,
        held_out: frozenset[str],
        groceries: dict[str, str],
        tables: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> Part:
        images, labels = load(cache, name)
        keep, label, known = [], np.zeros(len(labels), np.int64), {}
        for row, cell in enumerate(labels):
            text = " ".join(np.atleast_1d(cell)) if name == "flickr" else str(np.atleast_1d(cell)[0])
            if text in held_out or (name == "grocery" and text not in groceries) or self.forbidden.search(text):
                continue
            if text not in known:
                known[text] = len(tables)
                tables.append(self._target(name, text, cell))
            keep.append(row)
            label[row] = known[text]
        soft = np.load(cache / f"soft-{name}.npy", mmap_mode="r")
        rows, seen = np.array(keep), np.load(cache / f"seen-{name}.npy", mmap_mode="r")
        times = self._times(labels[rows]) if name == "tiny" else 1
        return Part(images, rows, label, soft, seen, np.repeat(rows, times))

    def _times(self, wnids: NDArray[np.str_]) -> NDArray[np.int64]:
        """(N,) how many times each is in the pool."""
        parents = {w: self.targets.table[first_name(self.wnids, w)].parents for w in self.known_wnids}
        times = {w: max([TIMES[p] for p in above & TIMES.keys()], default=1) for w, above in parents.items()}
        return np.array([times[w] for w in wnids.tolist()])

    def _target(self, name: str, text: str, cell: NDArray[np.str_]) -> tuple[torch.Tensor, torch.Tensor]:
        if name == "flickr":
            return self.targets.captions(list(cell))
        if name == "tiny":
            return self.targets.tiny(first_name(self.wnids, text))
        if name == "houses":
            return self.targets.of(
                ["house"], ["grass", "tree", "cloud", "shine", "street", "car", "fence", "landscape", "flower"]
            )
        return self.targets.label(text)

    def draw(self, size: int, size_px: int, smallest: float, rng: np.random.Generator) -> Batch:
        pixels, labels, soft, trust, seen, told, filled = [], [], [], [], [], [], 0
        counts = {name: max(1, round(share * size)) for name, share in SHARES.items()}
        counts["tiny"] += size - sum(counts.values())
        for name, part in self.parts.items():
            count = counts[name]
            chosen = np.sort(rng.choice(part.pool, count, replace=count > len(part.pool)))
            pixels.append(augment(torch.from_numpy(np.array(part.images[chosen])), size_px, smallest))
            labels.append(part.label[chosen])
            seen.append(torch.from_numpy(part.seen[chosen].astype(np.float32)))
            assert part.told is not None, "Corpus.listen comes first"
            told.append(torch.from_numpy(part.told[chosen].astype(np.float32)))
            soft.append(torch.from_numpy(part.soft[chosen].astype(np.float32)))
            trust.append(torch.full((count,), 1.0 if name in NAMED else SMALL_TRUST))
            if name == "flickr":
                captioned, captions = torch.arange(filled, filled + count), chosen
            filled += count
        rows = torch.from_numpy(np.concatenate(labels))
        images = torch.cat(pixels)
        return Batch(
            images,
            self.weights[rows],
            self.masks[rows],
            torch.cat(soft),
            torch.cat(trust),
            torch.cat(seen) - self.centre,
            torch.cat(told),
            captioned,
            captions,
        )
