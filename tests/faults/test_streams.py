"""Standard streams that are closed, or in an encoding that cannot hold what is written."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from conftest import Cli

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
