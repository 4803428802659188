"""What the benchmarks share: the bounds, the turns, the pictures."""

from __future__ import annotations

import importlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeEncoder, draw, encode
from PIL import Image

from cmprompt.types import Item

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not FOLDER.is_dir():
        pytest.skip("the benchmarks are not here")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("harness")


@pytest.mark.parametrize(
    ("value", "below", "says"),
    [(12.0, False, "aim"), (9.0, False, "floor"), (7.9, False, "no"), (12.1, True, "no"), (8.0, True, "aim")],
)
def test_a_figure_against_its_bounds(harness: Any, value: float, below: bool, says: str) -> None:
    floor, aim = (12, 8) if below else (8, 12)
    assert harness.reached(value, floor, aim, below=below) == says


def test_ours_runs_before_each_peer_and_a_slow_peer_runs_once(harness: Any) -> None:
    order: list[str] = []
    costs = {"ours": 1.0, "quick": 2.0, "slow": 60.0}

    def contender(name: str) -> Any:
        return lambda: order.append(name) or costs[name]

    times = harness.in_turn({name: contender(name) for name in costs}, 2, budget_s=100)
    assert order == ["ours", "quick", "ours", "slow", "ours", "quick"]
    assert times == {"ours": [1.0] * 3, "quick": [2.0, 2.0], "slow": [60.0]}


def test_a_process_is_timed_and_its_lines_are_counted(harness: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('one'); print('two')"]
    done = harness.run(command, tmp_path, lines=2)
    assert done.output == b"one\ntwo\n" and done.seconds > 0 and done.resident_mb > 1
    with pytest.raises(RuntimeError, match="after 2 lines"):
        harness.run(command, tmp_path, lines=3)


def test_results_keep_every_run(harness: Any, tmp_path: Path) -> None:
    line = harness.Line("folder", "peer", 9.0, 8, 12, 1.0, 9.0, times={"cmprompt": [1.0], "peer": [8.9, 9.1]})
    page = harness.save("one", "One", [line], {"machine": "a"}, tmp_path)
    assert "| folder | peer | 1 s | 9 s | 1, 2 | 9x | 8x | 12x | floor |" in page
    saved = json.loads((tmp_path / "one.json").read_text())
    assert saved["lines"][0]["times"]["peer"] == [8.9, 9.1] and saved["about"] == {"machine": "a"}


def test_the_photos_are_of_a_cameras_size_and_the_same_each_time(harness: Any, tmp_path: Path) -> None:
    photos = importlib.import_module("photos")
    first, second = (photos.write_photos(tmp_path / name, 2, data=tmp_path) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert 30_000 < one.stat().st_size < 300_000
        with Image.open(one) as picture:
            assert picture.size == (500, 375)


def script(name: str, harness: Any, monkeypatch: pytest.MonkeyPatch, *flags: object) -> Any:
    """A benchmark as a module, which its `main` finds called with these flags."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, flags)])
    return importlib.import_module(name)


def test_both_searches_are_warm_and_take_turns(harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    search, order = script("search", harness, monkeypatch), []
    monkeypatch.setattr(search, "run", lambda store, flag, work: order.append(flag) or (1.0, 1.0, 1.0, [flag]))
    runs = search.runs_of(tmp_path, tmp_path, 2)
    assert order == ["--no-ann", "--ann"] * 3
    assert runs == {"exact": [(1.0, 1.0, 1.0, ["--no-ann"])] * 2, "LanceDB": [(1.0, 1.0, 1.0, ["--ann"])] * 2}


def test_a_draw_that_flags_nothing_counts_in_no_mean_of_shares(
    harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check, bytes_of = script("check", harness, monkeypatch), {name: encode(draw(name)) for name in ("red", "blue")}
    pairs = [(Item(name, partial(bytes_of.__getitem__, name)), name) for name in [*bytes_of] * 8]
    monkeypatch.setattr(check, "flickr", lambda data: iter(pairs))
    monkeypatch.setattr(check, "load_encoder", lambda model: FakeEncoder())
    rows = list(check.pair_rows(tmp_path, "fake"))  # of so few nothing is flagged
    assert [row[1:] for row in check.plain(rows)] == [[0, None, None, None]] * check.DRAWS


def test_scikit_learn_and_ours_are_fitted_as_often(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = script("fits", harness, monkeypatch)
    (speed, _) = fits.linear_speed(60, 8, 3)[1]
    assert [len(times) for times in speed.times.values()] == [fits.ROUNDS] * 2


def test_another_machines_figures_stand_under_its_name(
    harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    summary = script("all", harness, monkeypatch, "--only", "gpu", "--out", tmp_path)
    line = harness.Line("a model", "the chip", 90.0, 85, None)
    harness.save("gpu", "On a GPU", [line], {**harness.about(), "machine": "another one"}, tmp_path)
    monkeypatch.setattr(summary, "seconds", lambda script, flags, work: (1.0, 0))
    summary.main()
    head, table = (tmp_path / "speed.md").read_text().split("## gpu.py")
    assert f"- machine: {harness.machine()}" in head and "- machine: another one\n" in table
    assert "- system" not in table and "| a model |" in table


def test_videos_are_measured_beside_the_machine(harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra [video] is not installed")
    video = script("video", harness, monkeypatch, tmp_path / "a.mp4", "--rounds", "2", "--out", tmp_path)
    for name in ("pyav_samples", "torchcodec_samples", "pyav_frames", "torchcodec_frames"):
        monkeypatch.setattr(video, name, lambda path: iter("ab"))
    video.main()
    saved = json.loads((tmp_path / "video.json").read_text())
    assert saved["about"]["machine"] == harness.machine() and "av " in saved["about"]["decoders"]
    assert [len(times) for times in saved["videos"][0]["times"].values()] == [2, 2]
    assert "| a.mp4 |" in (tmp_path / "video.md").read_text()
