"""Flags of `cmprompt classify` that nothing would come of are refused by name, before anything is read."""

from __future__ import annotations

import numpy as np
import pytest

from cmprompt.cli.app import run
from cmprompt.heads.io import save_head
from cmprompt.heads.linear import LinearHead

LINE = ["classify", "nowhere.jpg", "--model", "tiny"]
LABELS, HEAD, NUMBERS = ["--labels", "cat,dog"], ["--head", "H"], ["--head", "price"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds two heads of another model, of labels and of numbers."""
    monkeypatch.chdir(tmp_path)
    save_head(LinearHead(np.eye(2, 8, dtype=np.float32), ("a/cat", "a/dog"), "another@0"), tmp_path / "H")
    save_head(LinearHead(np.eye(1, 8, dtype=np.float32), (), "another@0"), tmp_path / "price")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([*LABELS, "--resume"], "--resume"),
        ([*LABELS, "--overwrite"], "--overwrite"),
        ([*LABELS, "--none-name", "other"], "--none-name"),
        ([*HEAD, "--prompts", "photo"], "--prompts"),
        ([*HEAD, "--template", "a {}"], "--template"),
        ([*HEAD, "--pool", "max"], "--pool"),
        ([*HEAD, "--language", "es"], "--language"),
        ([*LABELS, "--prompts", "photo", "--language", "es"], "--language"),
        ([*LABELS, "--template", "a {}", "--language", "es"], "--language"),
        ([*LABELS, "--csv-safe"], "--csv-safe"),
        ([*LABELS, "--csv-safe", "-o", "x.jsonl"], "--csv-safe"),
        ([*LABELS, "--header", "--format", "table"], "--header"),
        ([*NUMBERS, "--threshold", "0.5"], "--threshold"),
        ([*NUMBERS, "--min-margin", "0.2"], "--min-margin"),
        ([*NUMBERS, "--multi-label"], "--multi-label"),
        ([*NUMBERS, "--top-k", "2"], "--top-k"),
        ([*NUMBERS, "--level", "1"], "--level"),
        ([*NUMBERS, "--translate-labels", "de.txt"], "--translate-labels"),
        ([*NUMBERS, "--none", "--none-name", "other"], "--none, --none-name"),
    ],
)
def test_what_would_be_ignored_is_refused(flags: list[str], named: str, capsys) -> None:
    assert run([*LINE, *flags]) == 2
    said = capsys.readouterr().err
    assert f"makes no use of {named}" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ([*LABELS, "--resume", "-o", "x.jsonl"], 1),
        ([*LABELS, "--overwrite", "--csv-safe", "--header", "-o", "x.csv"], 1),
        ([*LABELS, "--none", "--none-name", "other", "--header"], 1),
        ([*LABELS, "--language", "es"], 1),
        ([*HEAD, "--level", "1", "--multi-label", "--threshold", "0.3"], 3),
    ],
)
def test_what_goes_together_is_taken(flags: list[str], status: int, capsys) -> None:
    assert run([*LINE, *flags]) == status  # no such picture; another model's head
    assert "makes no use" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "flags", "status"),
    [
        ("OVERWRITE", "true", LABELS, 1),
        ("RESUME", "true", LABELS, 1),
        ("NONE_NAME", "other", LABELS, 1),
        ("CSV_SAFE", "true", LABELS, 1),
        ("HEADER", "true", [*LABELS, "--format", "table"], 1),
        ("LANGUAGE", "es", [*LABELS, "--prompts", "photo"], 1),
        ("PROMPTS", "photo", HEAD, 3),
    ],
)
def test_a_setting_for_all_runs_may_lie_idle(
    name: str, value: str, flags: list[str], status: int, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CMPROMPT_{name}", value)
    assert run([*LINE, *flags]) == status
    assert "makes no use" not in capsys.readouterr().err


def test_an_output_that_is_there_already_costs_no_work(tmp_path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there.csv").write_text("kept")

    def load(*anything: object, **more: object) -> None:
        raise AssertionError("a model was asked for")

    monkeypatch.setattr("cmprompt.encoders.load_encoder", load)
    assert run([*LINE, *LABELS, "-o", "there.csv"]) == 4
    assert run([*LINE, *LABELS, "-o", "nowhere/there.csv"]) == 4
    said = capsys.readouterr().err.splitlines()
    assert "is there already; --overwrite" in said[0] and "no folder" in said[1]
    assert (tmp_path / "there.csv").read_text() == "kept"


def test_a_store_without_a_name_is_refused(tmp_path, capsys) -> None:
    assert run([*LINE, *LABELS, "--store", ""]) == 2
    assert "--store ''" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"H", "price"}
