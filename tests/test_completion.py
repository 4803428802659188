"""Shell completion: scripts for three shells, and what they are answered, without anything heavy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache

import pytest

from cmprompt.encoders import RECOMMENDED
from cmprompt.prompts import prompt_set_names
from cmprompt.registry import WRITERS, head_kinds

HEAVY = ("numpy", "PIL", "torch", "open_clip", "huggingface_hub", "rich", "pyarrow", "sklearn", "openvino")
ASK = f"""
import contextlib, io, json, os, sys
from cmprompt.cli.app import run
answers = []
for line in sys.argv[1:]:
    words = line.split(" ")
    os.environ |= {{"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_CMPROMPT_COMPLETE": "complete_bash"}}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        run([])
    answers.append(out.getvalue().split())
print(json.dumps([answers, [name for name in {HEAVY} if name in sys.modules]]))
"""
LINES = (
    "cmprompt cl",
    "cmprompt index ",
    "cmprompt classify --lab",
    "cmprompt classify --format ",
    "cmprompt classify --precision b",
    "cmprompt classify --device ",
    "cmprompt classify --prompts ",
    "cmprompt classify --labels cat,dog --model ",
    "cmprompt finetune --head ",
    "cmprompt finetune --head tip",
    "cmprompt finetune --task ",
    "cmprompt prompts show ever",
    "cmprompt models info ti",
)


def ask(*arguments: str, **environment: str) -> str:
    """What a shell is told."""
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert result.stderr == "", result.stderr
    return result.stdout


@cache
def answers() -> tuple[dict[str, list[str]], list[str]]:
    """The answer to each of LINES by one process, and the heavy modules that it has imported."""
    found, heavy = json.loads(ask("-c", ASK, *LINES))
    return dict(zip(LINES, found, strict=True)), heavy


def answer(line: str) -> list[str]:
    return answers()[0][line]


def test_commands_and_their_own_commands() -> None:
    assert answer("cmprompt cl") == ["classify"]
    assert {"build", "update", "list", "verify", "duplicates", "drop"} == set(answer("cmprompt index "))


def test_options() -> None:
    assert answer("cmprompt classify --lab") == ["--labels", "--label"]


def test_what_an_option_takes() -> None:
    assert answer("cmprompt classify --format ") == list(WRITERS)
    assert answer("cmprompt classify --precision b") == ["bf16"]
    assert answer("cmprompt classify --device ") == ["auto", "cpu", "cuda", "mps"]
    assert {"classification", "regression"} <= set(answer("cmprompt finetune --task "))
    assert answer("cmprompt finetune --head tip") == ["tip-adapter", "tip-adapter-f"]
    assert answer("cmprompt finetune --head ") == head_kinds()


def test_prompt_sets_and_models() -> None:
    assert answer("cmprompt classify --prompts ") == prompt_set_names()
    assert {"auto", "tiny", RECOMMENDED} <= set(answer("cmprompt classify --labels cat,dog --model "))
    assert answer("cmprompt prompts show ever") == ["everyday"]
    assert answer("cmprompt models info ti") == ["tiny"]


def test_nothing_heavy_is_imported() -> None:
    assert answers()[1] == []


@pytest.mark.parametrize(
    ("shell", "says"), [("bash", "complete -o"), ("zsh", "#compdef cmprompt"), ("fish", "complete")]
)
def test_the_script_of_a_shell(shell: str, says: str) -> None:
    script = ask("-m", "cmprompt", _CMPROMPT_COMPLETE=f"source_{shell}")
    assert says in script and f"complete_{shell}" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)


def test_zsh_and_fish_are_answered_too() -> None:
    line = {"_TYPER_COMPLETE_ARGS": "cmprompt classify --format j"}
    assert "jsonl" in ask("-m", "cmprompt", _CMPROMPT_COMPLETE="complete_zsh", **line)
    fish = {**line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert ask("-m", "cmprompt", _CMPROMPT_COMPLETE="complete_fish", **fish).split() == ["jsonl"]
