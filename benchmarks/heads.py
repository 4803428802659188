"""What each head is worth: few labels on real CLIP vectors, adapting without labels, fusions, speed.

    python benchmarks/heads.py few adapt speed --data ../shared/data

Prints Markdown tables; each section runs alone, in seconds to minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cmprompt.heads.fit import fit
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.stata import adapt
from cmprompt.heads.wise import wise
from cmprompt.types import Array, Features, Head

SHOTS = (1, 4, 8, 16)
Vectors = tuple[Array, Array, LinearHead]  # images (N, D), classes (N,), the zero-shot head


def replay(data: Path) -> Vectors:
    """500 real CLIP ViT-B/32 vectors of CIFAR-10 images, and the text of their classes."""
    folder = data / "clip-vitb32-replay"
    images, texts = np.load(folder / "cifar10-test-first500.npz"), np.load(folder / "text-embeddings.npz")
    words = [{"automobile": "car", "ship": "boat"}.get(name, name) for name in images["names"].tolist()]
    place = texts["names"].tolist()
    rows = np.stack([texts["a_name"][place.index(word)] for word in words]).astype(np.float32)
    weight = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return images["image_embeddings"], images["labels"].astype(int), LinearHead(weight, tuple(words), "clip", 100.0)


def fitted(name: str, x: Array, names: Array, prior: LinearHead, seed: int) -> Head:
    """The head of one line of the table."""
    features = Features.of_images(x)
    if name == "zero-shot":
        return prior
    if name == "cold linear":
        return fit("linear", features, names, model_id="clip", labels=prior.labels, seed=seed)
    if name == "WiSE (a = 0.5)":
        after = fit("linear", features, names, prior, seed=seed)
        assert isinstance(after, LinearHead)
        return wise(prior, after)
    return fit(name, features, names, prior, seed=seed)


def few(data: Path, seeds: int) -> Iterator[str]:
    """Accuracy on the images that the draw left, mean over the seeds."""
    x, y, prior = replay(data)
    names = np.array(prior.labels)[y]
    heads = ["zero-shot", "cold linear", "linear", "tip-adapter", "tip-adapter-f", "gda", "proker", "WiSE (a = 0.5)"]
    found = {name: [[] for _ in SHOTS] for name in [*heads, "auto"]}
    for column, shots in enumerate(SHOTS):
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(y))
            rows = np.concatenate([order[y[order] == c][:shots] for c in range(10)])
            left = np.setdiff1d(order, rows)
            for name, cells in found.items():
                head = fitted(name, x[rows], names[rows], prior, seed)
                logits = head.logits(Features.of_images(x[left]))
                cells[column].append(100 * np.mean(logits.argmax(1) == y[left]))
    yield "| head | " + " | ".join(f"{shots} shots" for shots in SHOTS) + " |"
    yield "|---" * (len(SHOTS) + 1) + "|"
    for name, cells in found.items():
        yield f"| {name} | " + " | ".join(f"{np.mean(cell):.1f}" for cell in cells) + " |"


def unlabelled(data: Path, seeds: int) -> Iterator[str]:
    """Zero-shot against the adapted head on the very images it was adapted to, over draws."""
    x, y, prior = replay(data)

    def two(dice: np.random.Generator) -> Array:
        return np.flatnonzero(np.isin(y, dice.permutation(10)[:2]))

    def heavy(dice: np.random.Generator) -> Array:
        odds = np.where(y == dice.integers(10), 20.0, 1.0)
        return dice.choice(len(y), 150, replace=False, p=odds / odds.sum())

    draws: dict[str, Callable[[np.random.Generator], Array]] = {
        "500 images, all 10 classes": lambda dice: np.arange(len(y)),
        "64 images, all 10 classes": lambda dice: dice.permutation(len(y))[:64],
        "2 of 10 classes (about 100 images)": two,
        "150 images, one class 20 times as likely": heavy,
    }
    yield "| images | zero-shot | adapted |"
    yield "|---|---|---|"
    for name, draw in draws.items():
        cells = []
        for seed in range(seeds):
            rows = draw(np.random.default_rng(seed))
            batch = Features.of_images(x[rows])
            heads = (prior, adapt(prior, x[rows]))
            cells.append([100 * np.mean(head.logits(batch).argmax(1) == y[rows]) for head in heads])
        before, after = np.mean(cells, axis=0)
        yield f"| {name} | {before:.1f} | {after:.1f} |"


def speed(rows: int = 50_000, dim: int = 512, classes: int = 100) -> Iterator[str]:
    """`linear` without text against scikit-learn's L-BFGS at one C: time to the same validation accuracy."""
    from sklearn.linear_model import LogisticRegression

    dice = np.random.default_rng(0)
    centres, target = dice.normal(size=(classes, dim)), np.arange(rows + 5000) % classes
    shared = dice.normal(size=(64, dim))
    x = (
        centres[target]
        + 3 * dice.normal(size=(len(target), 64)) @ shared / 8
        + 3 * dice.normal(size=(len(target), dim))
    )
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    train, held = slice(0, rows), slice(rows, None)
    names = np.array([f"{c:03}" for c in target])
    yield "| fit | seconds | validation accuracy |"
    yield "|---|---|---|"
    started = time.perf_counter()
    head = fit("linear", Features.of_images(x[train]), names[train], model_id="m", strength=10.0)
    ours = time.perf_counter() - started
    right = np.mean(head.logits(Features.of_images(x[held])).argmax(1) == target[held])
    yield f"| linear | {ours:.1f} | {100 * right:.2f} |"
    started = time.perf_counter()
    theirs = LogisticRegression(C=10.0, max_iter=1000).fit(x[train], target[train])
    reference = time.perf_counter() - started
    yield f"| scikit-learn | {reference:.1f} | {100 * theirs.score(x[held], target[held]):.2f} |"
    yield ""
    yield f"ratio {ours / reference:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=["few", "adapt", "speed"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    for section in arguments.sections:
        made = {
            "few": lambda: few(arguments.data, arguments.seeds),
            "adapt": lambda: unlabelled(arguments.data, 2 * arguments.seeds),
            "speed": speed,
        }[section]()
        print(f"\n## {section}\n")
        for line in made:
            print(line, flush=True)


if __name__ == "__main__":
    main()
