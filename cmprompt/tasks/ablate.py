"""What each template contributes: alone, and by what changes when it is left out of the ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cmprompt.encoders.batches import unit
from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import means_of
from cmprompt.labels import LabelSet
from cmprompt.metrics import softmax
from cmprompt.prompts import PromptSet, expand
from cmprompt.types import Array, Encoder

if TYPE_CHECKING:
    from cmprompt.store import Store

Row = dict[str, Any]


def single_sets(sets: Sequence[PromptSet]) -> list[PromptSet]:
    """One set for each template, T of them, which is filled as it is among the others; a template that is there twice
    weighs twice, and has two. Raises UsageError where there is but one.
    """
    singles = [replace(each, templates=(template,)) for each in sets for template in each.templates]
    if len(singles) < 2:
        raise UsageError("one template only; name a set with more by --prompts, or give --template twice or more")
    return singles


def template_vectors(
    labels: LabelSet, singles: Sequence[PromptSet], encoder: Encoder, store: Store | None = None
) -> Array:
    """(T, C, D): for each template and label the mean of its phrases' unit vectors.

    Their mean over T, made unit, is the zero-shot head's weight. Raises UsageError for labels with descriptions of
    their own, which go into no template.
    """
    from cmprompt.embed import embed_texts

    if labels.verbatim:
        raise UsageError(f"label {min(labels.verbatim)!r} has descriptions of its own, which no template changes")
    prompts = [expand(labels, [single]) for single in singles]
    texts = [text for each in prompts for own in each.values() for text in own]
    vectors = unit(embed_texts(texts, encoder, store))  # template-major, then class-major
    counts = [len(own) for each in prompts for own in each.values()]
    return means_of(vectors, counts).reshape(len(singles), len(labels), -1)


def ablate(
    images: Array, vectors: Array, templates: Sequence[str], *, scale: float, target: Array | None = None
) -> Iterator[Row]:
    """One row for each template, that with the largest contribution first, and one of all together at the end.

    `images` (N, D) unit rows, `vectors` (T, C, D), `target` (N,) class numbers or None. With a target: accuracy of the
    template `alone`, of the others `without` it, and its `contribution`, the accuracy of all less that. Without one:
    how often it agrees with all of them (`alone`), how often the others do (`without`), and what it adds to the mean
    probability of the answers (`contribution`). All from 0 to 1.
    """
    total = vectors.sum(0)  # (C, D)
    everything = images @ unit(total).T  # (N, C)
    truth = everything.argmax(1) if target is None else target
    rows: list[Row] = []
    for template, own in zip(templates, vectors, strict=True):
        left = images @ unit(total - own).T
        rows.append(
            {
                "template": template,
                "alone": _share(images @ unit(own).T, truth),
                "without": _share(left, truth),
                "contribution": _worth(everything, truth, scale, target) - _worth(left, truth, scale, target),
            }
        )
    yield from sorted(rows, key=lambda row: -row["contribution"])
    yield {"template": "all together", "alone": _share(everything, truth), "without": None, "contribution": None}


def _worth(cosines: Array, truth: Array, scale: float, target: Array | None) -> float:
    """Accuracy, or without a target how sure the answers are."""
    if target is not None:
        return _share(cosines, truth)
    return float(softmax(scale * cosines).max(1).mean())


def _share(cosines: Array, truth: Array) -> float:
    return float((cosines.argmax(1) == truth).mean())
