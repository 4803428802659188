"""Videos on the road of pictures: a clip's frames go through it one by one and come out as one row, or as segments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np

from cmprompt.encoding import NORM_TOLERANCE
from cmprompt.errors import Status, UsageError
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
    if fps is not None and not 0 < fps < math.inf:  # nan is not either
        raise UsageError(f"--fps {fps:g}: give a number above 0")
    return Sampling(fps, frames)


def with_frames(items: Iterable[Item], sampling: Sampling = Sampling()) -> Iterator[Item]:  # noqa: B008
    """`items` with every video replaced by its sampled frames; all else as it is."""
    for item in items:
        if isinstance(item.image, FileBytes) and is_video_name(item.image.path):
            for frame in read_video(item.image.path, sampling):
                yield replace(item, image=ClipFrame(item, frame), time_s=frame.time_s, end_s=frame.end_s)
        else:
            yield item


def pooled(embedded: Iterable[Embedded]) -> Iterator[Embedded]:
    """Batches in which a clip's frames have become one row: the clip itself, with the mean of their unit vectors.

    A clip of which some frames failed is flagged with their status, "truncated" where the file is damaged; one without
    any frame has the failure of its first.
    """
    clip: _Clip | None = None
    for batch in embedded:
        if clip is None and not any(_is_frame(item.image) for item in batch.items):
            yield batch
            continue
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

    A stretch ends where the next begins, the last one with the clip. Its score is the mean over its frames; the rest is
    that of its clearest frame. A frame that failed is a flag of the stretch it falls into. What is no frame passes.
    """
    stretch: _Stretch | None = None
    for prediction in predictions:
        clip = _clip_of(prediction)
        if stretch is not None and not stretch.takes(prediction):
            yield stretch.prediction()
            stretch = None
        if clip is None:
            yield prediction
        else:
            stretch = stretch or _Stretch.begun(clip, prediction)
            stretch.add(prediction)
    if stretch is not None:
        yield stretch.prediction()


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
    failures: dict[Status, Outcome] = field(default_factory=dict)  # the first of each status

    def add(self, row: _Row) -> None:
        if row.text is not None:
            self.text, self.text_tokens = row.text, row.text_tokens
        if row.outcome.status != "ok" or row.image is None:
            self.failures.setdefault(row.outcome.status, row.outcome)
            return
        self.total = row.image.astype(np.float64) + (0.0 if self.total is None else self.total)
        self.lengths += float(np.linalg.norm(row.image))
        if row.image_tokens is not None:
            self.tokens = row.image_tokens.astype(np.float64) + (0.0 if self.tokens is None else self.tokens)
        self.count += 1

    def row(self) -> _Row:
        if self.total is None:
            return _Row(self.item, next(iter(self.failures.values()), Outcome("unreadable", "no frame")))
        flags = tuple(dict.fromkeys(map(_flag, self.failures)))
        length = self.lengths / self.count
        length = 1.0 if abs(length - 1) < NORM_TOLERANCE else length  # a network's own rows are not unit rows
        mean = (self.total * (length / np.linalg.norm(self.total))).astype(np.float32)
        tokens = None if self.tokens is None else (self.tokens / self.count).astype(np.float32)
        return _Row(self.item, Outcome(flags=flags), mean, self.text, tokens, self.text_tokens)


FIGURES = ("score", "cosine", "margin")


@dataclass
class _Stretch:
    """Frames of one clip in a row with the same label. None of their pictures is kept: the clip may be a film."""

    clip: Item
    clearest: Prediction  # its item is the clip
    start_s: float
    end_s: float
    count: int = 0  # of frames with a score
    sums: dict[str, float] = field(default_factory=dict)  # of their figures
    tops: dict[str, float] = field(default_factory=dict)  # of each label's scores among their best
    flags: tuple[str, ...] = ()

    @staticmethod
    def begun(clip: Item, frame: Prediction) -> _Stretch:
        start_s = frame.item.time_s or 0.0
        return _Stretch(clip, replace(frame, item=clip), start_s, start_s)

    def takes(self, frame: Prediction) -> bool:
        if _clip_of(frame) is not self.clip:
            return False
        return frame.status != "ok" or (self.clearest.status == "ok" and self.clearest.label == frame.label)

    def add(self, frame: Prediction) -> None:
        flags = frame.flags if frame.status == self.clearest.status else (_flag(frame.status),)
        self.flags = tuple(dict.fromkeys((*self.flags, *flags)))
        self.end_s = frame.item.end_s or self.end_s
        if frame.score is None:
            return
        self.count += 1
        for name in FIGURES:
            if (value := getattr(frame, name)) is not None:
                self.sums[name] = self.sums.get(name, 0.0) + value
        for label, score in frame.top:
            self.tops[label] = self.tops.get(label, 0.0) + score
        if frame.score > (self.clearest.score or 0.0):
            self.clearest = replace(frame, item=self.clip)

    def prediction(self) -> Prediction:
        """Its figures are the means of the frames'; a label that is not among a frame's best has nothing there."""
        item = replace(self.clip, time_s=self.start_s, end_s=self.end_s)
        figures: dict[str, Any] = {name: total / self.count for name, total in self.sums.items()}
        means = sorted(((label, total / self.count) for label, total in self.tops.items()), key=lambda pair: -pair[1])
        top = tuple(means[: len(self.clearest.top)])
        if len(top) > 1 and "margin" in figures:
            figures["margin"] = top[0][1] - top[1][1]
        return replace(self.clearest, item=item, top=top, flags=self.flags, **figures)


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


def _flag(status: Status) -> str:
    """What is said of a clip some of whose frames have this status."""
    return "truncated" if status == "unreadable" else status


def _clip_of(prediction: Prediction) -> Item | None:
    image = prediction.item.image
    return image.clip if _is_frame(image) else None


def _is_frame(image: object) -> TypeGuard[ClipFrame]:
    return isinstance(image, ClipFrame)
