"""Labels among which `classify` has nothing to decide, and an answer that could be a label, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmprompt.cli.app import run

ANIMALS = ["--labels", "animal/cat,animal/dog"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labels", "cat,dog", "--none", "--none-name", "cat"], "--none: its answer 'cat' could not be told"),
        (["--labels", "cat", "--label", "none of these", "--none"], "--none: its answer 'none of these'"),
        (
            [*ANIMALS, "--label", "oak", "--level", "1", "--none", "--none-name", "animal"],
            "--none: its answer 'animal'",
        ),
        (["--labels", "cat,dog", "--translate-labels", "{file}", "--none", "--none-name", "koira"], "'koira'"),
        ([*ANIMALS, "--level", "1"], "--level 1 leaves one label only, 'animal'"),
        ([*ANIMALS, "--level", "1", "--threshold", "0.5"], "--level 1 leaves one label only, 'animal'"),
        (["--describe", "{described}"], "one label only, 'cat'"),
    ],
)
def test_what_would_tell_nothing_is_refused(
    flags: list[str], message: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("cat: kissa\ndog: koira\n")
    (tmp_path / "cat.json").write_text('{"cat": ["a cat has whiskers"]}')
    flags = [flag.format(file=tmp_path / "names.txt", described=tmp_path / "cat.json") for flag in flags]
    assert run(["classify", str(colours), *flags, "--model", "tiny", "--no-store"]) == 2
    assert message in (printed := capsys.readouterr()).err and not printed.out


@pytest.mark.parametrize(
    "flags",
    [["--none"], ["--multi-label"], ["--threshold", "z:1.5"], ["--threshold", "cos:0.2"], ["--label", "oak"]],
)
def test_one_branch_is_enough_where_it_may_not_fit(flags: list[str], colours: Path) -> None:
    assert run(["classify", str(colours), *ANIMALS, "--level", "1", *flags, "--model", "tiny", "--no-store"]) == 0
