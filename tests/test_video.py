"""Frames of videos: which, when, and of what is left of a damaged file."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmprompt.cli.app import run
from cmprompt.errors import ItemError
from cmprompt.sources import video
from cmprompt.sources.video import Sampling, decoded, frame_at, is_video_name, read_video, to_rgb
from cmprompt.types import Frame

av = pytest.importorskip("av", reason="the extra [video] is not installed")


def write_clip(
    path: Path,
    colours: list[tuple[int, int, int]],
    fps: int = 10,
    codec: str = "mpeg4",
    key_every: int = 12,
    **more: Any,
) -> str:
    """A clip of one colour a frame, 64 x 48, one frame in `key_every` a key frame."""
    with av.open(str(path), "w", **more) as container:
        stream = container.add_stream(codec, rate=fps, options={"g": str(key_every)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in colours:
            picture = np.full((48, 64, 3), colour, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def times(path: str, sampling: Sampling) -> list[float]:
    return [round(item.time_s or 0.0, 3) for item in read_video(path, sampling)]


RED, BLUE = (220, 20, 20), (20, 20, 220)


def test_frames_come_at_the_rate_asked_for(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [RED] * 30)
    assert times(path, Sampling(fps=2)) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert times(path, Sampling(frames=3)) == [0.5, 1.5, 2.5]
    assert len(times(path, Sampling(frames=100))) == 30
    assert len(times(path, Sampling(fps=1000))) == 30


def test_without_a_rate_each_second_and_each_cut_counts(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", [RED] * 14 + [BLUE] * 11)
    assert times(path, Sampling()) == [0.0, 1.0, 1.4, 2.0]
    first, *_, last = read_video(path)
    assert first.image is not None and last.image is not None
    start, end = first.image(), last.image()
    assert isinstance(start, Frame) and isinstance(end, Frame)
    assert start.pixels[0, 0].argmax() == 0
    assert end.pixels[0, 0].argmax() == 2


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_cut_off_file_gives_its_frames_and_says_so(tmp_path: Path, name: str) -> None:
    dice = np.random.default_rng(0)
    options = {"options": {"movflags": "faststart"}} if name == "a.mp4" else {}
    path = write_clip(tmp_path / name, [tuple(dice.integers(0, 255, 3)) for _ in range(60)], **options)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) * 6 // 10])
    *frames, last = read_video(path, Sampling(fps=10))
    assert 10 < len(frames) < 55
    assert last.image is not None
    with pytest.raises(ItemError) as caught:
        last.image()
    assert caught.value.status == "truncated"


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_frame_is_found_without_those_long_before_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = np.random.default_rng(0)
    path = write_clip(tmp_path / name, [tuple(dice.integers(0, 255, 3)) for _ in range(100)])
    wanted = list(decoded(path))[80]
    seen: list[object] = []
    monkeypatch.setattr(video, "_refuse_huge", seen.append)
    found = frame_at(path, wanted.time_s)
    assert np.array_equal(to_rgb(found.frame, None), to_rgb(wanted.frame, None))
    assert len(seen) < 40
    with pytest.raises(ItemError, match="shows nothing at 12 s"):
        frame_at(path, 12)


def test_a_frame_of_a_damaged_file_is_found_too(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    path = write_clip(tmp_path / "a.avi", [tuple(dice.integers(0, 255, 3)) for _ in range(60)])
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) * 6 // 10])
    *_, last, _ = read_video(path, Sampling(fps=10))
    assert last.image is not None and last.time_s is not None
    picture = last.image()
    assert isinstance(picture, Frame)
    assert np.array_equal(to_rgb(frame_at(path, last.time_s).frame, None), picture.pixels)


@pytest.mark.parametrize(
    "name", ["http:127.0.0.1?x.mp4", "a %20%03d#?.mp4", "-caf\u00e9\U0001f431.mp4", "caf\udce9.mp4"]
)
def test_a_name_is_never_an_address(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", [RED] * 2)
    (tmp_path / "a.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(decoded(name))) == len(list(decoded(str(tmp_path / name)))) == 2


def test_what_is_no_video_is_one_failing_item(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (item,) = read_video(str(tmp_path / "text.mp4"))
    assert item.image is not None
    with pytest.raises(ItemError, match="not a video"):
        item.image()
    (missing,) = read_video(str(tmp_path / "none.mp4"))
    assert missing.image is not None
    with pytest.raises(FileNotFoundError):
        missing.image()
    os.mkfifo(tmp_path / "pipe.mp4")
    (pipe,) = read_video(str(tmp_path / "pipe.mp4"))
    assert pipe.image is not None
    with pytest.raises(ItemError, match="not a regular file"):
        pipe.image()


def test_an_index_that_is_gone_is_a_truncated_file(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [RED] * 30)
    Path(path).write_bytes(Path(path).read_bytes()[:600])
    (item,) = read_video(path)
    assert item.image is not None
    with pytest.raises(ItemError) as caught:
        item.image()
    assert caught.value.status == "truncated"


def late_clip(path: Path) -> str:
    """A recording that begins 2.2 seconds before its first key frame: 27 packets, of which few can be decoded."""
    if "libx264" not in av.codecs_available:
        pytest.skip("this PyAV writes no H.264")
    write_clip(path, [RED] * 30, codec="libx264", key_every=25)
    late = path.with_name(f"late-{path.name}")
    with av.open(str(path)) as whole, av.open(str(late), "w") as rest:
        stream = rest.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(whole.streams.video[0]) if packet.size]
        for packet in packets[3:]:
            packet.stream = stream
            rest.mux(packet)
    return str(late)


def test_of_a_video_with_fewer_frames_than_packets_the_last_is_taken(tmp_path: Path) -> None:
    path = late_clip(tmp_path / "a.mkv")
    *_, last = decoded(path)
    (only,) = read_video(path, Sampling(frames=1))
    assert (only.time_s, only.end_s) == (last.time_s, last.end_s)
    assert only.image is not None and isinstance(only.image(), Frame)


def test_a_damaged_video_that_ends_too_early_gives_a_frame_too(tmp_path: Path) -> None:
    frame, failure = read_video(late_clip(tmp_path / "a.mp4"), Sampling(frames=1))
    assert frame.image is not None and isinstance(frame.image(), Frame) and failure.image is not None
    with pytest.raises(ItemError, match="frames are there"):
        failure.image()


def test_large_frames_come_smaller(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [RED] * 2)
    item = next(read_video(path, Sampling(fps=1, short_side_px=24)))
    assert item.image is not None
    frame = item.image()
    assert isinstance(frame, Frame) and frame.pixels.shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("place", "data", "message"),
    [(4, struct.pack("<ii", 16000, 12000), "frames of 16000 x 12000"), (16, b"ZZZZ", "Decoder not found")],
)
def test_what_no_decoder_is_asked_for(tmp_path: Path, place: int, data: bytes, message: str) -> None:
    clip = bytearray(Path(write_clip(tmp_path / "a.avi", [RED] * 2, codec="rawvideo")).read_bytes())
    at = clip.index(b"strf") + 8 + place  # within its BITMAPINFOHEADER
    clip[at : at + len(data)] = data
    (tmp_path / "a.avi").write_bytes(clip)
    (item,) = read_video(str(tmp_path / "a.avi"))
    assert item.image is not None
    with pytest.raises(ItemError, match=message):
        item.image()


def test_endings() -> None:
    assert is_video_name("A.MP4") and is_video_name("b.qt")
    assert not is_video_name("mp4")
    assert not is_video_name("a.jpg")
    assert not is_video_name("a.ts")


def classified(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """The records of each clip."""
    asked = ["--model", "tiny", "--labels", "person,building,fruit", "--format", "jsonl", "--no-store", "-q"]
    assert run(["classify", *arguments, *asked]) == 0
    records: dict[str, list[dict[str, Any]]] = {}
    for line in capsys.readouterr().out.splitlines():
        record = json.loads(line)
        records.setdefault(record["id"], []).append(record)
    return records


def test_real_clips_are_labelled_whole_and_in_stretches(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in sorted((data_dir / "videos").iterdir())]
    whole = classified(capsys, *paths)
    assert {id: [(row["status"], "flags" in row) for row in rows] for id, rows in whole.items()} == {
        path: [("ok", False)] for path in paths
    }
    stretches = classified(capsys, *paths, "--timeline")
    assert list(stretches) == paths
    for path, rows in stretches.items():
        first, *_, last = decoded(path)
        starts, ends = [row["start_s"] for row in rows], [row["end_s"] for row in rows]
        assert (starts[0], ends[-1]) == pytest.approx((first.time_s, last.end_s), abs=1e-4)
        assert starts[1:] == ends[:-1]
        assert all(row["status"] == "ok" and row["start_s"] < row["end_s"] for row in rows)
        assert all(one["label"] != other["label"] for one, other in itertools.pairwise(rows))


def test_a_real_clip_cut_off_is_labelled_and_flagged(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = (data_dir / "videos" / "test.avi").read_bytes(), tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    (row,) = classified(capsys, str(cut))[str(cut)]
    assert (row["status"], row["flags"]) == ("ok", ["truncated"])
    *_, last = classified(capsys, str(cut), "--timeline")[str(cut)]
    assert (last["status"], last["flags"]) == ("ok", ["truncated"])
    assert 3 < last["end_s"] < 4.5


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_every_frame_and_its_time_are_those_of_ffprobe(data_dir: Path) -> None:
    for path in sorted((data_dir / "videos").iterdir()):
        fields = "frame=best_effort_timestamp_time"
        arguments = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", fields, "-of", "json", path]
        shown = json.loads(subprocess.run(arguments, capture_output=True, check=True).stdout)["frames"]
        expected = [float(frame.get("best_effort_timestamp_time", "nan")) for frame in shown]
        ours = np.array([frame.time_s for frame in decoded(str(path))])
        assert len(ours) == len(expected)
        known = ~np.isnan(expected)  # not for the frames that are still in the decoder when an AVI file ends
        assert known[:-2].all()
        assert ours[known] == pytest.approx(np.array(expected)[known], abs=1e-5)
        assert (np.diff(ours) > 0).all()
