"""`--help` of every command: examples first, then every flag, each in one spelling wherever it is taken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from cmprompt.cli.app import app, run
from cmprompt.registry import head_kinds

INPUTS = "--files-from -0 --image-col --limit --all-files --allow-truncated"
TABLE = "--image-col --text-col --target-col --limit"
LABELS = "--labels --label --pool --prompts --template --language"
MODEL = "--model --device --precision --exact --batch-size --threads --accept-licence"
DECISION = "--multi-label --top-k --threshold --min-margin --none --no-none --none-name"
OUTPUT = "-o --output --format --overwrite --quiet"
STORE = "--store --no-store"
VIDEO = "--fps --frames"
WORDS = "--question --describe --translate-labels"
TAKES = {  # the command-line page: which command takes what
    "classify": f"{INPUTS} {TABLE} --dry-run {VIDEO} --timeline {LABELS} {WORDS} --level {MODEL} --head {DECISION} "
    f"{OUTPUT} --resume --header --keep-columns --csv-safe -v --timings --stdin-jsonl {STORE}",
    "finetune": f"{TABLE} --head --image-encoder --text-encoder --use --task --val --shots --seed --class-weight "
    f"--wise --augment --unfreeze --from --force --multi-label --loss --stop-words {LABELS} {MODEL} -o --output "
    f"--overwrite --quiet -v {STORE}",
    "evaluate": f"{TABLE} --head --task --multi-label --compare-prompts --tune-prompts --tune-thresholds --predictions "
    f"--plot --seed {LABELS} {WORDS} {MODEL} -o --output --overwrite --quiet -v {STORE}",
    "adapt": f"{INPUTS} {VIDEO} {LABELS} {MODEL} -o --output --overwrite --quiet -v {STORE}",
    "embed": f"{INPUTS} {TABLE} --dry-run --stdin-jsonl {VIDEO} {MODEL} -o --output --overwrite --quiet -v --timings "
    f"{STORE}",
    "check": f"{TABLE} --fdr --fail-on-flagged {MODEL} {OUTPUT} --header --keep-columns --csv-safe -v --timings "
    f"{STORE}",
    "explain": f"{LABELS} --level --head --text {MODEL} {OUTPUT} --header --csv-safe -v {STORE}",
    "search": f"--like --minus --in --name --ann --no-ann --top-k --device --precision --threads {OUTPUT} --header "
    "--csv-safe -v --timings --store",
    "index build": f"{INPUTS} --text-col --dry-run --stdin-jsonl {VIDEO} {MODEL} --name --ann --store --quiet -v "
    "--timings",
    "index update": "--name --device --precision --batch-size --threads --store --quiet -v",
    "index list": f"{OUTPUT} --csv-safe --store",
    "index duplicates": f"--name --threshold {OUTPUT} --csv-safe --store",
    "prompts lint": f"--labels --label --language --translate-labels {MODEL}",
    "prompts ablate": f"--image-col --target-col --limit --labels --label --prompts --template {MODEL} {OUTPUT} "
    f"--header --csv-safe -v --timings {STORE}",
    "models pull": "--accept-licence",
    "models convert": "-o --output --as --accept-licence",
    "store info": "--store",
}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its name, its group's before it."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        children = getattr(command, "commands", None)
        yield from ((f"{name} {child}", found) for child, found in children.items()) if children else [(name, command)]


COMMANDS = dict(commands())
every_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture
def page(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `--help` prints."""
    assert run([*name.split(), "--help"]) == 0
    return capsys.readouterr().out


def listed(page: str) -> set[str]:
    """The flags that have a line of their own."""
    lines = re.findall(r"^  (-.*?)(?:  |$)", page, re.MULTILINE)
    return {flag for line in lines for flag in re.findall(r"(?:^|(?<=[ ,/]))--?[A-Za-z0-9][\w-]*", line)}


def own_flags(name: str) -> set[str]:
    return {flag for option in COMMANDS[name].params for flag in (*option.opts, *option.secondary_opts) if "-" in flag}


@every_command
def test_examples_come_before_the_flags(name: str, page: str) -> None:
    first_section = re.search(r"^\w[\w ]*:$", page, re.MULTILINE)
    assert first_section and f"\n  cmprompt {name}" in page[: first_section.start()]


@pytest.mark.parametrize("group", ["", *sorted({name.partition(" ")[0] for name in COMMANDS if " " in name})])
def test_what_a_command_does_is_said_whole_in_its_groups_list(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*group.split(), "--help"]) == 0
    assert not [line for line in capsys.readouterr().out.splitlines() if re.search(r"\w\.\.\.$", line)]


@every_command
def test_the_usage_line_brackets_what_may_be_left_out(name: str, page: str) -> None:
    usage = re.search(rf"^Usage: cmprompt {name} \[OPTIONS\](.*)$", page, re.MULTILINE)
    assert usage and re.fullmatch(r"( [A-Z|]+| \[[A-Z|]+\](\.\.\.)?)*", usage[1]), usage


@every_command
def test_every_flag_has_a_line(name: str, page: str) -> None:
    assert own_flags(name) <= listed(page) | {"--help"}


@every_command
def test_every_flag_and_argument_is_described_with_its_default(name: str, page: str) -> None:
    words = " ".join(page.split())
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "option" and not parameter.is_flag and parameter.default not in (None, "", ()):
            assert f"{' '.join(parameter.help.split())} [default: {parameter.default}]" in words, parameter.name


@every_command
def test_examples_use_the_commands_own_flags(name: str, page: str) -> None:
    for line in re.findall(rf"^  (?:.*\| )?cmprompt ({name} [^|\n]*)", page, re.MULTILINE):
        used = {word for word in shlex.split(line, comments=True) if re.match("--?[a-z]", word)}
        assert used <= own_flags(name), line


def test_search_lists_hits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--help"]) == 0
    assert "How many hits to list." in capsys.readouterr().out


@pytest.mark.parametrize("name", TAKES)
def test_the_flags_of_the_command_line_page_are_there(name: str, page: str) -> None:
    assert set(TAKES[name].split()) <= listed(page)


def test_the_kinds_of_heads_are_those_that_are_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["finetune", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split()).partition("--head KIND ")[2].partition(" Default: concat")[0]
    words = set(re.findall(r"[a-z]+(?:-[a-z]+)*", said))
    assert set(head_kinds()) <= words and not words & {"linear-text", "image-raw", "concat-raw", "concat-raw-mlp"}
    assert run(["finetune", "nowhere.csv", "--head", "qqqqqq"]) == 2
    known = capsys.readouterr().err.strip().partition("known: ")[2]
    assert known.split(", ") == sorted(head_kinds())
