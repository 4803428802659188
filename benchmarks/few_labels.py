"""Few labels, and none: the tables 2 and 9 of `heads.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from harness import Line
from labelled_sets import Vectors

from cmprompt.heads.fit import fit
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.stata import adapt
from cmprompt.heads.wise import wise
from cmprompt.types import Array, Head

SHOTS = (1, 4, 8, 16)
NEVER_WORSE = ("linear", "tip-adapter", "auto")  # than zero-shot
HEADS = ("zero-shot", "cold linear", "linear", "tip-adapter", "tip-adapter-f", "gda", "proker", "WiSE", "auto")
Rows = list[list[object]]


def few(vectors: Vectors, seeds: int, judges: Vectors | None = None) -> dict[str, list[float]]:
    """Accuracy of each head at each of SHOTS, mean over the seeds: on `judges`, or on what the draw left."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in SHOTS] for name in HEADS}
    for column, shots in enumerate(SHOTS):
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(vectors.names))
            train = np.concatenate([order[vectors.names[order] == c][:shots] for c in vectors.prior.labels])
            left = judges or vectors.take(np.setdiff1d(order, train))
            for name, cells in found.items():
                cells[column].append(right(fitted(name, vectors.take(train), seed), left))
    return {name: [float(np.mean(cell)) for cell in cells] for name, cells in found.items()}


def judged(found: dict[str, list[float]]) -> list[Line]:
    """On real CLIP vectors few labels must not make worse what prompts alone can do, and sixteen must make it better;
    the best head and the cold one are known from the literature."""
    before, where = np.array(found["zero-shot"]), "real CLIP vectors"
    lines = []
    for name in NEVER_WORSE:
        gain = np.array(found[name]) - before
        lines.append(_points(f"{where}: {name}, the worst of {SHOTS} shots", float(gain.min()), -0.3))
        lines.append(_points(f"{where}: {name}, {SHOTS[-1]} shots", float(gain[-1]), 0.0))
    cold = found["cold linear"][1] - found["zero-shot"][1]
    best = max(cells[-1] for cells in found.values())
    return [
        *lines,
        Line("real CLIP vectors: the best head, 16 shots", "", best, 92.0, None, suffix=" %"),
        Line("real CLIP vectors: cold linear, 4 shots", "zero-shot", cold, 0.0, None, suffix=" points", below=True),
    ]


def _points(measure: str, value: float, floor: float) -> Line:
    return Line(measure, "zero-shot", value, floor, None, suffix=" points")


def fitted(name: str, train: Vectors, seed: int) -> Head:
    """The head of one line of the table."""
    x, names, prior = train.features, train.names, train.prior
    if name == "zero-shot":
        return prior
    if name == "cold linear":
        return fit("linear", x, names, model_id="cold", labels=prior.labels, seed=seed)
    if name == "WiSE":
        after = fit("linear", x, names, prior, seed=seed)
        assert isinstance(after, LinearHead)
        return wise(prior, after)
    return fit(name, x, names, prior, seed=seed)


def right(head: Head, left: Vectors) -> float:
    """Accuracy in per cent."""
    return 100 * float(np.mean(np.array(head.labels)[head.logits(left.features).argmax(1)] == left.names))


def unlabelled(vectors: Vectors, draws: int) -> Rows:
    """Zero-shot against the adapted head on the very images it was adapted to, mean over draws."""
    y, classes = vectors.names, np.array(vectors.prior.labels)

    def some(count: int) -> Callable[[np.random.Generator], Array]:
        return lambda dice: dice.permutation(len(y))[:count]

    def two(count: int) -> Callable[[np.random.Generator], Array]:
        return lambda dice: dice.permutation(np.flatnonzero(np.isin(y, dice.permutation(classes)[:2])))[:count]

    def heavy(count: int) -> Callable[[np.random.Generator], Array]:
        def draw(dice: np.random.Generator) -> Array:
            odds = np.where(y == dice.permutation(classes)[0], 20.0, 1.0)
            few = min(count, len(y) // 4)  # or the heavy class would be used up
            return dice.choice(len(y), few, replace=False, p=odds / odds.sum())

        return draw

    kinds = {"all classes": some, "2 classes": two, "one class 20 times as likely": heavy}
    return [_adapted(vectors, f"{name}, {n}", make(n), draws) for name, make in kinds.items() for n in (64, 500)]


def _adapted(vectors: Vectors, name: str, draw: Callable[[np.random.Generator], Array], draws: int) -> list[object]:
    cells, images = [], 0
    for seed in range(draws):
        part = vectors.take(draw(np.random.default_rng(seed)))
        images = len(part.names)
        assert part.features.image is not None
        cells.append([right(head, part) for head in (part.prior, adapt(part.prior, part.features.image))])
    before, after = np.mean(cells, axis=0)
    return [name, images, f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]
