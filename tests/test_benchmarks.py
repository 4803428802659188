"""What the benchmarks share: the bounds, the turns, the pictures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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
