"""Videos on the road of pictures: a clip's frames go through it one by one and come out as one row, or as segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from cmprompt.encoding import NORM_TOLERANCE
from cmprompt.errors import UsageError
from cmprompt.sources.video import Sampling, is_video_name, read_video
from cmprompt.types import Array, Embedded, Features, FileBytes, Frame, Item, Outcome, Prediction


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """A frame's `image`, which knows the clip it belongs to."""

    clip: Item
    frame: Item

    def __call__(self) -> bytes | Frame:
        assert self.frame.image is not None
        return self.frame.image()


def sampling_of(fps: float | None, frames: int | None) -> Sampling:
    """The flags --fps and --frames. Raises UsageError where both are given or one is not positive."""
    if fps is not None and frames is not None:
        raise UsageError("--fps and --frames exclude each other; give one")
    if fps is not None and fps <= 0:
        raise UsageError(f"--fps {fps:g}: give a number above 0")
    return Sampling(fps, frames)


def with_frames(items: Iterable[Item], sampling: Sampling = Sampling()) -> Iterator[Item]:  # noqa: B008
    """`items` with every video replaced by its sampled frames; all else as it is."""
    for item in items:
        if isinstance(item.image, FileBytes) and is_video_name(item.image.path):
            for frame in read_video(item.image.path, sampling):
                yield replace(item, image=ClipFrame(item, frame), time_s=frame.time_s)
        else:
            yield item


def pooled(embedded: Iterable[Embedded]) -> Iterator[Embedded]:
    """Batches in which a clip's frames have become one row: the clip itself, with the mean of their unit vectors.

    A clip whose end is damaged is flagged "truncated"; one without any frame has the failure of its first.
    """
    clip: _Clip | None = None
    for batch in embedded:
        done: list[_Row] = []
        for place, item in enumerate(batch.items):
            row = _Row.of(batch, place)
            if clip is not None and not (_is_frame(item.image) and item.image.clip is clip.item):
                done.append(clip.row())
                clip = None
            if _is_frame(item.image):
                clip = clip or _Clip(item.image.clip)
                clip.add(row)
            else:
                done.append(row)
        if done:
            yield _batch(done, batch)
    if clip is not None:
        yield _batch([clip.row()], batch)


def segments(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Frames' predictions -> one for each stretch of a clip with the same label, from `time_s` to `end_s` of its item.

    A stretch ends where the next begins, the last one with the last frame. Its score is the mean over its frames; the
    rest is that of its clearest frame. What is no frame passes.
    """
    stretch: list[Prediction] = []
    for prediction in predictions:
        if stretch and (_clip_of(prediction) is None or _clip_of(prediction) is not _clip_of(stretch[0])):
            yield _segment(stretch, _second(stretch[-1]))
            stretch = []
        if _clip_of(prediction) is None:
            yield prediction
        elif prediction.status != "ok" and stretch:
            stretch[-1] = replace(stretch[-1], flags=_with_truncated(stretch[-1].flags, prediction.status))
        elif stretch and (stretch[-1].label != prediction.label or stretch[-1].status != "ok"):
            yield _segment(stretch, _second(prediction))
            stretch = [prediction]
        else:
            stretch.append(prediction)
    if stretch:
        yield _segment(stretch, _second(stretch[-1]))


@dataclass(frozen=True)
class _Row:
    item: Item
    outcome: Outcome
    image: Array | None = None  # (D,), None where masked
    text: Array | None = None
    image_tokens: Array | None = None  # (P, D)
    text_tokens: Array | None = None  # (L, D)

    @staticmethod
    def of(batch: Embedded, place: int) -> _Row:
        x = batch.features

        def own(rows: Array | None, has: Array) -> Array | None:
            return rows[place] if rows is not None and has[place] else None

        image, image_tokens = own(x.image, x.has_image), own(x.image_tokens, x.has_image)
        text, text_tokens = own(x.text, x.has_text), own(x.text_tokens, x.has_text)
        return _Row(batch.items[place], batch.outcomes[place], image, text, image_tokens, text_tokens)


@dataclass
class _Clip:
    item: Item
    count: int = 0
    total: Array | None = None
    lengths: float = 0.0  # of the rows in `total`
    tokens: Array | None = None  # their sum
    text: Array | None = None
    text_tokens: Array | None = None
    outcomes: list[Outcome] = field(default_factory=list)  # of what failed, at most the first

    def add(self, row: _Row) -> None:
        if row.text is not None:
            self.text, self.text_tokens = row.text, row.text_tokens
        if row.outcome.status != "ok" or row.image is None:
            self.outcomes = self.outcomes or [row.outcome]
            return
        self.total = row.image.astype(np.float64) + (0.0 if self.total is None else self.total)
        self.lengths += float(np.linalg.norm(row.image))
        if row.image_tokens is not None:
            self.tokens = row.image_tokens.astype(np.float64) + (0.0 if self.tokens is None else self.tokens)
        self.count += 1

    def row(self) -> _Row:
        if self.total is None:
            return _Row(self.item, self.outcomes[0] if self.outcomes else Outcome("unreadable", "no frame"))
        flags = _with_truncated((), self.outcomes[0].status) if self.outcomes else ()
        length = self.lengths / self.count
        length = 1.0 if abs(length - 1) < NORM_TOLERANCE else length  # a network's own rows are not unit rows
        mean = (self.total * (length / np.linalg.norm(self.total))).astype(np.float32)
        tokens = None if self.tokens is None else (self.tokens / self.count).astype(np.float32)
        return _Row(self.item, Outcome(flags=flags), mean, self.text, tokens, self.text_tokens)


def _batch(rows: list[_Row], like: Embedded) -> Embedded:
    x = like.features
    image, has_image = _stacked([row.image for row in rows], x.image)
    text, has_text = _stacked([row.text for row in rows], x.text)
    image_tokens, _ = _stacked([row.image_tokens for row in rows], x.image_tokens)
    text_tokens, _ = _stacked([row.text_tokens for row in rows], x.text_tokens)
    features = Features(image, text, has_image, has_text, image_tokens, text_tokens)
    return Embedded(tuple(row.item for row in rows), tuple(row.outcome for row in rows), features)


def _stacked(rows: list[Array | None], like: Array | None) -> tuple[Array | None, Array]:
    """(N, ...) with zeros where masked, and the (N,) mask."""
    mask = np.array([row is not None for row in rows], bool)
    if like is None:
        return None, mask
    empty = np.zeros(like.shape[1:], np.float32)
    return np.stack([empty if row is None else row for row in rows]), mask


def _segment(stretch: list[Prediction], end_s: float) -> Prediction:
    clearest = max(stretch, key=lambda prediction: prediction.score or 0.0)
    clip = _clip_of(stretch[0])
    assert clip is not None
    scores = [prediction.score for prediction in stretch if prediction.score is not None]
    flags = tuple(dict.fromkeys(flag for prediction in stretch for flag in prediction.flags))
    item = replace(clip, time_s=_second(stretch[0]), end_s=end_s)
    return replace(clearest, item=item, score=float(np.mean(scores)) if scores else None, flags=flags)


def _with_truncated(flags: tuple[str, ...], status: str) -> tuple[str, ...]:
    return (*flags, "truncated") if status in ("truncated", "unreadable") else flags


def _clip_of(prediction: Prediction) -> Item | None:
    image = prediction.item.image
    return image.clip if _is_frame(image) else None


def _second(prediction: Prediction) -> float:
    return prediction.item.time_s or 0.0


def _is_frame(image: object) -> TypeGuard[ClipFrame]:
    return isinstance(image, ClipFrame)
