"""What each image is, over the vocabulary of concepts: weights of the positives, and which others are left out."""

import re
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from training.concepts import LABELS, OFTEN, Concept, caption_words

PARENTS_SHARE = 0.8  # of the weight of the name itself
OFTEN_SHARE = 0.3  # of the weight of the name itself
SCENE = (
    "clothing",
    "structure",
    "landscape",
    "furniture",
    "sports equipment",
    "toy",
    "container",
    "tool",
    "glasses",
    "bag",
)


class Targets:
    """weights (L, V) and masks (L, V) by label; `mask` is true where a concept is no negative."""

    def __init__(self, table: dict[str, Concept]) -> None:
        self.table = table
        self.keys = list(table)
        self.row = {key: row for row, key in enumerate(self.keys)}
        self.below = {key: {k for k, c in table.items() if key in c.parents} for key in self.keys}

    def of(
        self, keys: Sequence[str], maybe: Sequence[str] = (), often: Sequence[str] = ()
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(V,) weights and (V,) mask of an image that shows all `keys`, perhaps `maybe`, more likely than not `often`.

        The more stands above a parent, the nearer it is, and the more it weighs: of a beagle, dog more than animal.
        """
        weights, mask = torch.zeros(len(self.keys)), torch.zeros(len(self.keys), dtype=torch.bool)
        above = {p for key in keys for p in self.table[key].parents} - set(keys)
        nearness = {key: 1 + len(self.table[key].parents) for key in sorted(above)}
        for key in keys:
            weights[self.row[key]] += 1 / len(keys)
        for key in often:
            weights[self.row[key]] += OFTEN_SHARE
        for key, near in nearness.items():
            weights[self.row[key]] += PARENTS_SHARE * near / sum(nearness.values())
        loose = {m for key in (*keys, *maybe) for m in (*self.table[key].maybe, *self.below[key])}
        loose |= above | set(keys) | set(maybe) | set(often) | {p for key in maybe for p in self.table[key].parents}
        mask[[self.row[key] for key in loose if key in self.row]] = True
        return weights, mask

    def tiny(self, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A class of Tiny-ImageNet, with what most of its pictures show besides."""
        return self.of([key], often=[other for other, keys in OFTEN.items() if key in keys and other in self.row])

    def label(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        key = LABELS.get(name, name)
        return self.of([key if key in self.row else key.lower()])

    def captions(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """A word in two captions is there; in one it may be; what scenes are full of is no negative."""
        sets = [set(re.findall("[a-z]+", caption.lower())) for caption in captions]
        counts = {
            key: sum(bool(words & said) for said in sets) for key, words in caption_words().items() if key in self.row
        }
        there = [key for key, count in counts.items() if count >= 2]
        perhaps = [key for key, count in counts.items() if count == 1]
        scene = [key for key in SCENE if key in self.row]
        if "dog" in there:
            perhaps.append(
                "cat"
            )  # there are hundreds of sharp dogs and hardly a sharp cat: leave their telling to others
        return self.of(there, [*perhaps, *scene])


def concept_loss(logits: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Each positive against all negatives, never against another positive: cross entropy, weighted. All (N, V)."""
    negatives = logits.masked_fill(mask, -1e4).logsumexp(1, keepdim=True)
    return (weights * F.softplus(negatives - logits)).sum(1).mean()
