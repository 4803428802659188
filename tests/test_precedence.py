"""A flag that is typed goes before a setting that refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.core import TyperCommand
from typer.main import get_command

from cmprompt.cli.app import app, run
from cmprompt.cli.precedence import EVERYWHERE, OWN
from cmprompt.heads.io import save_head
from cmprompt.heads.linear import LinearHead


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command's body was given; its work is left out."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, context: found.update(context.params))
    return found


@pytest.mark.parametrize(
    ("line", "setting", "value"),
    [
        ("classify a.jpg --head H", "labels", "cat,dog"),
        ("classify a.jpg --head H", "label", "cat"),
        ("classify a.jpg --labels cat,dog", "head", "H"),
        ("classify a.jpg --question what?", "describe", "d.json"),
        ("classify --stdin-jsonl", "format", "csv"),
        ("classify --stdin-jsonl", "output", "a.csv"),
        ("classify a.jpg", "stdin_jsonl", "true"),
        ("classify a.mp4 --timeline", "resume", "true"),
        ("classify a.jpg --language es", "prompts", "photo"),
        ("embed a.mp4 --frames 3", "fps", "2"),
        ("index build a.mp4 --fps 3", "frames", "2"),
        ("explain a.jpg --head H", "output", "a.png"),
        ("explain a.jpg --labels cat,dog", "head", "H"),
    ],
)
def test_a_setting_gives_way(
    line: str, setting: str, value: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(line.split()) == 0
    without = dict(given)
    monkeypatch.setenv(f"CMPROMPT_{setting.upper()}", value)
    assert run(line.split()) == 0
    assert given == without


@pytest.mark.parametrize(
    ("line", "setting", "value"),
    [
        ("classify a.jpg", "labels", "cat,dog"),
        ("classify a.mp4", "fps", "2.0"),
        ("classify a.mp4 --fps 3", "format", "csv"),
        ("evaluate t.csv --head H", "labels", "cat,dog"),
        ("finetune t.csv --head linear", "labels", "cat,dog"),
    ],
)
def test_a_setting_that_goes_with_the_line_holds(
    line: str, setting: str, value: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CMPROMPT_{setting.upper()}", value)
    assert run(line.split()) == 0
    assert given[setting] in (value, [value], float(value) if setting == "fps" else None)


@pytest.mark.parametrize(
    ("line", "environment"),
    [
        ("classify a.jpg --head H --labels cat,dog", {}),
        ("classify a.mp4 --labels a,b --fps 1 --frames 2", {}),
        ("classify a.jpg", {"CMPROMPT_HEAD": "H", "CMPROMPT_LABELS": "cat,dog"}),
        ("classify --stdin-jsonl --labels a,b --format csv", {}),
    ],
)
def test_two_that_were_typed_and_two_that_were_set_are_refused(
    line: str,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_head(LinearHead(np.eye(2, 8, dtype=np.float32), ("cat", "dog"), "m@0"), tmp_path / "H")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(line.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_name_is_a_parameter() -> None:
    def parameters(command: Any) -> set[str]:
        if hasattr(command, "commands"):
            return set().union(*map(parameters, command.commands.values()))
        return {str(each.name) for each in command.params}

    def named(pairs: Any) -> set[str]:
        return {name for pair in pairs for names in pair for name in names}

    root: Any = get_command(app)
    assert named(EVERYWHERE) <= parameters(root)
    assert all(named(pairs) <= parameters(root.commands[command]) for command, pairs in OWN.items())
