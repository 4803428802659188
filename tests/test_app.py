"""The command line's frame: what it costs, what it says, what it promises to the shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmprompt import __version__
from cmprompt.cli.app import _program, app, run

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


@pytest.mark.parametrize("group", [[], ["index"], ["config"], ["models"]])
def test_without_a_command_the_help_is_the_error(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert run(group) == 2
    assert capsys.readouterr() == ("", shown)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "x", "--level", "0"], "--level 0: it must be at least 1"),
        (["classify", "x", "--limit", "-1"], "--limit -1: it must be at least 0"),
        (["classify", "x", "--level", "two"], "--level two: it must be a whole number"),
        (["classify", "x", "--level", "1.5"], "--level 1.5: it must be a whole number"),
        (["classify", "x", "--min-margin", "wide"], "--min-margin wide: it must be a number"),
        (["check", "x", "--fdr", "2"], "--fdr 2: it must be at most 1"),
        (["index", "duplicates", "--threshold", "2"], "--threshold 2: it must be at most 1"),
    ],
)
def test_a_number_that_cannot_be_is_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err == f"cmprompt: {said}\n"


def test_a_misspelt_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["clasify"]) == 2
    assert "classify" in capsys.readouterr().err


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert python(f"import cmprompt; {PRINT_HEAVY}").stderr.strip() == "[]"


def test_the_public_names_are_there() -> None:
    import cmprompt

    assert all(callable(getattr(cmprompt, name)) for name in cmprompt.__all__)


def test_a_command_by_itself_has_the_help_that_it_has_among_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("CMPROMPT_")]:
        monkeypatch.delenv(name)
    for arguments in (["classify", "--help"], ["index", "build", "--help"], ["index", "--help"], ["store"]):
        alone = run(arguments), capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setenv("CMPROMPT_TOP_K", "3")  # settings are matched with every command
            assert (run(arguments), capsys.readouterr()) == alone
    assert len(_program(["classify"]).registered_commands) == 1 and _program(["--help"]) is app


def test_the_program_does_not_wait_for_a_thread_that_is_still_at_work() -> None:
    code = (
        "import sys, threading, time; from cmprompt.cli.app import main\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "sys.argv = ['cmprompt', 'prompts', 'list']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "photo" in done.stdout


def test_what_was_to_be_done_at_exit_is_done() -> None:
    result = python(
        "import atexit, sys; from cmprompt.cli.app import main\n"
        "atexit.register(print, 'tidied', file=sys.stderr); sys.argv = ['cmprompt', '--version']; main()"
    )
    assert (result.returncode, result.stderr) == (0, "tidied\n")
