"""`cmprompt adapt`: labels at a level, and what it would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmprompt.cli.app import run
from cmprompt.heads.io import load_head

LABELS = ["--labels", "warm/red,cold/green,cold/blue"]


@pytest.fixture
def where(model: str, tmp_path: Path) -> list[str]:
    return ["--model", model, "--store", str(tmp_path / "store"), "-q"]


def test_a_level_of_the_labels_is_adapted(table: Path, where: list[str], tmp_path: Path, capsys) -> None:
    shares = tmp_path / "shares.csv"
    shares.write_text("warm,1\ncold,2\n")
    flags = [*LABELS, "--level", "1", "--prior", str(shares), "-o", str(tmp_path / "h")]
    assert run(["adapt", str(table.parent / "images"), *flags, *where]) == 0
    assert load_head(tmp_path / "h").labels == ("warm", "cold")
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["warm", "cold"]
    flags = ["--labels", "a/b,a/c", "--level", "1", "-o", str(tmp_path / "none")]
    assert run(["adapt", str(table.parent / "images"), *flags, *where]) == 2
    assert "leaves one label, 'a'" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_read_and_writes_nothing(
    table: Path, where: list[str], tmp_path: Path, capsys
) -> None:
    assert run(["adapt", str(table.parent / "images"), *LABELS, *where, "--dry-run", "--limit", "2"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines if line[0] == "label"] == ["warm/red", "cold/green", "cold/blue"]
    assert len([line for line in lines if line[0] == "input"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_cannot_be_read_are_counted_and_named(
    table: Path, where: list[str], tmp_path: Path, capsys
) -> None:
    bad = [tmp_path / "one.jpg", tmp_path / "two.jpg"]
    for path in bad:
        path.write_bytes(b"")
    inputs = [str(table.parent / "images"), *map(str, bad)]
    flags = [*LABELS, "-o", str(tmp_path / "h"), "--overwrite", *where[:-1]]
    assert run(["adapt", *inputs, *flags]) == 1
    said = capsys.readouterr().err
    assert f"left out: 2 inputs that cannot be read; the first: {bad[0]}: " in said and str(bad[1]) not in said
    assert run(["adapt", *inputs, *flags, "-v"]) == 1
    assert f"{bad[1]}: unreadable: " in capsys.readouterr().err
