"""The pages of docs/: every command of a page, in its order, on the samples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Cli
from pasted import commands, paste

from cmprompt.prompts import prompt_set_names

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))


@pytest.fixture
def room(cli: Cli, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the samples in `try`."""
    (tmp_path / "try").symlink_to(samples)
    monkeypatch.chdir(tmp_path)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_runs_from_top_to_bottom(page: Path, room: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        paste(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_names_sets_that_are_there(page: Path) -> None:
    named = re.findall(r"--prompts ([\w-]+)", page.read_text(encoding="utf-8"))
    assert set(named) <= set(prompt_set_names())


def test_the_five_recipes_are_there() -> None:
    assert {"emotion", "sentiment", "fine-grained", "medical", "shopping"} <= {page.stem for page in PAGES}
