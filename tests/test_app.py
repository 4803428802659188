"""The command line's frame: what it costs, what it says, what it promises to the shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cmprompt import __version__
from cmprompt.cli.app import run

HEAVY = ("numpy", "PIL", "torch", "open_clip", "rich", "sklearn", "pyarrow")
PRINT_HEAVY = f"import sys; print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    result = python(f"from cmprompt.cli.app import run; run(['--help']); {PRINT_HEAVY}")
    assert result.stderr.strip() == "[]"
    assert "classify" in result.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"cmprompt {__version__}\n"


def test_a_misspelt_flag_is_one_line_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", "--lables", "cat"]) == 2
    error = capsys.readouterr().err
    assert "--labels" in error and error.count("\n") == 1


def test_a_misspelt_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["clasify"]) == 2
    assert "classify" in capsys.readouterr().err


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert python(f"import cmprompt; {PRINT_HEAVY}").stderr.strip() == "[]"


def test_the_public_names_are_there() -> None:
    import cmprompt

    assert all(callable(getattr(cmprompt, name)) for name in cmprompt.__all__)
