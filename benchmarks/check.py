"""How well `check` finds wrong pairs and wrong labels.

    python benchmarks/check.py [--model tiny]

Pairs: Flickr8k `val`, one caption of each photo, 10 % of the captions swapped among themselves. Labels: the real CLIP
vectors of `clip-vitb32-replay`, 5 % of the labels wrong. Five draws each; AUROC of the suspicion, and what was flagged.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import about, parser, save_page, table
from sklearn.metrics import roc_auc_score

from cmprompt.embed import embed, embed_texts
from cmprompt.encoders import load_encoder
from cmprompt.tasks.check import check_labels, check_pairs
from cmprompt.types import Array, Item

SWAPPED, WRONG, DRAWS, FDR = 0.10, 0.05, 5, 0.1


def flickr(folder: Path) -> Iterator[tuple[Item, str]]:
    """Each photo of `val.tar` with its first caption."""
    with tarfile.open(folder / "flickr8k" / "val.tar") as tar:
        parts = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        for name in sorted(part for part in parts if part.endswith(".json")):
            words, photo = parts[name], parts[name.replace(".json", ".webp")]
            assert words is not None and photo is not None
            data = photo.read()
            yield Item(name, lambda data=data: data), json.load(words)["captions"][0]


def pair_rows(data: Path, model: str) -> Iterator[list[float]]:
    """AUROC, flagged, share of them that is wrong, stated share that is fine, estimated share of wrong pairs."""
    items, captions = zip(*flickr(data), strict=True)
    encoder = load_encoder(model)
    images = np.concatenate(
        [batch.features.image for batch in embed(items, encoder) if batch.features.image is not None]
    )
    texts = embed_texts(captions, encoder)
    for seed in range(DRAWS):
        own = np.arange(len(items))
        chosen = np.random.default_rng(seed).choice(len(items), round(SWAPPED * len(items)), replace=False)
        own[chosen] = np.roll(chosen, 1)
        found = check_pairs(images, texts, range(len(items)), own, fdr=FDR)
        wrong = np.isin(np.arange(len(items)), chosen)
        precision = wrong[found.flagged].mean() if found.flagged.any() else float("nan")
        auroc = roc_auc_score(wrong, found.p_value)
        yield [auroc, found.flagged.sum(), precision, _or_nan(found.fdr), _or_nan(found.mismatched_share)]


def _or_nan(share: float | None) -> float:
    """NaN, which no mean counts, for a share of nothing."""
    return float("nan") if share is None else share


def label_rows(data: Path) -> Iterator[list[float]]:
    """AUROC, flagged, share of them that is wrong, share of the wrong that is flagged."""
    replay = np.load(data / "clip-vitb32-replay" / "cifar10-test-first500.npz", allow_pickle=True)
    vectors: Array = replay["image_embeddings"].astype(np.float32)
    for seed in range(DRAWS):
        target, dice = replay["labels"].astype(int), np.random.default_rng(seed)
        chosen = dice.choice(len(target), round(WRONG * len(target)), replace=False)
        target[chosen] = (target[chosen] + dice.integers(1, 10, len(chosen))) % 10
        found = check_labels(vectors, target, 10)
        wrong = np.isin(np.arange(len(target)), chosen)
        auroc = roc_auc_score(wrong, -found.confidence)
        yield [auroc, found.flagged.sum(), wrong[found.flagged].mean(), found.flagged[wrong].mean()]


def draws(names: list[str], rows: list[list[float]]) -> str:
    """One line a draw, and the mean."""
    named = {**{str(draw): row for draw, row in enumerate(rows)}, "mean": np.nanmean(np.array(rows), axis=0)}
    return table(["draw", *names], ([name, *(f"{value:.3g}" for value in row)] for name, row in named.items()))


def plain(rows: list[list[float]]) -> list[list[float | None]]:
    """For JSON, which has no NaN: the share of nothing flagged."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in rows]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="tiny")
    asked = options.parse_args()
    facts, labels = about(model=asked.model), list(label_rows(asked.data))
    pairs = list(pair_rows(asked.data, asked.model))
    names = ["AUROC", "flagged", "of them wrong", "stated share fine", "estimated share swapped"]
    body = (
        f"## Pairs: Flickr8k `val`, {SWAPPED:.0%} of the captions swapped, `--fdr {FDR:g}`\n\n{draws(names, pairs)}\n"
        f"## Labels: 500 real CLIP vectors of CIFAR-10, {WRONG:.0%} wrong\n\n"
        f"{draws(['AUROC', 'flagged', 'of them wrong', 'of the wrong flagged'], labels)}"
    )
    rows = {"pairs": plain(pairs), "labels": plain(labels)}
    print(save_page("check", "What `check` finds", body, rows, facts, asked.out))


if __name__ == "__main__":
    main()
