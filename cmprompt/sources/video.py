"""Frames of a video as items, by PyAV, which carries FFmpeg with it: the extra `[video]`.

PyAV rather than torchcodec, which is as quick but needs FFmpeg's libraries from the system and stops before the end of
some AVI files (benchmarks/video.py).

A frame is sampled by the time it is shown at, so that files of a variable rate need nothing special. Nothing but the
frame at hand is held, and one larger than needed is scaled down as it is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np

from cmprompt.errors import ItemError
from cmprompt.types import Array, Frame, Item, open_regular

SHORT_SIDE_PX = 512  # more than any model looks at; a frame of a 4K film would take 25 MB
SCENE_FPS = 1.0  # without --fps or --frames: one frame a second, and the first one of each scene
CUT = 0.4  # of a frame's colours gone in the next one: another scene; a shaken camera changes up to 0.25
THUMBNAIL_PX = 32
GENERATE_TIMES = 1  # PyAV's default invents presentation times; those of AVI files then run back and forth
# Not what the system calls video/*: that holds playlists, TypeScript and Nim too.
ENDINGS = frozenset(
    ".mp4 .m4v .mov .qt .avi .divx .mkv .webm .mpg .mpeg .mpe .m1v .m2v .vob .wmv .asf .flv .f4v .3gp .3g2 .ogv .ogm"
    " .mts .m2ts .dv".split()
)


@dataclass(frozen=True)
class Sampling:
    """Which frames to take: so many a second, so many in all, or (neither given) one a second and at every cut."""

    fps: float | None = None
    frames: int | None = None
    short_side_px: int | None = SHORT_SIDE_PX


@dataclass(frozen=True)
class Shown:
    """A decoded frame, still in the decoder's own format, and from when to when it is shown."""

    time_s: float
    end_s: float
    frame: Any  # av.VideoFrame


def is_video_name(name: str) -> bool:
    """Whether the ending is a video's."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def has_decoder() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec

    return find_spec("av") is not None


def read_video(path: str, sampling: Sampling = Sampling()) -> Iterator[Item]:
    """One item for each sampled frame, all with the path as their id, in order of `time_s`; `end_s` is where the next
    begins, of the last where the video ends. The last frame of all where a video ends before the first that is wanted.

    Where the file is damaged the last item's `image` raises ItemError: after the frames there are, "truncated"; where
    there are none, what became of it.
    """
    latest: Shown | None = None
    last: Item | None = None
    failure: Exception | None = None

    def watched() -> Iterator[Shown]:
        nonlocal latest
        for shown in decoded(path):
            latest = shown
            yield shown

    def item_of(shown: Shown) -> Item:
        return Item(path, partial(Frame, to_rgb(shown.frame, sampling.short_side_px)), time_s=shown.time_s)

    try:
        for shown in _sample(path, watched(), sampling):
            if last is not None:
                yield replace(last, end_s=shown.time_s)
            last = item_of(shown)
    except (ItemError, OSError) as error:
        failure = error
    end_s = 0.0 if latest is None else latest.end_s
    if last is None and latest is not None:
        last = item_of(latest)
    if last is not None:
        yield replace(last, end_s=end_s)
    if failure is not None:
        yield Item(path, partial(_fail, failure), time_s=end_s, end_s=end_s)


def frame_at(path: str, time_s: float) -> Shown:
    """The frame that `decoded` gives this second. Raises OSError, ItemError where there is none."""
    for start_s in (time_s - 1, 0.0):  # the index of a damaged file may lead nowhere: then from the beginning
        with suppress(ItemError):
            for shown in decoded(path, start_s):
                if abs(shown.time_s - time_s) < 1e-3:
                    return shown
    raise ItemError("missing", f"{path} shows nothing at {time_s} s")


def decoded(path: str, start_s: float = 0.0) -> Iterator[Shown]:
    """Every frame in the order of showing, from the last key frame before `start_s` on.

    Raises OSError where it cannot be opened, ItemError where it is damaged.
    """
    av = _library()
    with _opened(av, path) as container:
        stream = container.streams.video[0]
        if stream.codec_context is not None:  # without a decoder, decoding will say so
            _refuse_huge(stream.codec_context)
        stream.thread_type = "AUTO"
        clock, count, time_s = _Clock(stream), 0, 0.0
        try:
            if start_s > 0:
                container.seek(int(start_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                _refuse_huge(frame)
                time_s = clock.time_s(frame)
                yield Shown(time_s, clock.end_s, frame)
                count += 1
        except av.error.FFmpegError as error:
            raise _failure(error, count) from error
        if not count:
            raise ItemError("unreadable", "the video holds no frame")
        if start_s <= 0:
            _refuse_short(stream, count, time_s)


class _Clock:
    """When frames are shown: FFmpeg's own best effort (libavcodec's guess_correct_pts), which PyAV does not hand on.

    A file's presentation times count, unless they go back more often than its decoding times do.
    """

    def __init__(self, stream: Any) -> None:
        self._seconds = float(stream.time_base)
        self._step = round(1 / (stream.average_rate * stream.time_base)) if stream.average_rate else 1
        self._last: dict[str, int | None] = {"pts": None, "dts": None}
        self._faults = {"pts": 0, "dts": 0}
        self._shown: int | None = None

    def time_s(self, frame: Any) -> float:
        pts, dts = frame.pts, frame.dts
        for name, value, other in (("dts", dts, pts), ("pts", pts, dts)):
            last = self._last[name]
            self._faults[name] += value is not None and last is not None and value <= last
            self._last[name] = other if value is None else value
        use_pts = pts is not None and (dts is None or self._faults["pts"] <= self._faults["dts"])
        best = pts if use_pts else dts
        if best is None:  # a damaged file: one step after the frame before it
            best = 0 if self._shown is None else self._shown + self._step
        self._shown = best
        return float(best) * self._seconds

    @property
    def end_s(self) -> float:
        """When the frame that `time_s` was asked for last makes room for the next."""
        return float((self._shown or 0) + self._step) * self._seconds


def _sample(path: str, frames: Iterable[Shown], sampling: Sampling) -> Iterator[Shown]:
    if sampling.frames is not None:
        return _spread(path, frames, sampling.frames)
    if sampling.fps is not None:
        return at_rate(frames, sampling.fps)
    return at_cuts(frames, SCENE_FPS)


def at_rate(frames: Iterable[Shown], fps: float) -> Iterator[Shown]:
    """The first frame shown at or after each multiple of 1 / fps seconds; a frame is taken once."""
    wanted = 0
    for shown in frames:
        if shown.time_s * fps >= wanted - 1e-6:
            yield shown
            wanted = int(np.floor(shown.time_s * fps + 1e-6)) + 1


def at_cuts(frames: Iterable[Shown], fps: float) -> Iterator[Shown]:
    """As `at_rate`, and also each frame that has wholly other colours than the one before it."""
    wanted, previous = 0, None
    for shown in frames:
        colours = _colours(shown.frame)
        is_cut = previous is not None and float(np.abs(colours - previous).sum()) / 2 > CUT
        if is_cut or shown.time_s * fps >= wanted - 1e-6:
            yield shown
            wanted = int(np.floor(shown.time_s * fps + 1e-6)) + 1
        previous = colours


def _spread(path: str, frames: Iterable[Shown], count: int) -> Iterator[Shown]:
    """`count` frames at the middles of equal parts of the file's packets; all of them where there are fewer."""
    total = _count_packets(path)
    places = {int((number + 0.5) * total / count) for number in range(count)} if total else {0}
    for number, shown in enumerate(frames):
        if number in places or total <= count:
            yield shown


def _count_packets(path: str) -> int:
    """How many frames the file holds, without decoding one."""
    av = _library()
    with _opened(av, path) as container:
        count = 0
        try:
            for packet in container.demux(container.streams.video[0]):
                count += packet.size > 0
        except av.error.FFmpegError:
            pass  # decoding will say what is wrong
        return count


def _opened(av: Any, path: str) -> Any:
    with open_regular(path) as file:  # the system's own word for a file that is not there or not ours
        is_mp4 = file.read(8)[4:] == b"ftyp"
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")  # a bare name may be an address to FFmpeg
    except av.error.FFmpegError as error:
        if is_mp4:
            raise ItemError(
                "truncated", "the end of this file, which holds its index, is missing or damaged"
            ) from error
        raise ItemError("unreadable", f"not a video: {error.strerror}") from error
    if not container.streams.video:
        container.close()
        raise ItemError("unreadable", "there is no picture in this file")
    container.flags &= ~GENERATE_TIMES
    return container


def _failure(error: Any, count: int) -> ItemError:
    reason = error.strerror or "damaged"
    if count:
        return ItemError("truncated", f"damaged after {count} frames: {reason}")
    return ItemError("unreadable", f"not one frame can be decoded: {reason}")


def _refuse_short(stream: Any, count: int, last_s: float) -> None:
    """Raise where clearly less came than the file's own header declares; a few frames may be empty on purpose."""
    if count < 0.97 * stream.frames - 1:
        raise ItemError("truncated", f"{count} of {stream.frames} frames are there")
    length_s = _tagged_length_s(stream)
    if last_s < 0.97 * length_s - 1:
        raise ItemError("truncated", f"{last_s:.1f} of {length_s:.1f} seconds are there")


def _tagged_length_s(stream: Any) -> float:
    """What Matroska's tag says, 00:00:10.5; 0 without one."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        return float(sum(float(part) * 60**place for place, part in enumerate(reversed(parts))))
    except ValueError:
        return 0.0


def _refuse_huge(frame: Any) -> None:
    """Raise for a frame over the cap on pictures, or for a decoder that expects such."""
    from cmprompt.images import MAX_PIXELS

    if frame.width * frame.height > MAX_PIXELS:
        raise ItemError("too_large", f"frames of {frame.width} x {frame.height} pixels; the cap is {MAX_PIXELS}")


def to_rgb(frame: Any, short_side_px: int | None) -> Array:
    """(H, W, 3) uint8 RGB, upright, its short side at most `short_side_px`."""
    scale = min(1.0, (short_side_px or 1 << 30) / min(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    rgb = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # anticlockwise, as numpy turns
    return np.ascontiguousarray(np.rot90(rgb, turns))


def _colours(frame: Any) -> Array:
    """(64,) how much of the frame has each of 4 x 4 x 4 colours; what moves in it hardly changes that."""
    small = frame.reformat(THUMBNAIL_PX, THUMBNAIL_PX, "rgb24", interpolation="AREA").to_ndarray()
    places = (small >> 6) @ np.array([16, 4, 1], np.uint8)  # (h, w)
    shares: Array = np.bincount(places.ravel(), minlength=64) / THUMBNAIL_PX**2
    return shares


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise ItemError("unsupported", "videos need an extra: pip install 'cmprompt[video]'") from None
    av.logging.set_level(None)
    return av


def _fail(error: Exception) -> NoReturn:
    raise error
