"""`cmprompt store`, through the command line's own boundary."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cmprompt.cli.app import run
from cmprompt.cli.store import parse_size
from cmprompt.errors import UsageError
from cmprompt.store import Store


def fill(path: Path, count: int = 50) -> list[bytes]:
    hashes = [hashlib.sha256(str(i).encode()).digest() for i in range(count)]
    store = Store(path)
    store.put("model/fp32", hashes, np.full((count, 16), 0.25, np.float32))
    store.close()
    return hashes


def test_info_lists_the_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path)
    assert run(["store", "info", "--store", str(tmp_path)]) == 0
    header, row, total, exports = capsys.readouterr().out.splitlines()
    assert header.split("\t")[0] == "vectors" and row.split("\t")[:3] == ["50", "16", "float16"]
    assert row.endswith("model/fp32") and str(tmp_path) in total
    assert exports.startswith("# ") and "exported model" in exports


@pytest.mark.parametrize("command", ["info", "prune", "clear", "verify"])
def test_a_store_that_is_not_there_is_not_made(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["store", command, "--store", str(tmp_path / "none")]) == 0
    assert "nothing is kept" in capsys.readouterr().out and not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["info", "prune", "clear", "verify"])
def test_a_folder_that_is_no_store_is_left_as_it_is(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = put_others(tmp_path)
    assert run(["store", command, "--store", str(tmp_path)]) == 0
    assert "nothing is kept" in capsys.readouterr().out and files_of(tmp_path) == others


@pytest.mark.parametrize("command", ["prune", "clear"])
def test_only_the_stores_own_files_go(command: str, tmp_path: Path) -> None:
    others = put_others(tmp_path)
    fill(tmp_path)
    (tmp_path / "catalogue.sqlite").write_bytes(b"damaged")
    fill(tmp_path)  # sets the first one aside, with what else is among its segments
    put_others(tmp_path)
    (segment,) = (tmp_path / "segments").glob("*.float16")
    segment.rename(segment.with_name("000009-2.float16"))  # named by nothing in the catalogue
    (aside,) = tmp_path.glob("aside-20*")
    assert run(["store", command, "--store", str(tmp_path)]) == 0
    left = files_of(tmp_path) - {"open.lock", *(f"catalogue.sqlite{end}" for end in ("", "-wal", "-shm"))}
    assert left == others | {f"{aside.name}/segments/holiday.mp4", f"{aside.name}/segments/more/notes.txt"}


def test_what_was_set_aside_goes_with_its_folder(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "catalogue.sqlite").write_bytes(b"damaged")
    fill(tmp_path)
    assert run(["store", "prune", "--store", str(tmp_path)]) == 0
    assert not list(tmp_path.glob("aside-*"))


def put_others(folder: Path) -> set[str]:
    """Files of somebody else's, in places like the store's."""
    for name in ("segments/holiday.mp4", "segments/more/notes.txt", "aside-notes/a.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return files_of(folder)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_prune_to_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashes = fill(tmp_path)
    assert run(["store", "prune", "--store", str(tmp_path), "--max-size", "320B"]) == 0
    assert Store(tmp_path).lookup("model/fp32", hashes).found.sum() == 10
    assert "came free" in capsys.readouterr().out


def test_clear(tmp_path: Path) -> None:
    hashes = fill(tmp_path)
    assert run(["store", "clear", "--store", str(tmp_path)]) == 0
    assert not Store(tmp_path).lookup("model/fp32", hashes).found.any()


def test_verify_drops_what_is_damaged_and_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path)
    assert run(["store", "verify", "--store", str(tmp_path)]) == 0
    (segment,) = (tmp_path / "segments").iterdir()
    data = bytearray(segment.read_bytes())
    data[100] ^= 8
    segment.write_bytes(data)
    assert run(["store", "verify", "--store", str(tmp_path)]) == 3
    assert "1 damaged" in capsys.readouterr().err
    assert run(["store", "verify", "--store", str(tmp_path)]) == 0


def test_a_damaged_segment_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path)
    (segment,) = (tmp_path / "segments").iterdir()
    segment.write_bytes(b"")
    assert run(["store", "verify", "--store", str(tmp_path)]) == 3
    assert "set aside" in capsys.readouterr().err
    assert run(["store", "info", "--store", str(tmp_path)]) == 0
    assert "aside-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "count"),
    [("500MB", 500_000_000), ("2 GB", 2_000_000_000), ("1.5GiB", 1_610_612_736), ("4096", 4096), ("1k", 1000)],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(UsageError, match="'much'"):
        parse_size("much")
