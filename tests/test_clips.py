"""Videos on the road of pictures."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeEncoder, draw
from test_video import BLUE, RED, write_clip

from cmprompt.clips import ClipFrame, pooled, sampling_of, segments, with_frames
from cmprompt.embed import embed
from cmprompt.errors import UsageError
from cmprompt.heads.zero_shot import zero_shot
from cmprompt.predict import predict
from cmprompt.sources.options import file_item
from cmprompt.sources.video import Sampling
from cmprompt.types import Embedded, Frame, Item, Prediction
from cmprompt.writers.records import to_record

pytest.importorskip("av", reason="the extra [video] is not installed")


def rows(paths: Sequence[str]) -> list[Embedded]:
    items = with_frames((file_item(path) for path in paths), Sampling(fps=5))
    return list(pooled(embed(items, FakeEncoder(), batch_size=4)))


def flat(batches: Sequence[Embedded]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (Path(item.id).name, outcome.status, outcome.flags)
        for batch in batches
        for item, outcome in zip(batch.items, batch.outcomes, strict=True)
    ]


def timeline(path: str) -> list[Prediction]:
    encoder = FakeEncoder()
    head = zero_shot(encoder, {"red": ("red",), "blue": ("blue",)})
    items = with_frames([file_item(path)], Sampling(fps=5))
    return list(segments(predict(embed(items, encoder, batch_size=4), head)))


def test_a_clip_is_one_row_among_pictures(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", [RED] * 20 + [BLUE] * 20)
    draw("red").save(tmp_path / "b.png")
    batches = rows([clip, str(tmp_path / "b.png"), clip, clip])
    assert flat(batches) == [("a.mp4", "ok", ()), ("b.png", "ok", ()), ("a.mp4", "ok", ()), ("a.mp4", "ok", ())]
    vectors = np.concatenate([batch.features.image for batch in batches if batch.features.image is not None])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert abs(vectors[0][0] - vectors[0][2]) < 0.05  # as much red as blue
    assert np.array_equal(vectors[0], vectors[3])


def test_pictures_alone_pass_as_they_are(tmp_path: Path) -> None:
    draw("red").save(tmp_path / "a.png")
    pictures = list(embed([file_item(str(tmp_path / "a.png")), file_item("/nowhere.png")], FakeEncoder()))
    assert all(given is found for given, found in zip(pictures, pooled(pictures), strict=True))


def test_a_damaged_clip_is_flagged_and_one_without_frames_fails(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    clip = write_clip(tmp_path / "a.avi", [tuple(dice.integers(0, 255, 3)) for _ in range(60)])
    whole = Path(clip).read_bytes()
    Path(clip).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.mp4").write_text("no video")
    found = rows([clip, str(tmp_path / "b.mp4"), str(tmp_path / "none.mp4")])
    assert flat(found) == [("a.avi", "ok", ("truncated",)), ("b.mp4", "unreadable", ()), ("none.mp4", "missing", ())]


def test_a_timeline_has_a_record_for_each_stretch(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", [RED] * 20 + [BLUE] * 20)
    found = [to_record(prediction, timeline=True) for prediction in timeline(clip)]
    assert [(record["label"], record["start_s"], record["end_s"]) for record in found] == [
        ("red", 0.0, 2.0),
        ("blue", 2.0, 4.0),
    ]
    assert all(0.5 < record["score"] <= 1 for record in found)


def test_a_clip_of_one_frame_has_a_length(tmp_path: Path) -> None:
    (only,) = timeline(write_clip(tmp_path / "a.mp4", [RED]))
    assert (only.item.time_s, only.item.end_s) == (0.0, 0.1)


def frame(clip: Item, second: int, **more: Any) -> Prediction:
    """What was decided of a frame, which is shown for one second."""
    image = ClipFrame(clip, Item(clip.id, partial(Frame, np.zeros((4, 4, 3), np.uint8))))
    return Prediction(Item(clip.id, image, time_s=second, end_s=second + 1), **more)


def test_a_stretch_is_what_its_frames_have_together() -> None:
    clip = Item("a.mp4", None)
    given = [frame(clip, n, label="red", score=0.5 + n / 4, cosine=0.25) for n in range(2)]
    (found,) = segments([*given, frame(clip, 2, status="nan"), frame(clip, 3, status="unreadable")])
    assert found == Prediction(
        replace(clip, time_s=0, end_s=4), flags=("nan", "truncated"), label="red", score=0.625, cosine=0.25
    )


def test_the_figures_of_a_stretch_are_means_that_agree_with_each_other() -> None:
    clip = Item("a.mp4", None)
    tops = [{"red": 0.75, "blue": 0.125, "green": 0.0625}, {"red": 0.5, "green": 0.375, "blue": 0.0625}]
    frames = [
        frame(clip, second, label="red", score=top["red"], margin=0.5, cosine=0.25 * second, top=tuple(top.items())[:2])
        for second, top in enumerate(tops)
    ]
    (found,) = segments(frames)
    assert (found.score, found.cosine) == (0.625, 0.125)
    assert found.top == (("red", 0.625), ("green", 0.1875)) and found.margin == 0.625 - 0.1875


def test_a_timeline_keeps_no_frame() -> None:
    clip = Item("a.mp4", None)
    seen: list[weakref.ref[Any]] = []

    def film() -> Iterator[Prediction]:
        for second in range(20):
            one = frame(clip, second, label="red", score=second / 20)
            seen.append(weakref.ref(one.item.image().pixels))  # type: ignore[misc,union-attr]
            yield one
            assert sum(made() is not None for made in seen) <= 2

    assert [found.item.end_s for found in segments(film())] == [20]
    assert len(seen) == 20


def test_a_timeline_of_a_damaged_clip_says_so_at_its_end(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    clip = write_clip(tmp_path / "a.avi", [tuple(dice.integers(0, 255, 3)) for _ in range(60)])
    Path(clip).write_bytes(Path(clip).read_bytes()[:-3000])
    *others, last = timeline(clip)
    assert last.flags == ("truncated",)
    assert all(not prediction.flags for prediction in others)


def test_what_is_no_video_passes() -> None:
    item = Item("a.jpg", None)
    assert list(with_frames([item], Sampling())) == [item]
    prediction = Prediction(item, label="red")
    assert list(segments([prediction, prediction])) == [prediction, prediction]


def test_a_frame_knows_its_clip_and_its_second(tmp_path: Path) -> None:
    source = file_item(write_clip(tmp_path / "a.mp4", [RED] * 20))
    frames = list(with_frames([source], Sampling(frames=2)))
    assert [frame.time_s for frame in frames] == [0.5, 1.5]
    assert all(isinstance(frame.image, ClipFrame) and frame.image.clip is source for frame in frames)


def test_flags_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="exclude"):
        sampling_of(1.0, 3)
    with pytest.raises(UsageError, match="above 0"):
        sampling_of(0.0, None)


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="give a number above 0"):
        sampling_of(fps, None)
