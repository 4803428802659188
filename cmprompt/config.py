"""Settings: a flag wins over `CMPROMPT_<FLAG>`, which wins over the TOML file; and where each value came from.

The file is `config.toml` in the user's configuration directory, or what CMPROMPT_CONFIG names. Its top level holds
for every command that has the flag, a table `[classify]` for that command alone; keys are the flags' long names.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cmprompt.errors import UsageError, unknown

PREFIX = "CMPROMPT_"
CONFIG_VARIABLE = "CMPROMPT_CONFIG"


@dataclass(frozen=True)
class Origin:
    """A value and where it came from: `CMPROMPT_MODEL`, or `config.toml [classify]`."""

    value: Any
    source: str


@dataclass(frozen=True)
class Settings:
    """What the environment and the TOML file say."""

    environment: Mapping[str, str]
    file: Mapping[str, Any]
    path: Path

    @staticmethod
    def load(environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment and the file. Raises UsageError where the file is not TOML or, if named, is missing."""
        path = config_path(environment)
        try:
            return Settings(environment, _dashes_off(tomllib.loads(path.read_text("utf-8"))), path)
        except FileNotFoundError:
            if CONFIG_VARIABLE in environment:
                raise UsageError(f"{CONFIG_VARIABLE} names {path}, which does not exist") from None
            return Settings(environment, {}, path)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise UsageError(f"cannot read the configuration {path}: {error}") from None

    def find(self, command: tuple[str, ...], flag: str, many: bool = False) -> Origin | None:
        """The value of `flag` (with underscores) for `command`, if anything sets it. `many`: one value a line."""
        variable = PREFIX + flag.upper()
        if text := self.environment.get(variable):  # an empty one sets nothing
            return Origin(text.splitlines() if many else text, variable)
        for source, table in self._tables(command):
            if flag in table and not isinstance(table[flag], dict):
                value = table[flag]
                return Origin([value] if many and not isinstance(value, list) else value, source)
        return None

    def default_map(self, command: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
        """Click's defaults for `command` (a group or a command) and all below it."""
        if not path:
            self._refuse_unknown_keys(command, self.file)
        if hasattr(command, "commands"):
            return {name: self.default_map(child, (*path, name)) for name, child in command.commands.items()}
        found = {p.name: self.find(path, setting(p), many=is_many(p)) for p in command.params if is_flag(p)}
        return {name: origin.value for name, origin in found.items() if origin is not None}

    def misspelt(self, command: Any) -> Iterator[str]:
        """A message for each variable that is nearly one of `command`'s or of those below it."""
        ours = sorted(name for name in self.environment if name.startswith(PREFIX))
        if not ours:
            return
        known = {CONFIG_VARIABLE, *(PREFIX + setting(flag).upper() for flag in every_flag(command))}
        for name in ours:
            if name not in known and (near := get_close_matches(name, known, n=1, cutoff=0.85)):
                yield f"the variable {name} sets nothing; did you mean {near[0]}?"

    def _tables(self, command: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for depth in range(len(command), 0, -1):
            table: Any = self.file
            for name in command[:depth]:
                table = table.get(name, {}) if isinstance(table, dict) else {}
            if isinstance(table, dict):
                yield self._section(command[:depth]), table
        yield self._section(), self.file

    def _section(self, command: tuple[str, ...] = ()) -> str:
        return f"{self.path} [{'.'.join(command)}]" if command else str(self.path)

    def _refuse_unknown_keys(self, command: Any, table: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
        """Values belong to flags of `command` or of those below it, tables to the commands right below it."""
        children = getattr(command, "commands", {})
        flags = {setting(parameter) for parameter in every_flag(command)}
        for key, value in table.items():
            kind, known = ("command", children) if isinstance(value, dict) else ("setting", flags)
            if key not in known:
                raise UsageError(f"{self._section(path)}: {unknown(kind, key, known)}")
            if isinstance(value, dict):
                self._refuse_unknown_keys(children[key], value, (*path, key))


def are_set(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a variable or a file of ours."""
    return any(name.startswith(PREFIX) for name in environment) or config_path(environment).exists()


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the TOML file is, or would be."""
    if CONFIG_VARIABLE in environment:
        return Path(environment[CONFIG_VARIABLE])
    from platformdirs import user_config_path

    return user_config_path("cmprompt", appauthor=False) / "config.toml"


def every_flag(command: Any) -> Iterator[Any]:
    """All options of `command` or, of a group, of the commands below it."""
    if not hasattr(command, "commands"):
        yield from (parameter for parameter in command.params if is_flag(parameter))
        return
    for child in command.commands.values():
        yield from every_flag(child)


def is_flag(parameter: Any) -> bool:
    """Options can be configured; arguments and --help cannot."""
    return bool(parameter.param_type_name == "option" and parameter.name != "help")


def setting(parameter: Any) -> str:
    """What an option is called here: its long name, with underscores."""
    option: str = next(name for name in parameter.opts if name.startswith("--"))
    return option.removeprefix("--").replace("-", "_")


def is_many(parameter: Any) -> bool:
    """Whether an option may be repeated."""
    return bool(parameter.multiple)


def _dashes_off(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.replace("-", "_"): _dashes_off(value) if isinstance(value, dict) else value for key, value in table.items()
    }
