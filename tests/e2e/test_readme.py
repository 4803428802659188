"""The README's commands, as they stand there, on the samples that its first command writes."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Cli
from pasted import blocks, commands, paste

from cmprompt.cli.app import run

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SCRIPTS = [*blocks(README, "sh"), *blocks(README, "bash")]
# An installation downloads gigabytes, and what comes after it is there already; the checks would run this test again.
SKIPPED = ("python3 -m venv", ".venv/bin/pip install", ".venv-dev/bin/")


def steps(script: str) -> list[str]:
    """The commands of a block, without those that are skipped."""
    found = [step.strip() for line in script.splitlines() for step in line.split("&&")]
    return [step for step in found if step and not step.startswith(("#", *SKIPPED))]


@pytest.fixture
def room(cli: Cli, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the samples in `try`, as after the first command."""
    (tmp_path / "try").symlink_to(samples)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.chdir(tmp_path)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("command", commands(README))
def test_a_pasted_command_runs(command: str, room: Path) -> None:
    paste(command)


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_pasted_block_runs(script: str, room: Path) -> None:
    if not steps(script):
        pytest.skip("it installs, or runs the checks that run this")
    for step in steps(script):
        paste(step)


def test_no_block_is_of_a_kind_that_nothing_runs() -> None:
    kinds = set(re.findall(r"^```(\S+)$", README, re.MULTILINE))
    assert kinds <= {"sh", "bash", "console", "python", "toml"}


def test_the_python_lines_run(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("'") == 4  # two labels


def test_the_configuration_is_one(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(README, "toml")
    (room / "config.toml").write_text(block)
    monkeypatch.setenv("CMPROMPT_CONFIG", str(room / "config.toml"))
    assert tomllib.loads(block)["classify"]["none"] is True
    assert run(["config", "show"]) == 0


def test_the_first_two_shell_blocks_are_the_two_commands() -> None:
    first, second = blocks(README, "sh")[:2]
    assert first.startswith("python3 -m venv") and "cmprompt classify" in first
    assert "pytest" in second and "mypy" in second


def test_the_chinese_readme_has_the_same_blocks() -> None:
    chinese = (Path(__file__).parents[2] / "README.zh.md").read_text(encoding="utf-8")
    fenced = [re.findall(r"^```.*?^```", page, re.MULTILINE | re.DOTALL) for page in (README, chinese)]
    assert fenced[0] == fenced[1] and len(fenced[0]) > 10


@pytest.mark.parametrize(
    ("page", "words"),
    [("README.md", ("audio", "captions", "translating")), ("README.zh.md", ("音频", "图片说明", "翻译"))],
)
def test_both_say_what_this_does_not_do(page: str, words: tuple[str, ...]) -> None:
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert all(word in text for word in words)
