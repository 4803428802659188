"""`cmprompt check` as a command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import FakeEncoder, draw
from labelled_photos import write_table

from cmprompt.cli.app import run

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, fake_encoder: FakeEncoder) -> None:
    """The command uses the fake encoder."""
    monkeypatch.setattr("cmprompt.encoders.load_encoder", lambda *args, **options: fake_encoder)


def table(folder: Path, swapped: int | None = None, labels: bool = False) -> str:
    """Thirty coloured pictures with a text or a label each, that of `swapped` wrong."""
    rows = []
    for i in range(30):
        name = list(COLOURS)[i % 3]
        draw(tuple(max(0, value - 3 * i) for value in COLOURS[name])).save(folder / f"{i}.png")
        said = "blue" if i == swapped else name
        rows.append((f"{i}.png", said if labels else f"a {said} thing, number {i}"))
    return str(write_table(folder / "t.csv", rows, ("image", "label" if labels else "text")))


def check(*arguments: str) -> int:
    return run(["check", *arguments, "--no-store", "-q"])


def test_the_most_suspicious_comes_first_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path, swapped=4)
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        assert check(source, "-o", str(tmp_path / f"o.{ending}")) == 0
    found = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    ids = [record["id"] for record in found]
    assert ids[0].endswith("4.png") and found[0]["better_text"].startswith("a green thing")
    suspicions = [record["suspicion"] for record in found]
    assert suspicions == sorted(suspicions, reverse=True) and len(found) == 30
    with open(tmp_path / "o.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ids
    lines = (tmp_path / "o.tsv").read_text().splitlines()
    assert [line.split("\t")[2] for line in lines] == ids
    assert pq.read_table(tmp_path / "o.parquet")["id"].to_pylist() == ids


def test_flagged_pairs_fail_a_script_that_asks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = table(tmp_path, swapped=4, labels=True)
    assert check(wrong) == 0
    assert check(wrong, "--fail-on-flagged") == 1
    assert check(table(tmp_path, labels=True), "--fail-on-flagged") == 0


def test_a_row_that_cannot_be_read_has_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path)
    (tmp_path / "7.png").unlink()
    capsys.readouterr()
    assert check(source, "--format", "jsonl") == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == 30
    assert records[-1]["status"] == "missing" and records[-1]["id"].endswith("7.png")


def test_pictures_that_cannot_be_read_at_all_have_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    source = write_table(tmp_path / "t.csv", [("gone.png", "red"), ("broken.png", "blue")])
    assert check(str(source), "--format", "jsonl") == 1
    shown = capsys.readouterr()
    assert [json.loads(line)["status"] for line in shown.out.splitlines()] == ["missing", "unreadable"]
    assert "nothing to check" not in shown.err


def test_own_columns_are_kept_and_formulas_defused(tmp_path: Path) -> None:
    table(tmp_path)
    rows = [(f"{i}.png", f"={name} {i}", f"{i} EUR") for i, name in enumerate(list(COLOURS) * 10)]
    source = write_table(tmp_path / "t.csv", [*rows, ("gone.png", "red", "0 EUR")], ("image", "text", "price"))
    assert check(str(source), "--keep-columns", "--csv-safe", "-o", str(tmp_path / "o.csv")) == 1
    with open(tmp_path / "o.csv", newline="") as file:
        *found, gone = csv.DictReader(file)
    assert {(row["text"], row["input_text"], row["price"]) for row in found} == {
        (f"'{text}", f"'{text}", price) for _, text, price in rows
    }
    assert (gone["status"], gone["price"]) == ("missing", "0 EUR")
    assert check(str(source), "--keep-columns", "-o", str(tmp_path / "o.tsv")) == 1
    assert (tmp_path / "o.tsv").read_text().splitlines()[-1].endswith("\tred\t0 EUR")


def test_an_output_that_is_taken_is_refused_before_the_work(tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    (tmp_path / "o.csv").write_text("mine")
    assert check(table(tmp_path), "-o", str(tmp_path / "o.csv")) == 4
    assert check(table(tmp_path), "-o", str(tmp_path / "none" / "o.csv")) == 4
    assert check(table(tmp_path), "--format", "xml") == 2
    assert (tmp_path / "o.csv").read_text() == "mine" and fake_encoder.images_encoded == 0


def test_nothing_to_check_is_said(tmp_path: Path, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_table(tmp_path / "t.csv", [(str(path),) for path in colours.iterdir()], ("image",))
    assert check(str(source)) == 2
    assert "--text-col" in capsys.readouterr().err
    assert check(str(tmp_path / "none.csv")) in (1, 2)
