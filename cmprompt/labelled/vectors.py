"""The vectors of labelled rows; where some have none, the error names their lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.errors import UsageError, counted
from cmprompt.labelled.rows import Labelled
from cmprompt.types import Array, Embedded, Encoder, Features, Item

if TYPE_CHECKING:
    from cmprompt.store import Store


def embed_labelled(data: Labelled, encoder: Encoder, store: Store | None, needs: frozenset[str]) -> Features:
    """The vectors of every row, a clip's from all its frames. Raises UsageError that names the lines which failed."""
    from cmprompt.clips import pooled, with_frames
    from cmprompt.embed import embed

    return join_features(data, pooled(embed(with_frames(data.items), encoder, store, needs=needs)))


def embed_views(data: Labelled, encoder: Encoder, store: Store | None, count: int, seed: int) -> Array:
    """(N, count, D) vectors of random crops and flips of each row's picture, stored; zero where there is none."""
    from cmprompt.embed import embed
    from cmprompt.images.views import views_of

    places = [place for place, item in enumerate(data.items) if item.image is not None]
    views = tuple(view for place in places for view in views_of(data.items[place], encoder.preprocess, count, seed))
    rows = np.zeros((len(data.items), count, encoder.dim), np.float32)
    seen = join_features(Labelled("", views), embed(views, encoder, store)).image
    assert seen is not None
    rows[places] = seen.reshape(len(places), count, -1)
    return rows


def join_features(data: Labelled, batches: Iterable[Embedded]) -> Features:
    """The vectors of every row as one. Raises UsageError that names the lines which failed."""
    parts: list[Features] = []
    failed: dict[int, str] = {}
    done = 0
    for batch in batches:
        failed.update({done + i: str(o.error) for i, o in enumerate(batch.outcomes) if o.status != "ok"})
        parts.append(batch.features)
        done += len(batch.features)
    if failed:
        first = next(iter(failed.values()))
        raise UsageError(f"{data.source}: {counted(len(failed), 'row')} cannot be read ({first}): {data.where(failed)}")
    return Features.joined(parts)


def photo_groups(features: Features) -> Array:
    """(N,) a number for each photo: rows with the same picture (or without one, the same text) have the same."""
    return _groups(features, ("image", "text"))


def text_groups(features: Features) -> Array:
    """(N,) a number for each text: rows with the same text (or without one, the same picture) have the same."""
    return _groups(features, ("text", "image"))


def apart_groups(features: Features, part: float, *, of_text: bool) -> Array:
    """(N,) a number for what stands together where rows are split: rows that share a picture or a text, if no more than
    this `part` of all rows do, one with the next; else, where texts are few categories, those of one photo.

    `of_text`: those of one text in place of one photo, for a head that reads nothing else.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    photos, texts = photo_groups(features), text_groups(features)
    ends = photos, photos.max() + 1 + texts
    links = coo_array((np.ones(len(photos)), ends), shape=(ends[1].max() + 1,) * 2)
    together: Array = connected_components(links, directed=False)[1][photos]
    if np.bincount(together).max() <= part * len(together):
        return together
    return texts if of_text else photos


def _groups(features: Features, order: tuple[str, str]) -> Array:
    """(N,) numbers, equal where rows have the same vector of the first of these modalities that they have."""
    keys = [b""] * len(features)
    for name in reversed(order):
        rows, there = getattr(features, name), getattr(features, f"has_{name}")
        keys = keys if rows is None else [rows[i].tobytes() if there[i] else key for i, key in enumerate(keys)]
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def known_vectors(source: str, batches: Iterable[Embedded]) -> tuple[list[Item], Array, int]:
    """The items of `source` that have an image vector, their (N, D) vectors, and how many items have none.

    Raises UsageError where none has one.
    """
    items: list[Item] = []
    parts: list[Array] = []
    failed, first = 0, ""
    for batch in batches:
        has_image = batch.features.has_image
        good = [place for place, outcome in enumerate(batch.outcomes) if outcome.status == "ok" and has_image[place]]
        failed += len(batch.outcomes) - len(good)
        first = first or next((str(each.error) for each in batch.outcomes if each.status != "ok"), "")
        if good and batch.features.image is not None:
            items += [batch.items[place] for place in good]
            parts.append(batch.features.image[good])
    if not parts:
        what = f"none of {counted(failed, 'picture')} can be read" if failed > 1 else "no picture can be read"
        raise UsageError(f"{source}: {what}{first and f' ({first})'}")
    return items, np.concatenate(parts), failed
