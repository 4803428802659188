"""One picture explained: its labels' scores, what each text adds to them, and the heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cmprompt.errors import ItemError, UsageError, unknown
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.max_pool import MaxPoolHead
from cmprompt.heads.zero_shot import POOLS, zero_shot
from cmprompt.rule import parse_top_k
from cmprompt.types import Array, Encoder, Features, FileBytes, Head, Item
from cmprompt.utf8 import clean
from cmprompt.writers.records import rounded

if TYPE_CHECKING:
    from PIL.Image import Image

    from cmprompt.store import Store


@dataclass(frozen=True)
class Explanation:
    """`rows`: one for each text of each label, the best label first. `sheet`, the heat maps side by side, and their
    `method`, which the rows have too, where they were drawn."""

    rows: list[dict[str, Any]]
    sheet: Image | None = None
    method: str | None = None


def explain(
    path: str,
    encoder: Encoder,
    prompts: Mapping[str, Sequence[str]],
    *,
    pool: str = "mean",
    method: str = "auto",
    top_k: str = "all",
    level: int | None = None,
    draw: bool = True,
    store: Store | None = None,
) -> Explanation:
    """Explain the labels of `prompts` on one picture, at `level` N the first N parts of labels such as `animal/cat`.

    Raises ItemError where it cannot be read.
    """
    from cmprompt.embed import embed_texts
    from cmprompt.explain.words import contributions
    from cmprompt.metrics import softmax

    if pool not in POOLS:
        raise UsageError(unknown("pool", pool, POOLS))
    count = parse_top_k(top_k)
    image = _vector(path, encoder, store)
    head = zero_shot(encoder, prompts, pool=pool, store=store)
    scores = softmax(head.logits(Features.of_images(image[None])))[0]  # (C,)
    texts = [text for own in prompts.values() for text in own]
    vectors = embed_texts(texts, encoder, store)  # (M, D)
    parts = contributions(image, prompts, vectors, pool=pool)
    labels, speaker, scores = _at_level(head.labels, scores, level)
    best = np.argsort(-scores, kind="stable")[:count]
    rows = [
        {
            "label": clean(labels[place]),
            "score": rounded(float(scores[place])),
            "cosine": rounded(part.cosine),
            "contribution": rounded(part.contribution),
            "text": clean(part.text),
        }
        for place in best
        for part in parts[head.labels[speaker[place]]]
    ]
    if not draw:
        return Explanation(rows)
    weight = _label_vectors(head, image)[speaker]
    sheet, name = _drawn(path, encoder, weight, labels, best, scores, method)
    return Explanation([{**row, "method": name} for row in rows], sheet, name)


def explain_text(
    path: str, text: str, encoder: Encoder, head: Head, *, store: Store | None = None
) -> list[dict[str, Any]]:
    """One row for each word of the text that goes with a picture into a fused head: the label it pushes, and how far.

    Raises UsageError for a head that reads no text or has no labels, ItemError where the picture cannot be read.
    """
    from cmprompt.embed import embed
    from cmprompt.explain.fused import pushes, without_each_word
    from cmprompt.scores import logits_by_row

    if "text" not in head.needs or not head.labels:
        raise UsageError("only a head with labels that reads texts can be explained by words; fit one: --head concat")
    words, shorter = without_each_word(text)
    if not words:
        raise UsageError("no words to explain; give the text that goes with the picture by --text")
    items = [Item(path, FileBytes(path), text=each) for each in (text, *shorter)]
    rows = []
    for batch in embed(items, encoder, store, needs=head.needs):
        if (bad := batch.outcomes[0]).status != "ok":
            raise ItemError(bad.status, f"{path}: {bad.error}")
        rows.append(logits_by_row(head, batch.features))
    logits = np.concatenate(rows)  # (1 + L, C)
    found = pushes(words, head.labels, logits[0], logits[1:])
    return [
        {"word": clean(each.word), "label": clean(each.label), "contribution": rounded(each.contribution)}
        for each in found
    ]


def _drawn(
    path: str, encoder: Encoder, weight: Array, labels: tuple[str, ...], best: Array, scores: Array, method: str
) -> tuple[Image, str]:
    """The panels of the `best` labels, and how they came about."""
    from cmprompt.explain.draw import panels
    from cmprompt.explain.heat import heat_of
    from cmprompt.images import open_rgb

    picture = open_rgb(FileBytes(path)())
    heat = heat_of(encoder, picture, weight, labels, method, shown=best)  # type: ignore[arg-type]
    # the score first: a long label loses its end
    captions = [f"{scores[place]:.2f}  {labels[place]}" for place in best]
    return panels(picture, heat, captions), heat.method


def _at_level(labels: tuple[str, ...], scores: Array, level: int | None) -> tuple[tuple[str, ...], Array, Array]:
    """The K labels shown, (K,) which of the C `labels` speaks for each, the best below it, and (K,) their scores."""
    from cmprompt.scores import level_labels

    shown, groups = level_labels(labels, level)
    if groups is None:
        return labels, np.arange(len(labels)), scores
    below = [np.flatnonzero(groups == place) for place in range(len(shown))]
    return shown, np.array([own[scores[own].argmax()] for own in below]), np.bincount(groups, scores)


def _label_vectors(head: LinearHead | MaxPoolHead, image: Array) -> Array:
    """(C, D) what the head compares the picture with; of several texts of a label, where the best counts, that one."""
    if isinstance(head, LinearHead):
        return head.weight
    own = np.split(head.texts, head.starts[1:])
    return np.stack([texts[(texts @ image).argmax()] for texts in own])


def _vector(path: str, encoder: Encoder, store: Store | None) -> Array:
    from cmprompt.embed import embed

    (batch,) = embed([Item(path, FileBytes(path))], encoder, store)
    if batch.outcomes[0].status != "ok" or batch.features.image is None:
        raise ItemError(batch.outcomes[0].status, f"{path}: {batch.outcomes[0].error}")
    row: Array = batch.features.image[0]
    return row
