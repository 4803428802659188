"""The commands of a page, pasted as a reader would paste them, and what they print.

`python tests/pasted.py README.md README.zh.md` runs them in a folder of its own and writes what they print into both.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from cmprompt.cli.app import run

# Of the terminal that a page shows, and arithmetic that every processor has.
SETTINGS = {"COLUMNS": "100", "CMPROMPT_PRECISION": "fp32"}
HOME = "/home/you"  # what a page calls the folder where commands are run
LEFT_OUT = "…"  # a line of its own, for lines that a page leaves out
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
BAR = re.compile("[█▏▎▍▌▋▊▉]+")
NUMBER = re.compile(r"\d+(?:\.\d+)?%?")
# What these print is another on each machine: only the first word of a line is compared.
OF_THE_MACHINE = ("cmprompt doctor", "cmprompt models info", "cmprompt store info", "cmprompt config show")


class Terminal(io.BytesIO):
    """Takes bytes as a terminal would."""

    def isatty(self) -> bool:
        return True


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for kind, body in BLOCK.findall(page) if kind == language]


def sessions(block: str) -> list[tuple[str, list[str]]]:
    """The lines after a prompt sign, in order, each with the lines below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found


def commands(page: str) -> list[str]:
    """The lines after a prompt sign of all blocks, in order."""
    return [command for block in blocks(page, "console") for command, _ in sessions(block)]


def paste(command: str) -> str:
    """Run one command, expect status 0, and return what it prints: cmprompt in this process, else in a shell."""
    words = shlex.split(command, comments=True)
    if words[0] == "cmprompt" and not re.search("[|>]", command):
        terminal = Terminal()
        stream = io.TextIOWrapper(terminal, encoding="utf-8", write_through=True)
        with redirect_stdout(stream):
            assert run(words[1:]) == 0
        printed = terminal.getvalue()
    else:
        scripts = os.path.dirname(sys.executable)
        environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        shell = ["bash", "-euo", "pipefail", "-c", command]
        printed = subprocess.run(shell, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return ESCAPE.sub("", printed.decode()).replace(os.getcwd(), HOME)


def as_shown(command: str, shown: Sequence[str], printed: str) -> bool:
    """Whether the lines of a page are what was printed, but for spaces, bars and the last digits of a score."""
    lines = chosen(shown, printed.splitlines())
    if command.startswith(OF_THE_MACHINE):
        return [line.split()[:1] for line in shown] == [line.split()[:1] for line in lines]
    return len(lines) == len(shown) and all(map(alike, shown, lines))


def chosen(shown: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Those of the printed `lines` that a page shows: all, or as many as stand above and below LEFT_OUT."""
    if LEFT_OUT not in shown:
        return list(lines)
    above = shown.index(LEFT_OUT)
    below = len(shown) - above - 1
    return [*lines[:above], LEFT_OUT, *lines[len(lines) - below :]]


def alike(a: str, b: str) -> bool:
    """Whether two lines differ at most by spaces, bars, and little in scores: processors round differently."""
    words = [" ".join(BAR.sub(" ", line).split()) for line in (a, b)]
    if NUMBER.sub("#", words[0]) != NUMBER.sub("#", words[1]):
        return False
    pairs = zip(NUMBER.findall(words[0]), NUMBER.findall(words[1]), strict=True)
    return all(close(x, y, in_percent="±" in words[0]) for x, y in pairs)


def close(a: str, b: str, *, in_percent: bool = False) -> bool:
    """Percentages within 2 points, fractions within 0.02 or 2 %, whole numbers the same."""
    if "." not in a + b and not a.endswith("%"):
        return a == b
    x, y = (float(each.rstrip("%")) for each in (a, b))
    return abs(x - y) <= (2.0 if in_percent or a.endswith("%") else 0.02 * max(1.0, abs(x)))


def renewed(page: str, known: dict[str, str]) -> str:
    """The page with every output that it shows printed anew. `known` holds the output of each command that was run."""

    def block(match: re.Match[str]) -> str:
        if match[1] != "console":
            return match[0]
        lines: list[str] = []
        for command, shown in sessions(match[2]):
            if command not in known:
                known[command] = paste(command)
            printed = [line.rstrip() for line in known[command].splitlines()]
            lines += [f"$ {command}", *(chosen(shown, printed) if shown else [])]
        return "\n".join(["```console", *lines, "```"])

    return BLOCK.sub(block, page)


def main(names: Sequence[str]) -> None:
    """Renew the pages, in a folder with the samples and with a cache of its own."""
    pages, known = [Path(name).resolve() for name in names], dict[str, str]()
    with tempfile.TemporaryDirectory() as room:
        os.environ.update(SETTINGS, XDG_CACHE_HOME=f"{room}/cache")
        os.chdir(room)
        run(["examples", "try"])
        for page in pages:
            page.write_text(renewed(page.read_text(encoding="utf-8"), known), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
