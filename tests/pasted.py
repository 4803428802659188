"""The commands of a page, as a reader would paste them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

from cmprompt.cli.app import run


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """The lines after a prompt sign, in order."""
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


def paste(command: str) -> None:
    """Run one command and expect status 0: cmprompt in this process, which has its libraries, else in a shell."""
    words = shlex.split(command, comments=True)
    if words[0] == "cmprompt" and not re.search("[|>]", command):
        assert run(words[1:]) == 0
        return
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], env=environment, check=True)
