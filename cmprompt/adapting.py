"""From a stream of images without labels to a frozen head: what `adapt` does between reading and writing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.clips import pooled, with_frames
from cmprompt.errors import CmpromptError, UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.stata import adapt, to_shares
from cmprompt.sources.video import Sampling
from cmprompt.types import Array, Encoder, Features, Item

if TYPE_CHECKING:
    from cmprompt.store import Store


@dataclass(frozen=True)
class Adapted:
    """The frozen head; each label's share of the answers before and after; the part of answers that changed."""

    head: LinearHead
    images: int
    failed: int
    before: Array
    after: Array
    changed: float


def adapt_to(
    items: Iterable[Item],
    encoder: Encoder,
    head: LinearHead,
    store: Store | None = None,
    *,
    shares: Array | None = None,
    allow_truncated: bool = False,
    sampling: Sampling = Sampling(),  # noqa: B008
) -> Adapted:
    """Adapt the zero-shot `head` to all images and clips that can be read; with known `shares` (C,), to these.

    Raises CmpromptError where none can be.
    """
    from cmprompt.embed import embed

    parts, failed, first = [], 0, ""
    frames = with_frames(items, sampling)
    for batch in pooled(embed(frames, encoder, store, allow_truncated=allow_truncated)):
        assert batch.features.image is not None
        parts.append(batch.features.image[batch.features.has_image])
        bad = [
            (item, outcome) for item, outcome in zip(batch.items, batch.outcomes, strict=True) if outcome.status != "ok"
        ]
        failed += len(bad)
        first = first or next((f" ({item.id}: {outcome.error})" for item, outcome in bad), "")
    images = np.concatenate(parts) if parts else np.zeros((0, encoder.dim), np.float32)
    if not len(images):
        raise CmpromptError(f"there is no image to adapt to{first}")
    fitted = adapt(head, images) if shares is None else to_shares(head, images, shares)
    old, new = (h.logits(Features.of_images(images)).argmax(1) for h in (head, fitted))
    before, after = (np.bincount(rows, minlength=len(head.labels)) / len(images) for rows in (old, new))
    return Adapted(fitted, len(images), failed, before, after, float((old != new).mean()))


def read_shares(path: str, labels: tuple[str, ...]) -> Array:
    """(C,) the known shares of the labels: a JSON object, or lines `label,share` (tabs will do). They need not add up.

    Raises UsageError for a label that is missing or unknown, and for what is no number.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read --prior {path!r}: {error}") from error
    pairs = _from_json(path, text) if text.lstrip().startswith("{") else _from_lines(path, text)
    if set(pairs) != set(labels):
        wrong = sorted(set(pairs) ^ set(labels))[0]
        raise UsageError(
            f"--prior {path}: {wrong!r} is {'no label' if wrong in pairs else 'missing'}; give every label"
        )
    shares = np.array([pairs[label] for label in labels], np.float64)
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise UsageError(f"--prior {path}: shares are numbers of at least 0, and not all 0")
    return shares


def _from_json(path: str, text: str) -> dict[str, float]:
    try:
        return {str(label): float(share) for label, share in json.loads(text).items()}
    except (ValueError, TypeError) as error:
        raise UsageError(f"--prior {path}: not a JSON object of numbers: {error}") from error


def _from_lines(path: str, text: str) -> dict[str, float]:
    pairs: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            label, _, share = line.replace("\t", ",").rpartition(",")
            try:
                pairs[label.strip()] = float(share)
            except ValueError:
                raise UsageError(f"--prior {path}, line {number}: {line!r} is not like: beach,0.3") from None
            if math.isnan(pairs[label.strip()]):
                raise UsageError(f"--prior {path}, line {number}: not a number")
    return pairs
