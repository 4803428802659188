"""`-v`: the same words in every command that encodes, and silence without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FakeEncoder
from labelled_photos import write_table

from cmprompt.cli.app import run

RUNS = "model fake, encoding fake/fp32, store {}/store"
WORK = "3 inputs: 0 stored, 3 decoded, 3 encoded, 0 failed"
LINES = {
    "classify": ("classify {photos} --labels red,blue", WORK),
    "embed": ("embed {photos} -o {tmp}/v.npy", WORK),
    "index build": ("index build {photos}", WORK),
    "index update": ("index update", "3 inputs: 3 stored"),
    "search": ("search red", "collection default: 3 images, exact"),
    "check": ("check {table}", "3 inputs: "),
    "explain": ("explain {photos}/red.png --labels red,blue", "2 labels, 14 texts"),
    "prompts ablate": ("prompts ablate {table} --template a.{{}} --template the.{{}}", "3 labels, 2 templates"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder, tmp_path: Path) -> None:
    """The commands use the fake encoder and a cache of their own."""
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)
    monkeypatch.setattr("cmprompt.store.default_store_dir", lambda: tmp_path / "store")


@pytest.mark.parametrize("name", LINES)
def test_every_command_says_what_ran(
    name: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{colours}/{colour}.png", colour) for colour in ("red", "green", "blue")]
    table = write_table(tmp_path / "t.csv", rows)
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
    assert 0 < max(seconds[:-1]) <= seconds[-1] + 0.01


def test_index_names_failures_without_it_too(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(colours), f"{tmp_path}/gone.jpg"]) == 1
    assert f"cmprompt: {tmp_path}/gone.jpg: missing: " in capsys.readouterr().err
