"""Flags, environment and file: which one wins, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from cmprompt.cli.app import app, run
from cmprompt.cli.help import GroupedCommand
from cmprompt.config import Origin, Settings, is_flag, setting
from cmprompt.errors import UsageError

ROOT = get_command(app)


def settings(tmp_path: Path, toml: str, **environment: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(toml)
    return Settings.load({"CMPROMPT_CONFIG": str(path), **environment})


def test_environment_goes_before_the_file(tmp_path: Path) -> None:
    origin = settings(tmp_path, 'model = "a"', CMPROMPT_MODEL="b").find(("classify",), "model")
    assert origin is not None and (origin.value, origin.source) == ("b", "CMPROMPT_MODEL")


def test_an_empty_variable_sets_nothing(tmp_path: Path) -> None:
    found = settings(tmp_path, 'model = "a"', CMPROMPT_MODEL="", CMPROMPT_STORE="")
    assert found.find(("classify",), "model") == Origin("a", str(tmp_path / "config.toml"))
    assert found.find(("classify",), "store") is None


def test_a_commands_own_table_goes_before_the_top_level(tmp_path: Path) -> None:
    found = settings(tmp_path, "top-k = 3\n[classify]\ntop-k = 7\n")
    assert found.find(("classify",), "top_k").value == 7  # type: ignore[union-attr]
    assert found.find(("embed",), "top_k").value == 3  # type: ignore[union-attr]


def test_defaults_reach_every_command_that_has_the_flag(tmp_path: Path) -> None:
    defaults = settings(tmp_path, 'model = "tiny"').default_map(ROOT)
    assert defaults["classify"]["model"] == defaults["embed"]["model"] == "tiny"


def options(command: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every option of every command, with the command's path."""
    for name, child in getattr(command, "commands", {}).items():
        yield from options(child, (*path, name))
    if path:
        yield from ((path, parameter) for parameter in command.params if is_flag(parameter))


@pytest.mark.parametrize("where", ["file", "table", "environment"])
def test_every_option_can_be_set_by_its_long_name(tmp_path: Path, where: str) -> None:
    for path, parameter in options():
        flag = next(name[2:] for name in parameter.opts if name.startswith("--"))
        toml = {"file": f'{flag} = "x"', "table": f'[{".".join(path)}]\n{flag} = "x"', "environment": ""}[where]
        variable = {f"CMPROMPT_{flag.upper().replace('-', '_')}": "x"} if where == "environment" else {}
        found: Any = settings(tmp_path, toml, **variable).default_map(ROOT)
        for name in path:
            found = found[name]
        assert found == {parameter.name: ["x"] if parameter.multiple else "x"}, (path, flag)


COMMANDS = sorted({path for path, _ in options()})
every_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def value_for(parameter: Any) -> Any:
    """Something that the option may be set to, other than its default."""
    kind = str(parameter.type_descriptor.annotation)
    if parameter.is_flag:
        return True
    if parameter.multiple:
        return ["x", "salt, pepper"]
    return 3 if "int" in kind else 0.5 if "float" in kind else "x"


def text_of(value: Any) -> str:
    """A value as the environment has it."""
    return "\n".join(value) if isinstance(value, list) else str(value).lower()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command was given; its work is left out."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(GroupedCommand, "invoke", lambda self, context: found.update(context.params))
    return found


@every_command
def test_every_option_is_taken_from_the_environment(
    path: tuple[str, ...], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {parameter.name: value_for(parameter) for where, parameter in options() if where == path}
    for where, parameter in options():
        if where == path:
            monkeypatch.setenv(f"CMPROMPT_{setting(parameter).upper()}", text_of(wanted[parameter.name]))
    assert run([*path, "argument"][: len(path) + takes_arguments(path)]) == 0
    assert {name: given[name] for name in wanted} == wanted


@every_command
def test_every_option_is_taken_from_the_file(
    path: tuple[str, ...], given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = {parameter.name: value_for(parameter) for where, parameter in options() if where == path}
    lines = [f"{setting(option)} = {json.dumps(wanted[option.name])}" for where, option in options() if where == path]
    (tmp_path / "config.toml").write_text("\n".join([f"[{'.'.join(path)}]", *lines]))
    monkeypatch.setenv("CMPROMPT_CONFIG", str(tmp_path / "config.toml"))
    assert run([*path, "argument"][: len(path) + takes_arguments(path)]) == 0
    assert {name: given[name] for name in wanted} == wanted


def takes_arguments(path: tuple[str, ...]) -> bool:
    """Whether the command has an argument."""
    command: Any = ROOT
    for name in path:
        command = command.commands[name]
    return any(parameter.param_type_name == "argument" for parameter in command.params)


@every_command
def test_where_each_value_came_from_is_shown(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [setting(parameter) for where, parameter in options() if where == path]
    monkeypatch.setenv("CMPROMPT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(
        "\n".join([f"[{'.'.join(path)}]", *(f'{name} = "a"' for name in names[1::2])])
    )
    for name in names[::2]:
        monkeypatch.setenv(f"CMPROMPT_{name.upper()}", "a")
    assert run(["config", "show", *path]) == 0
    shown = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[0] for line in shown] == [name.replace("_", "-") for name in names]
    section = f"{tmp_path}/config.toml [{'.'.join(path)}]"
    assert [line[2] for line in shown] == [
        section if place % 2 else f"CMPROMPT_{name.upper()}" for place, name in enumerate(names)
    ]


def test_a_group_has_no_settings_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "index"]) == 2
    assert "name one of its commands: build" in capsys.readouterr().err


def test_a_value_that_makes_no_sense_is_refused_with_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMPROMPT_LIMIT", "many")
    assert run(["classify", "a.jpg", "--labels", "cat,dog"]) == 2
    error = capsys.readouterr().err
    assert "--limit" in error and error.endswith("(from CMPROMPT_LIMIT)\n")
    assert run(["classify", "a.jpg", "--limit", "few", "--labels", "cat,dog"]) == 2
    assert "CMPROMPT" not in capsys.readouterr().err


def test_settings_are_shown_by_their_long_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMPROMPT_IN", "texts")
    assert run(["config", "show", "search"]) == 0
    assert "in\ttexts\tCMPROMPT_IN\n" in capsys.readouterr().out


def test_a_repeatable_flag_takes_one_value_a_line() -> None:
    origin = Settings({"CMPROMPT_LABEL": "salt, pepper\ncat"}, {}, Path("none")).find((), "label", many=True)
    assert origin is not None and origin.value == ["salt, pepper", "cat"]


def test_a_misspelt_key_is_refused_with_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lables.*did you mean labels"):
        settings(tmp_path, 'lables = "cat"').default_map(ROOT)


def test_a_misspelt_variable_is_named_and_anothers_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMPROMPT_MODLE", "tiny")
    monkeypatch.setenv("CMPROMPT_DATA", "somewhere")
    assert run(["config", "show"]) == 0
    error = capsys.readouterr().err
    assert error == "cmprompt: the variable CMPROMPT_MODLE sets nothing; did you mean CMPROMPT_MODEL?\n"


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[classify]\ntop-kk = 3", r"\[classify\]: unknown setting 'top_kk'; did you mean top_k"),
        ("[index.build]\nlimt = 3", r"\[index\.build\]: unknown setting 'limt'; did you mean limit"),
        ("[clasify]\nlimit = 3", "unknown command 'clasify'; did you mean classify"),
        ("[embed]\nlabels = 'cat'", r"\[embed\]: unknown setting 'labels'"),
        ("show-timings = true", "unknown setting 'show_timings'; did you mean timings"),
    ],
)
def test_unknown_keys_of_tables_are_refused(tmp_path: Path, toml: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        settings(tmp_path, toml).default_map(ROOT)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.toml"):
        settings(tmp_path, "model = ")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Settings.load({"CMPROMPT_CONFIG": str(tmp_path / "absent.toml")})


def test_a_flag_wins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CMPROMPT_TOP_K", "3")
    seen: list[str] = []
    small = typer.Typer()

    @small.callback()
    def configure(context: typer.Context) -> None:
        context.default_map = {"go": {"top_k": Settings.load().find(("go",), "top_k").value}}  # type: ignore[union-attr]

    @small.command()
    def go(top_k: str = "5") -> None:
        seen.append(top_k)

    small(["go"], standalone_mode=False)
    small(["go", "--top-k", "9"], standalone_mode=False)
    assert seen == ["3", "9"]
