"""Flags of `cmprompt evaluate` that nothing would come of are refused by name, before anything is read."""

from __future__ import annotations

import pytest

from cmprompt.cli.app import run

RETRIEVAL, ALIGNMENT, NUMBERS = (["--task", task] for task in ("retrieval", "alignment", "regression"))
PROMPTS, LIMITS = ["--tune-prompts"], ["--tune-thresholds"]
HEAD = ["--head", "some.head"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([*RETRIEVAL, *HEAD], "--head"),
        ([*RETRIEVAL, "--predictions", "x.csv"], "--predictions"),
        ([*RETRIEVAL, "--compare-prompts", "a,b"], "--compare-prompts"),
        ([*RETRIEVAL, "--labels", "a,b"], "--labels"),
        ([*RETRIEVAL, "--template", "a {}"], "--template"),
        ([*RETRIEVAL, "--pool", "max"], "--pool"),
        ([*RETRIEVAL, "--describe", "d.json"], "--describe"),
        ([*RETRIEVAL, "--translate-labels", "d.txt"], "--translate-labels"),
        ([*RETRIEVAL, "--multi-label"], "--multi-label"),
        ([*ALIGNMENT, *HEAD], "--head"),
        ([*ALIGNMENT, "--predictions", "x.csv"], "--predictions"),
        ([*ALIGNMENT, "--threshold", "0.5"], "--threshold"),
        ([*NUMBERS, *HEAD, "--labels", "a,b"], "--labels"),
        ([*NUMBERS, *HEAD, "--prompts", "photo"], "--prompts"),
        ([*NUMBERS, *HEAD, "--level", "1"], "--level"),
        ([*PROMPTS, "--predictions", "x.csv"], "--predictions"),
        ([*PROMPTS, "--describe", "d.json"], "--describe"),
        ([*PROMPTS, "--multi-label"], "--multi-label"),
        ([*LIMITS, "--compare-prompts", "a,b"], "--compare-prompts"),
        ([*LIMITS, "--pool", "scores"], "--pool"),
        ([*LIMITS, *HEAD], "--head"),
        ([*RETRIEVAL, *LIMITS], "--tune-thresholds"),
        (["--compare-prompts", "a,b", "--prompts", "photo"], "--prompts"),
        (["--question", "What is it?", "--describe", "d.json"], "--describe"),
        ([*HEAD, "--pool", "max"], "--pool"),
        ([*HEAD, "--template", "a {}"], "--template"),
        (["--plot", "x.svg"], "--plot"),
        (["--top-k", "3"], "--top-k"),
        (["--csv-safe"], "--csv-safe"),
        (["--none-name", "other"], "--none-name"),
        (["--multi-label", "--none"], "--none"),
    ],
)
def test_what_would_be_ignored_is_refused(flags: list[str], named: str, capsys) -> None:
    assert run(["evaluate", "nowhere.csv", *flags]) == 2
    said = capsys.readouterr().err
    assert f"makes no use of {named}" in said.replace("-o/", "") and said.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        [*LIMITS, "--multi-label", "-o", "x.json"],
        [*PROMPTS, "--pool", "mean", "--prompts", "photo"],
        [*ALIGNMENT, "--plot", "x.svg", "--describe", "d.json"],
        ["--none", "--none-name", "other", "--predictions", "x.csv", "--top-k", "3", "--csv-safe"],
        ["--compare-prompts", "a,b", "--template", "a {}"],
        ["-o", "x.json"],
        [*RETRIEVAL, "-o", "x.json"],
    ],
)
def test_what_goes_together_is_taken(flags: list[str], capsys) -> None:
    assert run(["evaluate", "nowhere.csv", *flags]) == 2
    assert "no such table" in capsys.readouterr().err


def test_a_setting_for_all_runs_may_lie_idle(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMPROMPT_PROMPTS", "photo")
    assert run(["evaluate", "nowhere.csv", *RETRIEVAL]) == 2
    assert "no such table" in capsys.readouterr().err
