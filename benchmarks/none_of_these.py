"""None of these: how well unknown classes are told from known ones, and whether one threshold serves two models.

    python benchmarks/none_of_these.py [--model tiny | --clip-only] [--store DIR]

The data folder holds `clip-vitb32-replay` (real CLIP ViT-B/32 vectors of CIFAR-10 images and of 1,616 object names,
which stand in for the vocabulary), `cifar10` and `tiny-imagenet/val.parquet`. The default z is a round number with a
meaning, but it was set with the CLIP vectors in view: for the default those are development data, and the other model
judges. Where a line says `best`, the threshold was chosen on the judged data itself, as an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from harness import about, parser, save_page
from scipy.special import logsumexp
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from cmprompt import embed, load_encoder, zero_shot
from cmprompt.labels import label_set
from cmprompt.openset import DEFAULT_Z, moments, standardise, vocabulary_vectors
from cmprompt.product import product
from cmprompt.prompts import expand, load_prompt_set
from cmprompt.store import Store
from cmprompt.types import Array, Encoder, Item

CIFAR = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "boat", "truck")
SPLITS = 5
PAIRS, FIVES = list(combinations(range(10), 2)), list(combinations(range(10), 5))


@dataclass(frozen=True)
class Scene:
    """N images against C labels and V words of the vocabulary; `y` (N,) is the index of each image's label."""

    cosines: Array  # (N, C)
    words: Array  # (N, V)
    mean: Array  # (N,)
    deviation: Array  # (N,)
    y: Array
    scale: float

    @cached_property
    def z(self) -> Array:
        """(N, C)"""
        return standardise(self.cosines, self.mean, self.deviation)

    @cached_property
    def among_words(self) -> Array:
        """(N,) log of the sum over the vocabulary."""
        return logsumexp(self.scale * self.words, axis=1)


def scene(images: Array, labels: Array, vocabulary: Array, y: Array, scale: float) -> Scene:
    """Unit rows (N, D), (C, D), (V, D)."""
    return Scene(product(images, labels), product(images, vocabulary), *moments(images, vocabulary), y, scale)


def soft(cosines: Array, scale: float) -> Array:
    """(N, C) softmax."""
    powers = np.exp(scale * (cosines - cosines.max(1, keepdims=True)).astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


def by_z(s: Scene, known: Sequence[int]) -> Array:
    return s.z[:, known].max(1)


def by_neglabel(s: Scene, known: Sequence[int]) -> Array:
    """Jiang et al. 2024, equation 4, at the model's own temperature, over the whole vocabulary; here as log odds."""
    return logsumexp(s.scale * s.cosines[:, known], axis=1) - s.among_words


def by_cosine(s: Scene, known: Sequence[int]) -> Array:
    return s.cosines[:, known].max(1)


def by_mcm(s: Scene, known: Sequence[int]) -> Array:
    """Ming et al. 2022: softmax of the cosines at temperature 1."""
    return soft(s.cosines[:, known], 1.0).max(1)


def by_probability(s: Scene, known: Sequence[int]) -> Array:
    return soft(s.cosines[:, known], s.scale).max(1)


METHODS: dict[str, Callable[[Scene, Sequence[int]], Array]] = {
    "z": by_z,
    "NegLabel": by_neglabel,
    "maximum cosine": by_cosine,
    "MCM": by_mcm,
    "maximum softmax probability": by_probability,
}


def fpr95(known: Array, scores: Array) -> float:
    """The share of unknown images that pass where 95 % of the known ones do."""
    false_rate, true_rate, _ = roc_curve(known, scores)
    return float(false_rate[np.searchsorted(true_rate, 0.95)])


def detection(title: str, s: Scene, subsets: Sequence[Sequence[int]]) -> Iterator[str]:
    """A table: AUROC and FPR95 of each method, mean over the subsets that are known."""
    yield f"\n## {title}\n"
    yield "| method | AUROC % | deviation | FPR95 % |"
    yield "|---|---|---|---|"
    for name, method in METHODS.items():
        pairs = [(np.isin(s.y, known), method(s, known)) for known in subsets]
        areas = [roc_auc_score(known, scores) for known, scores in pairs]
        rates = [fpr95(known, scores) for known, scores in pairs]
        yield f"| {name} | {np.mean(areas):.1%} | {np.std(areas):.1%} | {np.mean(rates):.1%} |".replace("%", "")


def at_z(s: Scene, subsets: Sequence[Sequence[int]], z: float) -> tuple[float, float, float]:
    """Shares of known and of unknown images that are taken for known at `z`, and F1 of known; means over subsets."""
    found = []
    for subset in subsets:
        known, taken = np.isin(s.y, subset), by_z(s, subset) >= z
        found.append(
            (taken[known].mean(), taken[~known].mean(), 2 * (known & taken).sum() / (known.sum() + taken.sum()))
        )
    kept, slipped, f1 = np.mean(found, axis=0)
    return float(kept), float(slipped), float(f1)


Rows = dict[str, tuple[Scene, Sequence[Sequence[int]]]]  # name -> what is judged, and the choices of known labels
GRID = np.arange(0.0, 6.01, 0.1)


def thresholds(rows: Rows) -> Iterator[str]:
    """A table: the default z, and each row's own best, for every model and number of labels."""
    yield "\n## One z for several models?\n"
    yield "| model, labels known | known kept % | unknown slipped % | F1 | best z | F1 there |"
    yield "|---|---|---|---|---|---|"
    for name, (s, subsets) in rows.items():
        kept, slipped, f1 = at_z(s, subsets, DEFAULT_Z)
        best = max(GRID, key=lambda z: at_z(s, subsets[:20], z)[2])
        highest = at_z(s, subsets, best)[2]
        yield f"| {name} | {100 * kept:.1f} | {100 * slipped:.1f} | {f1:.3f} | {best:.1f} | {highest:.3f} |"


def best_f1(y: Array, values: Array) -> float:
    """Mean F1 over labels of the one best threshold for all. (N, C)"""
    truth = np.eye(values.shape[1], dtype=bool)[y]
    return max(macro_f1(truth, values >= limit) for limit in np.quantile(values, np.linspace(0, 1, 400)))


def macro_f1(truth: Array, taken: Array) -> float:
    """Mean over labels. (N, C) bool"""
    return float(np.mean(2 * (truth & taken).sum(0) / np.maximum(truth.sum(0) + taken.sum(0), 1)))


def label_f1(truth: Array, values: Array) -> float:
    """F1 of one label at its own best threshold."""
    precision, recall, _ = precision_recall_curve(truth, values)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def labelling(scenes: dict[str, Scene]) -> Iterator[str]:
    """A table: every label decided by itself, F1 of one threshold and of one for each label."""
    yield "\n## Ten labels, each decided by itself (macro F1; best thresholds chosen on the judged images)\n"
    yield "| model | one z | default z | one cosine | one tuned for each label |"
    yield "|---|---|---|---|---|"
    for name, s in scenes.items():
        truth = np.eye(s.z.shape[1], dtype=bool)[s.y]
        default = macro_f1(truth, s.z >= DEFAULT_Z)
        own = np.mean([label_f1(*pair) for pair in zip(truth.T, s.cosines.T, strict=True)])
        z, cosine = best_f1(s.y, s.z), best_f1(s.y, s.cosines)
        yield f"| {name} | {z:.3f} | {default:.3f} | {cosine:.3f} | {own:.3f} |"


def clip_scene(folder: Path) -> Scene:
    """The real CLIP vectors; the vocabulary is the 1,616 names, those of the labels included."""
    images, texts = np.load(folder / "cifar10-test-first500.npz"), np.load(folder / "text-embeddings.npz")
    words = texts["a_name"].astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    names = list(texts["names"])
    labels = words[[names.index(name) for name in CIFAR]]
    return scene(images["image_embeddings"], labels, words, images["labels"], 100.0)


def read_pictures(path: Path, column: str, limit: int | None = None) -> tuple[list[Item], list[str]]:
    """The pictures of a Parquet file, and what its `column` calls them."""
    table = pq.read_table(path, columns=["image", column]).slice(0, limit).to_pylist()
    items = [Item(str(row), (lambda data: lambda: data)(entry["image"]["bytes"])) for row, entry in enumerate(table)]
    return items, [entry[column].split(",")[0].strip() for entry in table]


def model_scene(encoder: Encoder, store: Store | None, images: Array, names: Sequence[str], vocabulary: Array) -> Scene:
    """Labels are the names in the photo prompts, as `cmprompt classify` builds them."""
    labels = sorted(set(names))
    head = zero_shot(encoder, expand(label_set(labels), [load_prompt_set("photo")]), store=store)
    y = np.array([labels.index(name) for name in names])
    return scene(images, head.weight, vocabulary, y, encoder.logit_scale)


def vectors(encoder: Encoder, items: Sequence[Item], store: Store | None) -> Array:
    """(N, D)"""
    return np.concatenate([batch.features.image for batch in embed(items, encoder, store)])


def random_subsets(n: int, size: int, count: int, seed: int = 0) -> list[list[int]]:
    """`count` random choices of `size` labels out of `n`."""
    rng = np.random.default_rng(seed)
    return [sorted(rng.choice(n, size, replace=False).tolist()) for _ in range(count)]


TEMPLATES = ("a photo of a {}.", "{}", "a {}", "this is a {}.")


def vocabularies(
    encoder: Encoder, store: Store | None, images: Array, names: Sequence[str], splits: Sequence[Sequence[int]]
) -> Iterator[str]:
    """Table lines: what the vocabulary's template is worth."""
    yield "| template of the vocabulary | AUROC of z % | known kept % | unknown slipped % at the default z |"
    yield "|---|---|---|---|"
    for template in TEMPLATES:
        s = model_scene(encoder, store, images, names, vocabulary_vectors(encoder, store, template=template))
        area = np.mean([roc_auc_score(np.isin(s.y, known), by_z(s, known)) for known in splits])
        kept, slipped, _ = at_z(s, splits, DEFAULT_Z)
        yield f"| `{template}` | {100 * area:.1f} | {100 * kept:.1f} | {100 * slipped:.1f} |"


def report(data: Path, model: str | None, store: Store | None = None) -> Iterator[str]:
    """The whole page, in Markdown; without a model, what the stored CLIP vectors say."""
    clip = clip_scene(data / "clip-vitb32-replay")
    rows: Rows = {"CLIP, CIFAR-10, 2": (clip, PAIRS), "CLIP, CIFAR-10, 5": (clip, FIVES)}
    alone = {"CLIP, CIFAR-10": clip}
    yield f"`z = (max cos - m) / s` against everyday words; the default limit is z = {DEFAULT_Z:g}."
    yield "For the CLIP vectors 1,616 object names stand in for these; the default was set with those vectors in view."
    yield "Known classes against unknown ones, means over the choices of which classes are known."
    yield from detection(
        "Real CLIP ViT-B/32 vectors, 500 CIFAR-10 images, 2 labels known (all 45 choices)", clip, PAIRS
    )
    yield from detection("The same, 5 labels known (all 252 choices)", clip, FIVES)
    if model is None:
        yield from thresholds(rows)
        yield from labelling(alone)
        return
    encoder = load_encoder(model)
    words = vocabulary_vectors(encoder, store)
    items, names = read_pictures(data / "tiny-imagenet" / "val.parquet", "names")
    images, classes = vectors(encoder, items, store), len(set(names))
    wide = model_scene(encoder, store, images, names, words)
    halves = random_subsets(classes, classes // 2, SPLITS)
    small, small_names = read_pictures(sorted((data / "cifar10").glob("*.parquet"))[0], "name", 2000)
    spoken = [{"automobile": "car", "ship": "boat"}.get(name, name) for name in small_names]
    narrow = model_scene(encoder, store, vectors(encoder, small, store), spoken, words)
    yield f"\n`{model}` is `{encoder.model_id}`."
    yield from detection(
        f"`{model}`, Tiny-ImageNet val, half of {classes} classes known ({SPLITS} splits)", wide, halves
    )
    yield from detection(f"`{model}`, CIFAR-10, 2 labels known (all 45 choices)", narrow, PAIRS)
    yield from detection(f"`{model}`, CIFAR-10, 5 labels known (all 252 choices)", narrow, FIVES)
    rows |= {f"{model}, CIFAR-10, 2": (narrow, PAIRS), f"{model}, CIFAR-10, 5": (narrow, FIVES)}
    rows |= {f"{model}, Tiny-ImageNet, 10": (wide, random_subsets(classes, 10, 20))}
    rows |= {f"{model}, Tiny-ImageNet, {classes // 2}": (wide, halves)}
    yield from thresholds(rows)
    yield from labelling({**alone, f"{model}, CIFAR-10": narrow})
    yield f"\n## The vocabulary's template (`{model}`, Tiny-ImageNet, {classes // 2} known)\n"
    yield from vocabularies(encoder, store, images, names, halves)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="tiny")
    options.add_argument("--clip-only", action="store_true", help="only what the stored vectors say")
    options.add_argument("--store", help="keep embeddings in this directory, so that a second run is quick")
    asked = options.parse_args()
    store = Store(asked.store) if asked.store else None
    lines = list(report(asked.data, None if asked.clip_only else asked.model, store))
    print(save_page("none_of_these", "None of these", "\n".join(lines), {"page": lines}, about(), asked.out))


if __name__ == "__main__":
    main()
