"""What every command promises to the shell: a model that does not fit, a second signal, no orphans, no stale lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli

from cmprompt.cli.app import run
from cmprompt.heads.io import save_head
from cmprompt.heads.linear import LinearHead

BUSY = """
import time
from cmprompt.signals import Interrupted, stop_signals
with stop_signals():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except Interrupted:
        print("stopping", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A head of a model that is not here."""
    head = LinearHead(np.eye(2, 8, dtype=np.float32), ("cat", "dog"), "another@0123-4567")
    save_head(head, tmp_path / "foreign.head")
    return tmp_path / "foreign.head"


@pytest.mark.parametrize("command", ["classify {}", "explain {}"])
def test_a_head_of_another_model_is_refused_before_an_image_is_read(
    command: str, foreign: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    unread = "/nowhere/at-all.jpg"
    line = [*command.format(unread).split(), "--head", str(foreign), "--model", model, "--no-store"]
    assert run(line) == 3
    out, error = capsys.readouterr()
    assert out == "" and "was fitted on another@0123-4567" in error and unread not in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in ("ready\n", "stopping\n"):
            assert process.stdout.readline() == line
            process.send_signal(number)
        asked_s = time.monotonic()
        assert process.wait(30) == -number and time.monotonic() - asked_s < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_process(cli: Cli, crowd: Path, tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "out.jsonl"
    line = ("classify", crowd, "--labels", "red,green", "--batch-size", 4, "--no-store", "-o", output)
    process = cli.start(*line, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out.jsonl.journal").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # the session's group is empty


def test_the_lock_of_a_run_that_was_killed_holds_nobody_back(cli: Cli, crowd: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    line = ("classify", crowd, "--labels", "red,green", "--no-store", "-o", output)
    process = cli.start(*line)
    lock, deadline = tmp_path / "out.jsonl.lock", time.monotonic() + 120
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert lock.exists() and not output.exists()
    assert cli(*line, "--overwrite").returncode == 0
    assert output.read_bytes().count(b"\n") == 300 and not lock.exists()


@pytest.mark.parametrize(
    "line", ["prompts show everyday", "prompts list", "models list", "config show", "doctor", "index list", "--help"]
)
def test_a_reader_that_has_left_already_ends_any_command_quietly(cli: Cli, line: str) -> None:
    process = cli.start(*line.split())
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        error = process.stderr.read()
    assert process.wait(60) == 0
    assert b"Traceback" not in error and b"Broken" not in error


@pytest.mark.parametrize("command", ["classify x.jpg --labels a,b -o {}.csv", "embed x.jpg -o {}.npy"])
def test_an_output_that_no_file_can_be_called_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command.format("a" * 300).split()) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("cmprompt: cannot write ") and "aaaa" in said and "File name too long" in said
