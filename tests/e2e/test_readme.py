"""The README's commands, as they stand there, on the samples that its first command writes."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli
from pasted import LEFT_OUT, SETTINGS, as_shown, blocks, chosen, paste, sessions
from PIL import Image

from cmprompt.cli.app import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SESSIONS = [session for block in blocks(README, "console") for session in sessions(block)]
SCRIPTS = [*blocks(README, "sh"), *blocks(README, "bash")]
# An installation downloads gigabytes, and what comes after it is there already; the checks would run this test again.
SKIPPED = ("python3 -m venv", ".venv/bin/pip install", ".venv-dev/bin/", "pip install")
LARGEST_PICTURE = 60_000  # bytes


def steps(script: str) -> list[str]:
    """The commands of a block, without those that are skipped."""
    found = [step.strip() for line in script.splitlines() for step in line.split("&&")]
    return [step for step in found if step and not step.startswith(("#", *SKIPPED))]


@pytest.fixture(scope="module")
def room(cli: Cli, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the samples in `try`, as after the first command; what one command writes, the next one finds."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "try").symlink_to(samples)
    (folder / ".venv").symlink_to(sys.prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {**cli.environment, **SETTINGS}.items():
            patch.setenv(name, value)
        yield folder


@pytest.mark.parametrize(("command", "shown"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_a_pasted_command_runs_and_prints_what_stands_below_it(command: str, shown: list[str], room: Path) -> None:
    printed = paste(command)
    assert not shown or as_shown(command, shown, printed), f"not as README.md shows it:\n{printed}"


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_pasted_block_runs(script: str, room: Path) -> None:
    if not steps(script):
        pytest.skip("it installs, or runs the checks that run this")
    for step in steps(script):
        paste(step)


def test_no_block_is_of_a_kind_that_nothing_runs() -> None:
    kinds = set(re.findall(r"^```(\S+)$", README, re.MULTILINE))
    assert kinds <= {"sh", "bash", "console", "python", "toml"}


def test_the_python_lines_run(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"# (\[.+)$", README, re.MULTILINE)


def test_the_configuration_is_one(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(README, "toml")
    (room / "config.toml").write_text(block)
    monkeypatch.setenv("CMPROMPT_CONFIG", str(room / "config.toml"))
    assert tomllib.loads(block)["classify"]["none"] is True
    assert run(["config", "show"]) == 0


def test_every_command_is_shown() -> None:
    names = {command.split()[1] for command, _ in SESSIONS if command.startswith("cmprompt ")}
    assert names >= {"classify", "finetune", "evaluate", "adapt", "embed", "index", "search", "check", "explain"}
    assert names >= {"prompts", "models", "store", "doctor"}


def test_what_a_page_shows_may_differ_in_last_digits_only() -> None:
    page = ["a.png  cat  91.6% ████", "b.png  dog  0.1234"]
    assert as_shown("x", page, "a.png  cat  92.4% ████▏\nb.png  dog   0.1239\n")
    assert not as_shown("x", page, "a.png  dog  91.6% ████\nb.png  dog  0.1234\n")
    assert not as_shown("x", page, "a.png  cat  71.6% ███\nb.png  dog  0.1234\n")
    assert not as_shown("x", page, "a.png  cat  91.6% ████\n")
    assert as_shown("x", ["text only  17.3 ±6.1"], "text only  19.1 ±6.7\n")
    assert not as_shown("x", ["text only  17.3 ±6.1"], "text only  20.1 ±6.7\n")
    assert chosen(["a", LEFT_OUT, "d"], ["a", "b", "c", "d"]) == ["a", LEFT_OUT, "d"]


def test_the_pictures_are_there_and_small() -> None:
    names = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert len(names) >= 4
    for name in names:
        assert 0 < (ROOT / name).stat().st_size < LARGEST_PICTURE
        if not name.endswith(".svg"):
            with Image.open(ROOT / name) as picture:
                picture.verify()


def test_the_first_two_shell_blocks_are_the_two_commands() -> None:
    first, second = blocks(README, "sh")[:2]
    assert first.startswith("python3 -m venv") and "cmprompt classify" in first
    assert "pytest" in second and "mypy" in second


def test_the_chinese_readme_has_the_same_blocks() -> None:
    chinese = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    fenced = [re.findall(r"^```.*?^```", page, re.MULTILINE | re.DOTALL) for page in (README, chinese)]
    assert fenced[0] == fenced[1] and len(fenced[0]) > 10


@pytest.mark.parametrize(
    ("page", "words"),
    [("README.md", ("audio", "captions", "translating")), ("README.zh.md", ("音频", "图片说明", "翻译"))],
)
def test_both_say_what_this_does_not_do(page: str, words: tuple[str, ...]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert all(word in text for word in words)
