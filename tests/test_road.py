"""What the commands share: inputs that can be read but once, the count of items beside a run."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeEncoder

from cmprompt.cli import road
from cmprompt.cli.app import run
from cmprompt.cli.dry_run import describe_run
from cmprompt.cli.inputs import count_in_background, rereadable, warn_of_nothing
from cmprompt.cli.timings import timings
from cmprompt.embed import Stats
from cmprompt.errors import UsageError
from cmprompt.sources import SourceOptions
from cmprompt.types import Array, Item


class Calibrated(FakeEncoder):
    """One that wants to see pictures first."""

    calibration_images = 2

    def calibrate(self, pixels: Array) -> None:
        self.seen = pixels


def counted(inputs: list[str], **options: Any) -> list[int]:
    """What the counting thread tells, once it has ended."""
    told: list[int] = []
    count_in_background(inputs, SourceOptions(**options), told.append, True)
    for thread in threading.enumerate():
        if thread.name == "cmprompt-count":
            thread.join()
    return told


@pytest.fixture
def listed(tmp_path: Path, colours: Path) -> str:
    """A list of three pictures in a regular file."""
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{photo}\n" for photo in sorted(colours.iterdir())))
    return str(path)


def test_standard_input_and_pipes_are_read_but_once(tmp_path: Path, colours: Path, listed: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading, writing = os.pipe()
    assert rereadable([str(colours), "photos/*.jpg"], listed) and rereadable([], listed)
    for once in ("-", str(pipe), f"/dev/fd/{reading}"):
        assert not rereadable([str(colours), once], None) and not rereadable([str(colours)], once)
    assert not rereadable([], None)
    os.close(reading)
    os.close(writing)


def test_only_what_can_be_read_again_is_counted(colours: Path, listed: str) -> None:
    assert counted([str(colours)], files_from=listed) == [6]
    assert counted([str(colours)], files_from="-") == []


def test_an_error_is_left_to_the_run(colours: Path) -> None:
    assert counted([str(colours)], files_from="nowhere.txt") == []


def test_a_list_in_a_file_will_do_to_calibrate_on(listed: str) -> None:
    encoder = Calibrated()
    road.calibrate(encoder, [], SourceOptions(files_from=listed))
    assert encoder.seen.shape == (2, 3, 8, 8) and encoder.seen.dtype == np.uint8


def test_calibrating_leaves_standard_input_alone(colours: Path) -> None:
    with pytest.raises(UsageError, match="name a folder or a table"):
        road.calibrate(Calibrated(), [str(colours)], SourceOptions(files_from="-"))


def test_timings_share_reading_and_decoding_among_the_threads_that_ran() -> None:
    lines = list(timings(Stats(read_s=4.0, decode_s=8.0, threads=4), 3.0, start_s=0.5, write_s=0.25))
    assert {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(("read", "decode"))} == {
        "read": 1.0,
        "decode": 2.0,
    }


def test_a_dry_run_has_a_line_for_each_input(fake_encoder: FakeEncoder) -> None:
    names = ["a\nb.jpg", "tab\t.jpg", "back\\slash.jpg", "caf\udce9.jpg"]
    items = [Item(name, None) for name in names]
    lines = list(describe_run(fake_encoder, {"a\tb": ["a photo of a\nb"]}, "zero-shot", items))
    assert lines[3:] == [
        r"label	a\tb	1 text	a photo of a\nb", r"input	a\nb.jpg", r"input	tab\t.jpg", r"input	back\\slash.jpg",
        "input	caf\ufffd.jpg"]  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_dry_run_refuses_what_the_run_would(colours: Path, more: list[str], capsys) -> None:
    line = ["classify", str(colours), "--labels", "red,green", "--model", "tiny", *more]
    assert run([*line, "--pool", "foo"]) == 2
    assert "unknown pool 'foo'" in capsys.readouterr().err
    assert run([*line, "--translate-labels", "nope.txt"]) == 2
    assert "nope.txt" in capsys.readouterr().err


def test_what_is_begun_is_made_meanwhile_and_comes_in_order() -> None:
    made, seen = [], threading.Event()

    def source() -> Iterator[int]:
        for number in range(5):
            made.append((number, threading.current_thread()))
            seen.set()
            yield number

    ahead = road.begun(source())
    assert seen.wait(20) and list(ahead) == [0, 1, 2, 3, 4]
    main = threading.current_thread()
    assert [number for number, thread in made if thread is not main] == [0]  # and no further than that


def test_what_fails_in_the_beginning_is_told_to_who_reads() -> None:
    def source() -> Iterator[int]:
        raise UsageError("no such column")
        yield 1

    ahead = road.begun(source())
    with pytest.raises(UsageError, match="no such column"):
        list(ahead)
    assert list(road.begun(iter([]))) == []


def test_a_run_without_anything_to_do_says_what_was_empty() -> None:
    said: list[str] = []
    warn_of_nothing(Counter(), ["photos", "t.csv", "more"], 2, said.append)
    assert said == ["no rows in t.csv", "no images in photos, more; 2 other files skipped, --all-files tries them"]
    warn_of_nothing(Counter(), ["photos", "t.csv"], 0, said.append, limit=0)
    warn_of_nothing(Counter(ok=1), ["photos", "t.csv"], 0, said.append)
    assert len(said) == 2


def test_a_limit_of_0_claims_nothing_of_the_inputs(colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--labels", "red,blue", "--model", "tiny", "--no-store"]
    assert run(["classify", str(colours), *flags, "--limit", "0"]) == 0
    assert "no images" not in capsys.readouterr().err
