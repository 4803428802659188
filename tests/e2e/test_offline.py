"""Nothing phones home: every command that needs no network, run in a process that ends where it opens a socket."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_SOCKETS, Cli
from typer.main import get_command

from cmprompt.cli.app import app

NETWORK = {"models pull"}  # what downloads, because it is asked to
LABELS = "cat,dog,horse,coffee,rocket,person,flower,building,sun"
# Each command with what it takes; what one makes is there for those after it.
LINES = {
    "examples": "{tmp}/again",
    "classify": "{photos} --labels " + LABELS + " --none --no-store",
    "finetune": "{pairs} --head concat --force -o {tmp}/pairs.head",
    "evaluate": "{pairs} --head {tmp}/pairs.head",
    "adapt": "{photos} --labels cat,coffee -o {tmp}/photos.head",
    "embed": "{photos} -o {tmp}/photos.npy",
    "check": "{table}",
    "explain": "{photos}/cat.png --labels cat,dog -o {tmp}/why.png",
    "index build": "{photos} --name offline",
    "index update": "--name offline",
    "index list": "",
    "index verify": "--name offline",
    "index duplicates": "--name offline",
    "search": "cat --name offline -o {tmp}/sheet.html",
    "index drop": "offline",
    "prompts list": "",
    "prompts show": "photo",
    "prompts lint": "--labels cat,dog --model tiny",
    "prompts ablate": "{table}",
    "models list": "",
    "models info": "tiny",
    "models verify": "",
    "models convert": "{tmp}/weights.pt",
    "store info": "",
    "store verify": "",
    "store prune": "--unused 90",
    "store clear": "--store {tmp}/store",
    "config show": "",
    "doctor": "",
}
RUN_ALL = """
from cmprompt.cli.app import run
for line in sys.argv[1:]:
    assert run(line.split("|")) == 0, line
"""


def every_command(group: Any, name: str = "") -> Iterator[str]:
    """The names of all commands, their groups' before them."""
    for own, command in group.commands.items():
        path = f"{name} {own}".strip()
        yield from every_command(command, path) if hasattr(command, "commands") else [path]


def watched(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", NO_SOCKETS + code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def test_no_command_is_left_out() -> None:
    assert set(LINES) | NETWORK == set(every_command(get_command(app)))


@pytest.mark.parametrize(
    "call", ["socket.getaddrinfo('localhost', 80)", "socket.create_connection(('127.0.0.1', 9))", "socket.socket()"]
)
def test_a_socket_ends_the_process(call: str) -> None:
    done = watched(f"import socket, threading; threading.Thread(target=lambda: {call}).start()")
    assert done.returncode == 99 and "opened a socket" in done.stderr


def test_no_offline_command_opens_one(cli: Cli, samples: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "store").mkdir()
    places = {"photos": samples / "photos", "table": samples / "photos.csv", "pairs": samples / "pairs.csv"}
    lines = [f"{name} {rest}".format(tmp=tmp_path, **places).split() for name, rest in LINES.items()]
    done = watched(RUN_ALL, *("|".join(words) for words in lines), env=cli.environment)
    assert done.returncode == 0, done.stderr
