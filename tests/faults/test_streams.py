"""Standard streams that are closed, or in an encoding that cannot hold what is written."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from conftest import Cli, draw
from small_models import SMALL, save_model

from cmprompt.cli.app import run
from cmprompt.hub import write_manifest
from cmprompt.prompts import load_prompt_set


def shell(cli: Cli, line: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`line` in a shell, in which "$@" is the program with its arguments."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *cli.argv(*arguments)],
        capture_output=True, check=False, timeout=300, env={**cli.environment, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("line", ["--help", "prompts list", "config show", "classify --help"])
def test_a_closed_output_swallows_what_is_said(cli: Cli, line: str) -> None:
    done = shell(cli, '"$@" >&-', *line.split())
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("line", ['"$@" >&-', '"$@" 2>&-', '"$@" <&- >&- 2>&-'])
def test_a_run_with_closed_streams_does_its_work(cli: Cli, colours: Path, tmp_path: Path, line: str) -> None:
    output = tmp_path / "out.tsv"
    done = shell(cli, line, "classify", colours, "--labels", "red,green", "--model", "tiny", "-o", output)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert output.read_bytes().count(b"\n") == 3


def test_answers_come_where_nobody_reads_the_notices(cli: Cli, colours: Path) -> None:
    done = shell(cli, '"$@" 2>&-', "classify", colours, "--labels", "red,green", "--model", "tiny")
    assert done.returncode == 0 and done.stdout.count(b"\n") == 3


@pytest.mark.parametrize("source", [["-"], ["--files-from", "-"], ["--stdin-jsonl"]])
def test_a_closed_input_is_an_empty_one(cli: Cli, source: list[str]) -> None:
    done = shell(cli, '"$@" <&-', "classify", *source, "--labels", "red,green", "--model", "tiny")
    assert (done.returncode, done.stdout) == (0, b"") and b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_files_and_pipes_get_utf8(cli: Cli, encoding: str) -> None:
    done = shell(cli, '"$@"', "prompts", "show", "photo-zh", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == list(load_prompt_set("photo-zh").templates)


def test_a_dry_run_names_what_the_encoding_cannot(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "\U0001f600.jpg").touch()
    line = ("classify", tmp_path, "--labels", "red,green", "--model", "tiny", "--dry-run")
    done = shell(cli, '"$@"', *line, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and "\U0001f600.jpg\n".encode() in done.stdout


def test_a_terminal_is_shown_escapes_of_what_it_cannot_hold(cli: Cli) -> None:
    ours, theirs = pty.openpty()
    environment = {**cli.environment, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(cli.argv("prompts", "show", "photo-zh"), stdout=theirs, env=environment, check=False)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as shown:
        assert done.returncode == 0 and shown.read(1000).startswith(rb"\u4e00\u5f20{}")


def test_nobody_has_to_read_the_notices(cli: Cli, colours: Path, tmp_path: Path) -> None:
    output, line = tmp_path / "out.tsv", ("--labels", "red,green", "--model", "tiny", "-v")
    unread, notices = os.pipe()
    os.close(unread)
    with open(notices, "wb") as stderr:
        process = cli.start("classify", colours, tmp_path / "gone.jpg", *line, "-o", output, stderr=stderr)
    process.communicate(timeout=300)
    assert process.returncode == 1
    assert output.read_bytes().count(b"\n") == 4


TITLE = "\x1b]0;owned\x07"  # would name the terminal's window


def on_terminal(line: list[str]) -> str:
    """What a run shows where standard output is a terminal."""
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, redirect_stdout(terminal):
        assert run(line) == 0
        shown = os.read(ours, 1 << 12).decode()
    os.close(ours)
    return shown


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a picture, templates, a table and a model whose names hold an escape sequence."""
    draw().save(tmp_path / f"{TITLE}.png")
    (tmp_path / "set.txt").write_text(f"{TITLE} {{}}\n")
    (tmp_path / "table.csv").write_text(f'image,label\n"{TITLE}.jpg",red\n"a\ncmprompt: b.jpg",green\n')
    write_manifest(save_model(tmp_path / "model", SMALL), TITLE)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "prompts show {}/set.txt",
        "models info local-dir:{}/model",
        "classify {} --labels red,green --model tiny --dry-run",
    ],
)
def test_a_terminal_gets_the_escapes_of_what_would_move_its_cursor(hostile: Path, line: str) -> None:
    shown = on_terminal(line.format(hostile).split())
    assert "\x1b" not in shown and r"\x1b]0;owned\x07" in shown


def test_a_pipe_gets_what_is_there(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(hostile), "--labels", "red,green", "--model", "tiny", "--dry-run"]) == 0
    assert f"{TITLE}.png\n" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["finetune {}", "classify {} --labels red,green -v"])
def test_a_cell_does_not_speak_for_the_program(hostile: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    command = line.format(hostile / "table.csv").split()
    assert run([*command, "--model", "tiny", "--no-store"]) > 0
    said = capsys.readouterr().err
    assert r"\x1b]0;owned\x07.jpg" in said and "\x1b" not in said
    assert r"a\ncmprompt: b.jpg" in said
