"""From a stream of images without labels to a frozen head: what `adapt` does between reading and writing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cmprompt.clips import pooled, with_frames
from cmprompt.decisions import parts_of
from cmprompt.errors import CmpromptError, UsageError
from cmprompt.heads.linear import LinearHead
from cmprompt.heads.stata import adapt, to_shares
from cmprompt.sources.video import Sampling
from cmprompt.types import Array, Encoder, Features, Item
from cmprompt.utf8 import clean

if TYPE_CHECKING:
    from cmprompt.store import Store


@dataclass(frozen=True)
class Adapted:
    """The frozen head; each label's share of the answers before and after; the part of answers that changed.

    `first`: the first input that failed, and why; empty where none did.
    """

    head: LinearHead
    images: int
    failed: int
    first: str
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
    failure: Callable[[str, str, str | None], None] = lambda id, status, error: None,
) -> Adapted:
    """Adapt the zero-shot `head` to all images and clips that can be read; with known `shares` (C,), to these.

    `failure` is told the id, the status and the error of each input that cannot be read.
    Raises CmpromptError where none can be.
    """
    from cmprompt.embed import embed

    rows, failed, first = bytearray(), 0, ""  # grows in its place: joined parts would be held twice
    frames = with_frames(items, sampling)
    for batch in pooled(embed(frames, encoder, store, allow_truncated=allow_truncated)):
        assert batch.features.image is not None
        rows += batch.features.image[batch.features.has_image].tobytes()
        for item, outcome in zip(batch.items, batch.outcomes, strict=True):
            if outcome.status != "ok":
                failed += 1
                first = first or f"{clean(item.id)}: {outcome.error}"
                failure(item.id, outcome.status, outcome.error)
    if not rows:
        raise CmpromptError(f"there is no image to adapt to{first and f' ({first})'}")
    images = np.frombuffer(rows, np.float32).reshape(-1, encoder.dim)
    fitted = adapt(head, images) if shares is None else to_shares(head, images, shares)
    old, new = (_answers(h, images) for h in (head, fitted))
    before, after = (np.bincount(each, minlength=len(head.labels)) / len(images) for each in (old, new))
    return Adapted(fitted, len(images), failed, first, before, after, float((old != new).mean()))


def _answers(head: LinearHead, images: Array) -> Array:
    """(N,) the best label of each image."""
    return np.concatenate([head.logits(part).argmax(1) for part in parts_of(Features.of_images(images), head)])


def read_shares(path: str, labels: tuple[str, ...]) -> Array:
    """(C,) the known shares of the labels: a JSON object, or lines `label,share` (tabs will do). They need not add up.

    Raises UsageError for a label that is missing, unknown or given twice, and for what is no share.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read --prior {path!r}: {error}") from error
    pairs = _from_json(path, text) if text.lstrip().startswith("{") else list(_from_lines(path, text))
    shares = dict(pairs)
    if len(shares) < len(pairs):
        twice = next(label for label, count in Counter(label for label, _ in pairs).items() if count > 1)
        raise UsageError(f"--prior {path}: {twice!r} is given twice")
    if set(shares) != set(labels):
        wrong = sorted(set(shares) ^ set(labels))[0]
        raise UsageError(
            f"--prior {path}: {wrong!r} is {'no label' if wrong in shares else 'missing'}; give every label"
        )
    if not all(0 <= share < math.inf for share in shares.values()) or not any(shares.values()):
        raise UsageError(f"--prior {path}: shares are numbers of at least 0, and not all 0")
    return np.array([shares[label] for label in labels], np.float64)


def _from_json(path: str, text: str) -> list[tuple[str, float]]:
    try:
        return [(label, float(share)) for label, share in json.loads(text, object_pairs_hook=list)]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"--prior {path}: not a JSON object of numbers: {error}") from error


def _from_lines(path: str, text: str) -> Iterator[tuple[str, float]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            label, _, share = line.replace("\t", ",").rpartition(",")
            try:
                yield label.strip(), float(share)
            except ValueError:
                raise UsageError(f"--prior {path}, line {number}: {line!r} is not like: beach,0.3") from None
