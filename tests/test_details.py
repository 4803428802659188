"""`-v`: the same words in every command that encodes, and silence without it."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeEncoder, draw
from labelled_photos import write_table
from threadpoolctl import threadpool_info

from cmprompt.cli.app import run
from cmprompt.encoders import devices
from cmprompt.reading import Reader

RUNS = "model fake, encoding fake/fp32, store {}/store"
WORK = "3 inputs: 0 stored, 3 decoded, 3 encoded, 0 failed"
LINES = {
    "classify": ("classify {photos} --labels red,blue", f"{WORK}; 14 texts encoded"),
    "embed": ("embed {photos} -o {tmp}/v.npy", WORK),
    "index build": ("index build {photos}", WORK),
    "index update": ("index update", "3 inputs: 3 stored"),
    "search": ("search red", "collection default: 3 images, exact"),
    "check": ("check {table}", "3 inputs: "),
    "explain": ("explain {photos}/red.png --labels red,blue", "2 labels, 14 texts"),
    "evaluate": ("evaluate {table}", "model fake"),
    "finetune": ("finetune {table} --val 0.5 --force --overwrite -o {tmp}/f.head", "3 labels, "),
    "adapt": ("adapt {photos} --labels red,green,blue --overwrite -o {tmp}/a.head", "3 labels, "),
    "prompts ablate": ("prompts ablate {table} --template a.{{}} --template the.{{}}", "3 labels, 2 templates"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, tmp_path: Path) -> None:
    """The commands use the fake encoder and a cache of their own."""
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    monkeypatch.setattr("cmprompt.store.default_store_dir", lambda: tmp_path / "store")


def many(rows: list[tuple[str, str]], folder: Path) -> list[tuple[str, str]]:
    """Eight pictures of each colour, no two the same."""
    made = []
    for _, colour in rows:
        for shade in range(8):
            draw(tuple(230 - 9 * shade if name == colour else 20 for name in ("red", "green", "blue"))).save(
                folder / f"{colour}-{shade}.png"
            )
            made.append((str(folder / f"{colour}-{shade}.png"), colour))
    return made


@pytest.mark.parametrize("name", LINES)
def test_every_command_says_what_ran(
    name: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{colours}/{colour}.png", colour) for colour in ("red", "green", "blue")]
    table = write_table(tmp_path / "t.csv", many(rows, tmp_path) if name == "finetune" else rows)
    if name in ("index update", "search"):
        assert run(["index", "build", str(colours), "-q"]) == 0
    line, says = LINES[name]
    words = line.format(photos=colours, tmp=tmp_path, table=table).split()
    capsys.readouterr()
    assert run([*words, "-v"]) == 0
    error = capsys.readouterr().err
    assert f"cmprompt: {RUNS.format(tmp_path)}\n" in error and f"cmprompt: {says}" in error
    again = [*words, "--overwrite"] if name == "embed" else words
    for quiet in ([], ["-q", "-v"]):
        assert run([*again, *quiet]) == 0
        assert "encoding fake" not in capsys.readouterr().err


def test_a_name_that_is_not_utf8_is_shown_in_the_same_way_everywhere(
    colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"caf\xe9.txt", b"caf\xe9.png"):
        Path(os.fsdecode(os.fsencode(colours) + b"/" + name)).write_bytes(b"")
    assert run(["classify", str(colours), "--labels", "red,blue", "--dry-run"]) == 0
    assert "caf\ufffd.png" in capsys.readouterr().out
    assert run(["classify", str(colours), "--labels", "red,blue", "-v"]) == 1
    said = capsys.readouterr().err
    assert "caf\ufffd.txt" in said and "caf\ufffd.png: unreadable" in said


@pytest.mark.parametrize("line", ["classify {photos} {gone} --labels red,blue", "embed {photos} {gone} -o {tmp}/v.npy"])
def test_what_was_skipped_and_what_failed_is_named(
    line: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (colours / "notes.txt").write_text("no picture")
    gone = tmp_path / "gone.jpg"
    assert run([*line.format(photos=colours, gone=gone, tmp=tmp_path).split(), "-v"]) == 1
    error = capsys.readouterr().err
    assert f"cmprompt: skipped {colours}/notes.txt\n" in error
    assert f"cmprompt: {gone}: missing: No such file or directory\n" in error


@pytest.mark.parametrize("name", ["classify", "embed", "index build", "search", "check", "prompts ablate"])
def test_timings_name_every_stage(name: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "t.csv", [(f"{colours}/{name}.png", name) for name in ("red", "green", "blue")])
    assert run(["index", "build", str(colours), "-q", "--store", str(tmp_path / "store")]) == 0
    words = LINES[name][0].format(photos=colours, tmp=tmp_path, table=table).split()
    capsys.readouterr()
    assert run([*words, "--timings"]) == 0
    lines = capsys.readouterr().err.splitlines()
    stages = [line.split()[0] for line in lines[-9:]]
    assert stages == ["start", "texts", "look", "read", "decode", "encode", "score", "write", "all"]
    seconds = [float(line.split(" s")[0].split()[-1]) for line in lines[-9:]]
    assert 0 <= max(seconds[:-1]) <= seconds[-1] + 0.01


@pytest.mark.parametrize("name", [name for name in LINES if name not in ("index update", "search", "explain")])
def test_no_more_threads_decode_than_are_asked_for(
    name: str, colours: Path, tmp_path: Path, fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, used = Reader.prepare, set()

    def slowly(self: Reader, *arguments: Any) -> Any:
        used.add(threading.current_thread().name)
        time.sleep(0.01)  # so that another thread would begin
        return prepare(self, *arguments)

    def load(*arguments: object, threads: int, **options: object) -> FakeEncoder:
        fake_encoder.threads = threads  # type: ignore[attr-defined]
        return fake_encoder

    monkeypatch.setattr(Reader, "prepare", slowly)
    monkeypatch.setattr("cmprompt.encoders.load_encoder", load)
    monkeypatch.setattr("cmprompt.encoding.cores", lambda: 4)
    rows = [(f"{colours}/{colour}.png", colour) for colour in ("red", "green", "blue")]
    table = write_table(tmp_path / "t.csv", many(rows, tmp_path) if name == "finetune" else rows)
    words = LINES[name][0].format(photos=colours, tmp=tmp_path, table=table).split()
    assert run([*words, "--threads", "1", "-q"]) == 0
    assert {name.rpartition("_")[2] for name in used} == {"0"}


def test_fits_and_rankings_get_no_more_cores_than_are_asked_for_and_all_again_after_that(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8), raising=False)
    words = ["classify", str(colours), "--labels", "red,blue", "-q"]
    assert run([*words, "--threads", "1"]) == 0
    with devices.blas_threads():
        assert devices.cores() == 1 == max(library["num_threads"] for library in blas_libraries())
    assert run(words) == 0
    assert devices.cores() == 8


def blas_libraries() -> list[dict[str, Any]]:
    return [library for library in threadpool_info() if library["user_api"] == "blas"]


def test_index_names_failures_without_it_too(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), f"{tmp_path}/gone.jpg"]) == 1
    assert f"cmprompt: {tmp_path}/gone.jpg: missing: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["classify", "search", "check", "explain", "prompts ablate"])
def test_a_header_says_what_made_the_records(
    name: str, colours: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    table = write_table(tmp_path / "t.csv", [(f"{colours}/{name}.png", name) for name in ("red", "green", "blue")])
    assert run(["index", "build", str(colours), "-q"]) == 0
    words = LINES[name][0].format(photos=colours, tmp=tmp_path, table=table).split()
    for more, first in ((["--header"], "header"), ([], None)):
        capfdbinary.readouterr()
        assert run([*words, "--format", "jsonl", *more]) == 0
        line = json.loads(capfdbinary.readouterr().out.splitlines()[0])
        assert next(iter(line)) == first if first else "header" not in line
        if first:
            assert line["header"]["model"] == "fake" and "cmprompt" in line["header"]["versions"]


def test_templates_and_collections_are_defused_for_spreadsheets(colours: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", [(f"{colours}/{name}.png", name) for name in ("red", "green", "blue")])
    out = tmp_path / "out.csv"
    templates = ["--template", "=the {}", "--template", "a {}"]
    for more, written in ((["--csv-safe"], "'=the {}"), ([], "=the {}")):
        assert run(["prompts", "ablate", str(table), *templates, "-o", str(out), "--overwrite", *more]) == 0
        with out.open(newline="") as file:
            assert written in [row["template"] for row in csv.DictReader(file)]
    assert run(["index", "build", str(colours), "-q"]) == 0
    assert run(["index", "list", "--csv-safe", "-o", str(out), "--overwrite"]) == 0
    with out.open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["default"]


def test_lint_takes_the_flags_of_a_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()  # the real encoder, which knows its precisions
    assert run(["prompts", "lint", "--labels", "cat,dog", "--model", "tiny", "--precision", "fp64"]) == 2
    assert "fp64" in capsys.readouterr().err
    assert run(["prompts", "lint", "--labels", "cat,dog", "--model", "tiny", "--exact", "--threads", "1"]) == 0
