"""The README's commands, as they stand there, on the samples that its first command writes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Cli

from cmprompt.cli.app import run

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def room(cli: Cli, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the samples in `try`, as after the first command."""
    (tmp_path / "try").symlink_to(samples)
    monkeypatch.chdir(tmp_path)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pasted_command_runs(command: str, room: Path) -> None:
    if shlex.split(command)[0] == "cmprompt" and not re.search("[|>]", command):
        assert run(shlex.split(command)[1:]) == 0
        return
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], env=environment, check=True)


def test_the_python_lines_run(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("'") == 4  # two labels


def test_the_configuration_is_one(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks("toml")
    (room / "config.toml").write_text(block)
    monkeypatch.setenv("CMPROMPT_CONFIG", str(room / "config.toml"))
    assert tomllib.loads(block)["classify"]["none"] is True
    assert run(["config", "show"]) == 0


def test_the_first_two_shell_blocks_are_the_two_commands() -> None:
    first, second = blocks("sh")
    assert first.startswith("python3 -m venv") and "cmprompt classify" in first
    assert "pytest" in second and "mypy" in second
