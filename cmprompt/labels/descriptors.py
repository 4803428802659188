"""Which descriptions spoke for the label that won (DCLIP, Menon and Vondrick, ICLR 2023)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cmprompt.scores import level_labels
from cmprompt.types import Array, Embedded, Prediction

Decide = Callable[[Iterable[Embedded]], Iterator[Prediction]]
NAMED = 3  # descriptions in a record


@dataclass(frozen=True)
class Descriptors:
    """M texts with their unit vectors (M, D), and which rows belong to each label that is shown."""

    texts: tuple[str, ...]
    vectors: Array
    rows: Mapping[str, Array]

    @staticmethod
    def of(prompts: Mapping[str, Sequence[str]], vectors: Array, level: int | None = None) -> Descriptors:
        """`vectors` are those of all texts of `prompts`, class-major; `level` as in `Rule`."""
        shown, groups = level_labels(tuple(prompts), level)
        groups = np.arange(len(prompts)) if groups is None else groups  # (C,)
        owner = np.repeat(groups, [len(texts) for texts in prompts.values()])  # (M,)
        texts = tuple(text for own in prompts.values() for text in own)
        return Descriptors(texts, vectors, {label: np.flatnonzero(owner == c) for c, label in enumerate(shown)})

    def best(self, label: str | None, image: Array, most: int = NAMED) -> tuple[tuple[str, float], ...]:
        """The texts of `label` most similar to `image` (D,) with their cosines; none where it has no texts."""
        rows = self.rows.get(label or "", np.zeros(0, int))
        cosines = self.vectors[rows] @ image  # (texts of this label,)
        order = np.argsort(-cosines, kind="stable")[:most]
        return tuple((self.texts[rows[place]], float(cosines[place])) for place in order)


def with_descriptors(embedded: Iterable[Embedded], decide: Decide, known: Descriptors) -> Iterator[Prediction]:
    """`decide` on each batch, every answer with the descriptions that spoke for it."""
    for batch in embedded:
        for place, found in enumerate(decide([batch])):
            image = batch.features.image
            texts = () if image is None else known.best(found.label, image[place])
            yield replace(found, descriptors=texts)  # a record that failed too: the first one names the columns


def tally(answers: Sequence[str], images: Array, known: Descriptors) -> Iterator[tuple[str, str, int]]:
    """(label, text, how often it was the nearest of its label's) for each answer given to (N, D) images, by label."""
    won: dict[str, Counter[str]] = {}
    for label, image in zip(answers, images, strict=True):
        for text, _ in known.best(label, image, 1):
            won.setdefault(label, Counter())[text] += 1
    for label in sorted(won):
        yield from ((label, text, times) for text, times in won[label].most_common())
